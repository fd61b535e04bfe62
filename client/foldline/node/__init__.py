"""The node agent: takes assignments from the server over a held request and executes them, each under a supervising process.

agent (the loop) · attempt (one attempt from assignment to `ended`) · supervise (the small process over a script) · sandbox ·
environments · snapshot · spool (measurements to the server) · outputs · surroundings · system_metrics · http · main.
"""

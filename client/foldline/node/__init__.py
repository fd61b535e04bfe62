"""The node agent: takes assignments from the server over a held request and executes them, each under a supervising process.

agent (the loop) · attempt (one attempt to its end) · preparation (what it needs) · sources, spool, points (what grows, to the server) ·
outputs, beneath (what it leaves) · reports, verdict (what is told) · folder, settings, journal · supervise, launcher (the process over a
script) · sandbox, cgroups, package (its fence) · environments, interpreters, hardlinks · snapshot · surroundings · system_metrics · watch
(inotify) · http · main (the process, `join`, `end`).
"""

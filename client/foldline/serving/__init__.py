"""The scoring worker: what a deployment's own Python runs beside `init()` and `run(raw_data)`.

Needs the standard library, httptools and uvloop (`REQUIREMENTS`), and nothing else of Foldline.

    worker      the process: loads the script, opens the Unix socket, drains on SIGTERM
    script      the user's scoring script: `init()` and `run()`
    service     takes requests in, calls `run()` where it belongs, keeps the limits
    connection  HTTP/1.1 on one connection
    answers     results and problems as bytes
"""

REQUIREMENTS = ("httptools>=0.6,<1", "uvloop>=0.19,<1")
"""In an environment of their own, last on the worker's import path: versions that the deployment's own environment has win."""

"""`make up` and `make down`: a server in the background."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import server_process


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["start", "stop"])
    parser.add_argument("--log", choices=["postgres", "kafka"], default="postgres")
    arguments = parser.parse_args()
    if arguments.verb == "stop":
        return _stop()
    data = server_process.data_folder(arguments.log)
    server = server_process.running(data) or server_process.start(arguments.log, data)
    print(f"The server runs at {server.url} (process {server.pid}, data in {data}, its log in {data / 'server.log'}).")
    print(f"Log in:  .venv/bin/foldline login {server.url} --token-file {server.token_file}")
    print(f"API docs: {server.url}/api/v1/docs.  Stop it with `make down`.")
    return 0


def _stop() -> int:
    stopped = 0
    for log in ("postgres", "kafka"):
        data = server_process.data_folder(log)
        server = server_process.running(data)
        if server is not None:
            server_process.down(server)
            print(f"Stopped the server on {data}; the data stay.")
            stopped += 1
    if not stopped:
        print("No server runs.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

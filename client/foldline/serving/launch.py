"""Gives a command its environment from a file, inside the sandbox: `launch.py FILE COMMAND...`, FILE holds NUL-separated NAME=VALUE.

So nothing that a user sets (LD_PRELOAD, say) is there while bubblewrap and setpriv still run as root. Imports nothing but os and sys.
"""

import os
import sys


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
    os.execve(sys.argv[2], sys.argv[2:], {name: value for name, _, value in pairs})  # noqa: S606  # that is its purpose


if __name__ == "__main__":
    main()

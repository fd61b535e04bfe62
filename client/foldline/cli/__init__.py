"""The command `foldline`: nouns and verbs of the Azure ML CLI v2. One file a noun, imported only when it is used.

Map: app (nouns, errors, exit codes), options (what every verb takes), session (the open client), output (json, table, tsv, yaml),
progress (bars), stream (a run followed in the terminal), waiting (deployments), then one file a noun.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the command."""
    if sys.argv[1:] == ["--version"]:
        from foldline import __version__

        print(__version__)
        return
    from foldline.cli.app import run

    sys.exit(run(sys.argv[1:]))

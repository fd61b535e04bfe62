"""The last position that each scope's writes reached, so that a read always sees one's own writes.

A scope is a workspace's name, or "" for what lies outside workspaces. The Python client keeps positions in memory, the command line in
a file beside its configuration between its calls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

from foldline.configuration import read_private, write_private
from foldline.problems import BadInput

SCOPES_MAX = 64


class Positions(Protocol):
    """Where tokens are kept. Losing one costs nothing but the promise of reading one's own last write."""

    def last(self, scope: str) -> str | None:
        """The token to send with a read of `scope`."""

    def keep(self, scope: str, token: str) -> None:
        """A write of `scope` answered with `token`."""

    def forget(self) -> None:
        """The server does not know these tokens: its log is another one."""


class InMemory:
    """Positions of this process."""

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}

    def last(self, scope: str) -> str | None:
        return self._tokens.get(scope) or next(reversed(self._tokens.values()), None)

    def keep(self, scope: str, token: str) -> None:
        self._tokens.pop(scope, None)
        self._tokens[scope] = token
        while len(self._tokens) > SCOPES_MAX:
            self._tokens.pop(next(iter(self._tokens)))

    def forget(self) -> None:
        self._tokens.clear()


class InFile(InMemory):
    """Positions in `<configuration>.state.json`, per server. Two writers at once: the last wins, which is harmless."""

    def __init__(self, configuration: Path, url: str) -> None:
        super().__init__()
        self._path = configuration.with_suffix(".state.json")
        self._url = url
        mine = self._content().get(url, {})
        self._tokens = {k: v for k, v in mine.items() if isinstance(k, str) and isinstance(v, str)} if isinstance(mine, dict) else {}

    def keep(self, scope: str, token: str) -> None:
        super().keep(scope, token)
        self._save()

    def forget(self) -> None:
        super().forget()
        self._save()

    def _content(self) -> dict[str, object]:
        try:
            content = json.loads(read_private(self._path) or "{}")
        except (ValueError, BadInput):
            return {}
        return content if isinstance(content, dict) else {}

    def _save(self) -> None:
        try:
            write_private(self._path, json.dumps({**self._content(), self._url: self._tokens}))
        except OSError:
            return

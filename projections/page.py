"""Pages of a list: keyset cursors that stay right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from core.errors import Invalid

LIMIT_MAX = 1000

Item = TypeVar("Item")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Rows(Generic[Item]):
    """One page. `next` is the cursor of the next one, None on the last."""

    items: Sequence[Item]
    next: str | None = None

    def map(self, change: Callable[[Item], Other]) -> Rows[Other]:
        return Rows([change(item) for item in self.items], self.next)


def cut(rows: Sequence[Item], limit: int, key: Callable[[Item], Sequence[Any]]) -> Rows[Item]:
    """A page from `limit + 1` rows that were asked for: the one too many only says that there is a next page."""
    if len(rows) <= limit:
        return Rows(rows)
    kept = rows[:limit]
    return Rows(kept, encode(key(kept[-1])))


def encode(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode().rstrip("=")


def decode(cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The key behind a cursor; None when there is no cursor. Raises: Invalid when it is none of ours."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        key = None
    if not isinstance(key, list) or len(key) != len(kinds) or any(type(part) is not kind for part, kind in zip(key, kinds, strict=True)):
        raise Invalid("This cursor is none of ours; begin again without one.", field="cursor")
    if any((isinstance(part, str) and "\x00" in part) or (isinstance(part, int) and abs(part) >= 2**63) for part in key):
        raise Invalid("This cursor is none of ours; begin again without one.", field="cursor")
    return tuple(key)


def limited(limit: int) -> int:
    """The page size, checked. Raises: Invalid."""
    if not 1 <= limit <= LIMIT_MAX:
        raise Invalid(f"`limit` must lie between 1 and {LIMIT_MAX}.", field="limit")
    return limit

"""What every noun's collection shares: addresses below one prefix, and lists read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from foldline.connection import Connection, path_of

PAGE_ITEMS = 1000


class Collection:
    """The things of one kind below `prefix`."""

    def __init__(self, connection: Connection, *prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix

    def _path(self, *segments: str) -> str:
        return path_of(*self._prefix, *segments)

    async def _get(self, kind: str, *segments: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._connection.decode(kind, await self._connection.call("GET", self._path(*segments), params=params))

    async def _send(self, method: str, kind: str, *segments: str, body: Any = None) -> Any:
        return self._connection.decode(kind, await self._connection.call(method, self._path(*segments), body=body))

    async def _do(self, method: str, *segments: str, body: Any = None) -> None:
        await self._connection.call(method, self._path(*segments), body=body)

    async def _all(self, kind: str, *segments: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> list[Any]:
        return [self._connection.decode(kind, item) async for item in items(self._connection, self._path(*segments), params, limit)]

    async def _whole(self, kind: str, *segments: str) -> list[Any]:
        """A list that comes in one piece."""
        page = await self._connection.call("GET", self._path(*segments))
        return [self._connection.decode(kind, item) for item in page["items"]]


async def items(connection: Connection, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> AsyncIterator[Any]:
    """The items of a list, page by page, at most `limit` of them."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE_ITEMS if left is None else min(left, PAGE_ITEMS)
        page = await connection.call("GET", path, params={**(params or {}), "limit": size, "cursor": cursor})
        for item in page["items"]:
            yield item
        cursor = page.get("next")
        if left is not None:
            left -= len(page["items"])
        if not cursor or not page["items"]:
            return


def set_fields(**fields: Any) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}

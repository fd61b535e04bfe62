"""What the projections use of a Postgres pool. `asyncpg.Pool` and `asyncpg.Connection` fit; nothing here imports asyncpg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Queries(Protocol):
    """Statements with `$1`-style parameters."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """The rows; each gives its columns by name and by number."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """The first row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Runs it; without parameters several statements may follow each other."""
        ...


class Connection(Queries, Protocol):
    """One connection, on which transactions are made."""

    async def copy_records_to_table(self, table_name: str, /, *, records: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
        """Adds rows by COPY, several times as fast as INSERT; a row that is there already fails it."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Commits when the block ends well, rolls back when it raises."""
        ...


class Database(Queries, Protocol):
    """A pool of connections."""

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for the length of the block. Waits while all are lent."""
        ...

"""Whether two tables hold the same rows: a digest of each over all rows in the order of their keys, and what differs."""

from __future__ import annotations

from typing import Any, Protocol

from projections.database import Queries
from projections.readmodel import ReadModel, Table

DIFFERENCES_MAX = 20
_DIGEST = """
SELECT count(*), encode(sha256(COALESCE(string_agg(sha256(convert_to(t::text, 'UTF8')), ''::bytea ORDER BY {key}), ''::bytea)), 'hex')
FROM {table} t
"""
_DIFFERENCES = """
SELECT COALESCE(a.row, b.row) FROM (SELECT ({key})::text AS row, t::text AS whole FROM {left} t) a
FULL JOIN (SELECT ({key})::text AS row, t::text AS whole FROM {right} t) b USING (row)
WHERE a.whole IS DISTINCT FROM b.whole ORDER BY 1 LIMIT {limit}
"""


class Tables(Protocol):
    """Where a read model lies."""

    @property
    def table(self) -> str: ...

    @property
    def side(self) -> str | None: ...


async def compare(database: Queries, model: ReadModel[Any], left: Tables, right: Tables) -> tuple[int, str, str, list[str]]:
    """Rows of the right, the digests of both, and keys of rows that differ. A side table counts too."""
    rows, before, after = 0, "", ""
    differences: list[str] = []
    for table, one, other in _pairs(model, left, right):
        key = ", ".join(table.key)
        _, digest_before = await _digest(database, one, key)
        count, digest_after = await _digest(database, other, key)
        rows, before, after = rows + count, before + digest_before, after + digest_after
        if digest_before != digest_after:
            statement = _DIFFERENCES.format(key=f"ROW({key})", left=one, right=other, limit=DIFFERENCES_MAX)
            differences += [f"{table.name} {record[0]}" for record in await database.fetch(statement)]
    return rows, before, after, differences[:DIFFERENCES_MAX]


async def digest(database: Queries, model: ReadModel[Any], tables: Tables) -> tuple[int, str]:
    """How many rows there are, and the digest of all of them."""
    rows, whole = 0, ""
    for table, name, _ in _pairs(model, tables, tables):
        count, one = await _digest(database, name, ", ".join(table.key))
        rows, whole = rows + count, whole + one
    return rows, whole


async def _digest(database: Queries, table: str, key: str) -> tuple[int, str]:
    record = await database.fetchrow(_DIGEST.format(key=key, table=table))
    return record[0], record[1]


def _pairs(model: ReadModel[Any], left: Tables, right: Tables) -> list[tuple[Table[Any], str, str]]:
    pairs: list[tuple[Table[Any], str, str]] = [(model.table, left.table, right.table)]
    if model.side is not None and left.side is not None and right.side is not None:
        pairs.append((model.side, left.side, right.side))
    return pairs

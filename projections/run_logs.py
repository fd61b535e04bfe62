"""Read model: what runs wrote, by run, attempt and file. Chunks as they came, compressed, found by their place in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import zstandard

from core.ids import WorkspaceId
from core.ports import Measured, MeasurementBatch
from projections.database import Queries
from projections.readmodel import Key, ReadModel, Table

CHUNK_BYTES_MAX = 4 * 1024 * 1024
"""A chunk is never longer; the edge takes at most 1 MiB a batch."""
READ_BYTES_MAX = 16 * 1024 * 1024


@dataclass(slots=True)
class LogChunkRow:
    workspace: str
    run: str
    attempt: int
    name: str
    log_offset: int
    size: int
    """Of the opened body."""
    body: bytes
    """zstd, as it came."""


@dataclass(slots=True)
class LogRow:
    """One log file of one attempt."""

    workspace: str
    run: str
    attempt: int
    name: str
    size: int
    """How long the file is, as far as it has come."""
    missing: int
    """Bytes in it that never came."""
    sealed: tuple[LogChunkRow, ...] = ()
    """Chunks that are to be written; no column."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of a log. The next piece begins at `offset + len(data)`; `offset` is past what was asked where bytes are missing."""

    offset: int
    data: bytes
    total: int


TABLE: Table[LogRow] = Table(
    "run_logs", 1, LogRow, ("workspace", "run", "attempt", "name"),
    {"workspace": "text", "run": "text", "attempt": "integer", "name": "text", "size": "bigint", "missing": "bigint"},
)
CHUNKS: Table[LogChunkRow] = Table(
    "run_log_chunks", 1, LogChunkRow, ("workspace", "run", "attempt", "name", "log_offset"),
    {
        "workspace": "text", "run": "text", "attempt": "integer", "name": "text", "log_offset": "bigint", "size": "integer",
        "body": "bytea",
    },
    fill_percent=100,
)


# -- fold --------------------------------------------------------------------------------------------------------------
def facts(measured: Measured) -> list[tuple[Key, MeasurementBatch]]:
    batch = measured.batch
    if batch.kind != "log" or batch.log_name is None:
        return []
    return [((batch.workspace, batch.run, batch.attempt, batch.log_name), batch)]


def fold(row: LogRow | None, batch: MeasurementBatch) -> LogRow:
    """What lies before the end of the file has come before: the same bytes, sent again."""
    row = row or LogRow(batch.workspace, batch.run, batch.attempt, str(batch.log_name), 0, 0)
    start, size = batch.log_offset or 0, _size(batch)
    if start < 0 or not 0 <= size <= CHUNK_BYTES_MAX:
        raise ValueError(f"a chunk of {size} bytes at {start}")
    if start + size <= row.size:
        return row
    chunk = LogChunkRow(row.workspace, row.run, row.attempt, row.name, start, size, batch.body)
    return replace(row, size=start + size, missing=row.missing + max(0, start - row.size), sealed=(*row.sealed, chunk))


def spill(row: LogRow) -> tuple[LogRow, Sequence[LogChunkRow]]:
    return (replace(row, sealed=()), row.sealed) if row.sealed else (row, ())


def _size(batch: MeasurementBatch) -> int:
    return len(_opened(batch.body)) if batch.log_bytes is None else batch.log_bytes


def _opened(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=CHUNK_BYTES_MAX)


MODEL = ReadModel(TABLE, facts, fold, topic="measurements", spill=spill, side=CHUNKS)

# -- queries -----------------------------------------------------------------------------------------------------------
NAMES = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2 AND ($3::integer IS NULL OR attempt = $3)
ORDER BY attempt, name
"""  # noqa: S608  names of ours
LENGTH = f"SELECT size FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2 AND attempt = $3 AND name = $4"  # noqa: S608
PIECES = f"""
SELECT log_offset, body FROM {CHUNKS.sql_name}
WHERE workspace = $1 AND run = $2 AND attempt = $3 AND name = $4
  AND log_offset < $6 AND log_offset > $5 - {CHUNK_BYTES_MAX} AND log_offset + size > $5 ORDER BY log_offset LIMIT 1000
"""  # noqa: S608


async def names(database: Queries, workspace: WorkspaceId, run: str, attempt: int | None = None) -> list[LogRow]:
    """The log files of a run, of one attempt or of all."""
    return TABLE.rows_of(await database.fetch(NAMES, workspace, run, attempt))


async def length(database: Queries, workspace: WorkspaceId, run: str, attempt: int, name: str) -> int:
    """How long the file is by now; 0 when there is none."""
    return await database.fetchval(LENGTH, workspace, run, attempt, name) or 0


async def read(
    database: Queries, workspace: WorkspaceId, run: str, attempt: int, name: str, offset: int = 0, bytes_max: int = 1 << 20,
) -> LogPiece:
    """What is there from `offset` on, at most `bytes_max` (and 16 MiB). Empty at the end. A piece never spans missing bytes."""
    bytes_max = min(bytes_max, READ_BYTES_MAX)
    total = await length(database, workspace, run, attempt, name)
    if offset >= total:
        return LogPiece(offset, b"", total)
    records = await database.fetch(PIECES, workspace, run, attempt, name, offset, total)
    start, data = offset, bytearray()
    for log_offset, body in records:
        place = start + len(data)
        if log_offset > place:
            if data:
                break
            start = place = log_offset
        data += _opened(body)[place - log_offset :]
        if len(data) >= bytes_max:
            break
    return LogPiece(start, bytes(data[:bytes_max]), total)

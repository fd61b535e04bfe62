"""Read model: metrics of runs, system metrics among them (kind `system`).

One row per run, attempt, kind and metric: last, min, max, count, and the tail of newest points. What the tail has grown out
of becomes chunks of 256 points, written once. Points of a stale attempt stay under that attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import zstandard

from core.ids import WorkspaceId
from core.ports import Measured
from projections.curves import CurvePoint, Series, extremes, merge, pack, resample, unpack_floats, unpack_integers
from projections.database import Queries
from projections.points import Points, points_of
from projections.readmodel import Key, ReadModel, Table

CHUNK_POINTS = 256
IN_THREAD_POINTS = 20_000
"""Curves of more points are drawn in a thread, since nothing may hold the event loop."""


@dataclass(slots=True)
class ChunkRow:
    workspace: str
    run: str
    attempt: int
    kind: str
    key: str
    number: int
    count: int
    last_step: int
    last_time_ms: int
    last: float
    min: float | None
    max: float | None
    nans: int
    body: bytes
    """zstd of the three packed columns, one after the other."""


@dataclass(slots=True)
class MetricRow:
    """One metric of one attempt."""

    workspace: str
    run: str
    attempt: int
    kind: str
    key: str
    count: int
    last: float
    """The value of the highest step; of the latest time, then of the last arrival where several have it."""
    last_step: int
    last_time_ms: int
    min: float | None
    """Of the values that are numbers; None when none is."""
    max: float | None
    nans: int
    ordered: bool
    """Whether the points came in the order of their steps and times."""
    sources: dict[str, int]
    """The last sequence of each source that was folded in: what comes again is not counted again."""
    chunks: int
    tail_step: bytes
    tail_time_ms: bytes
    tail_value: bytes
    sealed: tuple[ChunkRow, ...] = ()
    """Chunks that are to be written; no column."""


@dataclass(frozen=True, slots=True)
class CurveView:
    key: str
    attempt: int
    points: Sequence[CurvePoint]
    total: int


TABLE: Table[MetricRow] = Table(
    "run_metrics", 1, MetricRow, ("workspace", "run", "attempt", "kind", "key"),
    {
        "workspace": "text", "run": "text", "attempt": "integer", "kind": "text", "key": "text", "count": "bigint",
        "last": "double precision", "last_step": "bigint", "last_time_ms": "bigint", "min": "double precision", "max": "double precision",
        "nans": "bigint", "ordered": "boolean", "sources": "jsonb", "chunks": "integer", "tail_step": "bytea", "tail_time_ms": "bytea",
        "tail_value": "bytea",
    },
)
CHUNKS: Table[ChunkRow] = Table(
    "run_metric_chunks", 1, ChunkRow, ("workspace", "run", "attempt", "kind", "key", "number"),
    {
        "workspace": "text", "run": "text", "attempt": "integer", "kind": "text", "key": "text", "number": "integer", "count": "integer",
        "last_step": "bigint", "last_time_ms": "bigint", "last": "double precision", "min": "double precision", "max": "double precision",
        "nans": "integer", "body": "bytea",
    },
    fill_percent=100,
)


# -- fold --------------------------------------------------------------------------------------------------------------
def facts(measured: Measured) -> list[tuple[Key, Points]]:
    batch = measured.batch
    if batch.kind not in ("points", "system"):
        return []
    return [((points.workspace, points.run, points.attempt, points.kind, points.key), points) for points in points_of(batch)]


def fold(row: MetricRow | None, points: Points) -> MetricRow:
    row = row or _empty(points)
    if points.sequence <= row.sources.get(points.source, 0):
        return row
    low, high, nans = extremes(points.value)
    ordered, last = _last(row, points)
    grown = replace(
        row, count=row.count + len(points.value), ordered=ordered, nans=row.nans + nans,
        min=_chosen(min, row.min, low), max=_chosen(max, row.max, high),
        last=row.last if last is None else points.value[last], last_step=row.last_step if last is None else points.step[last],
        last_time_ms=row.last_time_ms if last is None else points.time_ms[last],
        sources={**row.sources, points.source: points.sequence}, tail_step=row.tail_step + pack("q", points.step),
        tail_time_ms=row.tail_time_ms + pack("q", points.time_ms), tail_value=row.tail_value + pack("d", points.value),
    )
    while len(grown.tail_value) >= CHUNK_POINTS * 8:
        grown = _seal(grown)
    return grown


def spill(row: MetricRow) -> tuple[MetricRow, Sequence[ChunkRow]]:
    return (replace(row, sealed=()), row.sealed) if row.sealed else (row, ())


def _empty(points: Points) -> MetricRow:
    return MetricRow(
        points.workspace, points.run, points.attempt, points.kind, points.key, 0, 0.0, 0, 0, None, None, 0, True, {}, 0, b"", b"", b"",
    )


def _last(row: MetricRow, points: Points) -> tuple[bool, int | None]:
    """Whether all is in order up to here, and the place of the new last point, if there is one."""
    newest = (row.last_step, row.last_time_ms) if row.count else (points.step[0], points.time_ms[0])
    ordered, place = row.ordered, None
    for number, moment in enumerate(zip(points.step, points.time_ms, strict=True)):
        if moment >= newest:
            newest, place = moment, number
        else:
            ordered = False
    return ordered, place


def _chosen(choose: object, before: float | None, now: float | None) -> float | None:
    if before is None or now is None:
        return now if before is None else before
    return choose(before, now)  # type: ignore[operator,no-any-return]  # min or max


def _seal(row: MetricRow) -> MetricRow:
    cut = CHUNK_POINTS * 8
    step, time_ms, value = row.tail_step[:cut], row.tail_time_ms[:cut], row.tail_value[:cut]
    values = unpack_floats(value)
    low, high, nans = extremes(values)
    chunk = ChunkRow(
        row.workspace, row.run, row.attempt, row.kind, row.key, row.chunks, CHUNK_POINTS, unpack_integers(step)[-1],
        unpack_integers(time_ms)[-1], values[-1], low, high, nans, zstandard.ZstdCompressor().compress(step + time_ms + value),
    )
    return replace(
        row, chunks=row.chunks + 1, tail_step=row.tail_step[cut:], tail_time_ms=row.tail_time_ms[cut:], tail_value=row.tail_value[cut:],
        sealed=(*row.sealed, chunk),
    )


MODEL = ReadModel(TABLE, facts, fold, topic="measurements", spill=spill, side=CHUNKS)

# -- queries -----------------------------------------------------------------------------------------------------------
SUMMARIES = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND run = $2 AND kind = $4
  AND attempt = COALESCE($3, (SELECT max(attempt) FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2 AND kind = $4)) ORDER BY key
"""  # noqa: S608  names of ours
LAST_VALUES = f"""
SELECT DISTINCT ON (t.run, t.key) t.run, t.key, t.last FROM {TABLE.sql_name} t
WHERE t.workspace = $1 AND t.run = ANY($2::text[]) AND t.kind = 'points' ORDER BY t.run, t.key, t.attempt DESC
"""  # noqa: S608
ONE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND run = $2 AND kind = $4 AND key = $5 AND ($3::integer IS NULL OR attempt = $3) ORDER BY attempt DESC LIMIT 1
"""  # noqa: S608
_CHUNKS_OF = f"""
FROM {CHUNKS.sql_name} WHERE workspace = $1 AND run = $2 AND attempt = $3 AND kind = $4 AND key = $5 AND number < $6 ORDER BY number
"""
BODIES = f"SELECT body, count {_CHUNKS_OF}"
OUTLINES = f"SELECT last_step, last_time_ms, last, COALESCE(min, 'NaN'), COALESCE(max, 'NaN'), count, nans {_CHUNKS_OF}"


async def summaries(
    database: Queries, workspace: WorkspaceId, run: str, *, attempt: int | None = None, kind: str = "points",
) -> list[MetricRow]:
    """Each metric of one attempt, by default of the newest that has any, by name."""
    return TABLE.rows_of(await database.fetch(SUMMARIES, workspace, run, attempt, kind))


async def last_values(database: Queries, workspace: WorkspaceId, runs: Sequence[str]) -> dict[str, dict[str, float]]:
    """The last value of each metric of each run, of the newest attempt that has it."""
    values: dict[str, dict[str, float]] = {run: {} for run in runs}
    for run, key, last in await database.fetch(LAST_VALUES, workspace, list(runs)):
        values[run][key] = last
    return values


async def curve(
    database: Queries, workspace: WorkspaceId, run: str, key: str, *, attempt: int | None = None, buckets: int = 500, kind: str = "points",
) -> CurveView | None:
    """One metric at the asked resolution, every spike kept; of the newest attempt that has it, or of the one asked for."""
    record = await database.fetchrow(ONE, workspace, run, attempt, kind, key)
    if record is None:
        return None
    row = TABLE.row_of(record)
    place = (workspace, run, row.attempt, kind, key, row.chunks)
    if row.ordered and row.chunks >= 2 * buckets:
        outlines = [CurvePoint(*outline) for outline in await database.fetch(OUTLINES, *place)]
        points = merge([*outlines, *resample(_series([], row), CHUNK_POINTS)], buckets)
    else:
        bodies = await database.fetch(BODIES, *place) if row.chunks else []
        draw = asyncio.to_thread if row.count > IN_THREAD_POINTS else _at_once
        points = await draw(_draw, bodies, row, buckets)
    return CurveView(key, row.attempt, points, row.count)


def _draw(bodies: Sequence[tuple[bytes, int]], row: MetricRow, buckets: int) -> list[CurvePoint]:
    series = _series(bodies, row)
    return resample(series if row.ordered else series.ordered(), buckets)


def _series(bodies: Sequence[tuple[bytes, int]], row: MetricRow) -> Series:
    series = Series()
    unpacker = zstandard.ZstdDecompressor()
    for body, count in bodies:
        columns, size = unpacker.decompress(body), count * 8
        series.extend(columns[:size], columns[size : 2 * size], columns[2 * size :])
    series.extend(row.tail_step, row.tail_time_ms, row.tail_value)
    return series


async def _at_once(
    draw: object, bodies: Sequence[tuple[bytes, int]], row: MetricRow, buckets: int,
) -> list[CurvePoint]:
    return _draw(bodies, row, buckets)

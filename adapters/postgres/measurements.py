"""The log of measurements on Postgres: one row per batch, written in groups, followed from memory.

Offsets are gapless: the row in `shard` that gives them out is updated in the same statement that writes the batches. Several
servers may write; what others write reaches local followers by LISTEN/NOTIFY.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import asyncpg
import structlog

from adapters.following import Bell, Entry, Tail, follow
from adapters.postgres.background import Background
from adapters.postgres.installation import ensure_log
from adapters.postgres.pool import Database, pause_seconds
from core.errors import EventTooLarge, Invalid, Unavailable
from core.ids import Position, WorkspaceId, shard_of
from core.ports import Clock, Measured, MeasuredBatch, MeasurementBatch

log = structlog.get_logger()

LOG = "measurements"
CHANNEL = "foldline_measured"
BODY_BYTES_MAX = 1024 * 1024
GROUP_BATCHES_MAX = 256
GROUP_BYTES_MAX = 4 * 1024 * 1024
WAITING_MAX = 2_000
READ_BYTES_MAX = 8 * 1024 * 1024

ENDS = "SELECT shard, head FROM shard WHERE log = 'measurements' ORDER BY shard"
WRITE = """
WITH place AS (
    UPDATE shard SET head = head + $2 WHERE log = 'measurements' AND shard = $1 RETURNING head - $2 AS first, head),
batches AS (
    INSERT INTO measurement (shard, position, at, workspace, run, attempt, source, sequence, kind, body, log_name, log_offset, log_bytes,
        sha256)
    SELECT $1, (SELECT first FROM place) + one.number - 1, $3, one.workspace, one.run, one.attempt, one.source, one.sequence, one.kind,
        one.body, one.log_name, one.log_offset, one.log_bytes, one.sha256
    FROM unnest($4::text[], $5::text[], $6::integer[], $7::text[], $8::bigint[], $9::text[], $10::bytea[], $11::text[], $12::bigint[],
        $13::bigint[], $14::text[]) WITH ORDINALITY
        AS one (workspace, run, attempt, source, sequence, kind, body, log_name, log_offset, log_bytes, sha256, number))
SELECT first, pg_notify('foldline_measured', $1 || ':' || head || ':' || $15::text) FROM place"""
READ = """
SELECT position, at, workspace, run, attempt, source, sequence, kind, body, log_name, log_offset, log_bytes, sha256 FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS before FROM (
        SELECT * FROM measurement WHERE shard = $1 AND position >= $2 AND position < $3 ORDER BY position LIMIT $4) AS found) AS summed
WHERE before < $5 ORDER BY position"""


@dataclass(slots=True, eq=False)
class _Waiting:
    batch: MeasurementBatch
    future: asyncio.Future[Position]


class PostgresMeasurements:
    """Implements core.ports.Measurements. `shards` counts when the log is made, and never after."""

    def __init__(self, database: Database, clock: Clock, *, shards: int = 1) -> None:
        self._database, self._clock, self._wanted_shards = database, clock, shards
        self._id = ""
        self._writer = clock.random(8).hex()
        self._tails: dict[int, Tail[Measured]] = {}
        self._queues: dict[int, deque[_Waiting]] = {}
        self._wakes: dict[int, asyncio.Event] = {}
        self._bell = Bell()
        self._background = Background()

    @property
    def id(self) -> str:
        return self._id

    @property
    def shards(self) -> int:
        return len(self._tails)

    async def __aenter__(self) -> PostgresMeasurements:
        row = await ensure_log(self._database, self._clock, LOG, "pgm", self._wanted_shards)
        self._id = row.id
        for one in await self._database.fetch(ENDS):
            self._tails[one["shard"]] = Tail(one["head"])
            self._queues[one["shard"]], self._wakes[one["shard"]] = deque(), asyncio.Event()
        await self._database.listen({CHANNEL: self._on_head}, self._on_reconnected)
        await self._background.open()
        for shard in self._tails:
            self._background.start(self._write_all(shard))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._background.close(kind, error, trace)
        finally:
            for queue in self._queues.values():
                _fail(queue, "The server stops; send it again.")

    async def append(self, batch: MeasurementBatch) -> Position:
        """Raises: Unavailable, EventTooLarge, Invalid for text that cannot be stored."""
        if len(batch.body) > BODY_BYTES_MAX:
            raise EventTooLarge("measurements", len(batch.body), BODY_BYTES_MAX)
        _check_text(batch)
        shard = shard_of(WorkspaceId(batch.run), len(self._tails))
        if len(self._queues[shard]) >= WAITING_MAX:
            raise Unavailable(f"Over {WAITING_MAX} batches wait to be written; try again.")
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._queues[shard].append(waiting)
        self._wakes[shard].set()
        return await waiting.future

    async def ends(self) -> Mapping[int, int]:
        return {row["shard"]: row["head"] for row in await self._database.fetch(ENDS)}

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[MeasuredBatch]:
        return self._batches(dict(start), batch_max, follow)

    # -- writing -------------------------------------------------------------------------------------------------------
    async def _write_all(self, shard: int) -> None:
        queue, wake = self._queues[shard], self._wakes[shard]
        while True:
            await wake.wait()
            wake.clear()
            while queue:
                group = _take(queue)
                try:
                    await self._write(shard, group)
                except asyncio.CancelledError:
                    _fail(group, "The server stops; send it again.")
                    raise
                except (Unavailable, asyncpg.PostgresError) as error:
                    log.warning("measurements.failed", shard=shard, batches=len(group), error=str(error.__cause__ or error))
                    _fail(group, "The measurements could not be stored; send them again.")

    async def _write(self, shard: int, group: Sequence[_Waiting]) -> None:
        batches, at = [one.batch for one in group], self._clock.now()
        first = await self._database.fetchval(WRITE, shard, len(batches), at, *_columns(batches), self._writer)
        measured = [Measured(batch, at, Position(self._id, shard, first + index)) for index, batch in enumerate(batches)]
        for waiting, one in zip(group, measured, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(one.position)
        tail = self._tails[shard]
        if tail.end == first:
            tail.extend([Entry(one.position.offset, one.position.offset, one, len(one.batch.body)) for one in measured])
        else:  # another server wrote in between
            tail.advance(first + len(batches))
        self._bell.ring()

    # -- following -----------------------------------------------------------------------------------------------------
    async def _batches(self, start: dict[int, int], batch_max: int, following: bool) -> AsyncGenerator[MeasuredBatch, None]:
        until: Mapping[int, int] | None = None
        if not following:
            until = await self.ends()
            self._advance(until)

        async def read(shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[Measured], int]:
            return await self._read(shard, offset, end, batch_max, patient=following)

        batches = follow(self._tails, self._bell, read, start, batch_max, until)
        try:
            async for shard, items, next_offset in batches:
                yield MeasuredBatch(shard, tuple(items), next_offset)
        finally:
            await batches.aclose()

    async def _read(self, shard: int, offset: int, end: int, batch_max: int, *, patient: bool) -> tuple[Sequence[Measured], int]:
        failures = 0
        while True:
            try:
                rows = await self._database.fetch(READ, shard, offset, end, batch_max, READ_BYTES_MAX)
                return [self._to_measured(shard, row) for row in rows], rows[-1]["position"] + 1
            except Unavailable:
                if not patient:
                    raise
                await asyncio.sleep(pause_seconds(failures))
                failures += 1

    def _to_measured(self, shard: int, row: Any) -> Measured:
        values = dict(row)
        position, at = values.pop("position"), values.pop("at")
        values["workspace"] = WorkspaceId(values["workspace"])
        return Measured(MeasurementBatch(**values), at, Position(self._id, shard, position))

    def _on_head(self, payload: str) -> None:
        """Another server wrote; of what we write ourselves the tail hears at once."""
        shard, head, writer = payload.split(":")
        if writer != self._writer and int(shard) in self._tails:
            self._advance({int(shard): int(head)})

    def _advance(self, ends: Mapping[int, int]) -> None:
        for shard, end in ends.items():
            self._tails[shard].advance(end)
        self._bell.ring()

    def _on_reconnected(self) -> None:
        self._background.start(self._look_at_ends())

    async def _look_at_ends(self) -> None:
        try:
            self._advance(await self.ends())
        except Unavailable:
            log.warning("measurements.ends_unknown")


def _take(queue: deque[_Waiting]) -> list[_Waiting]:
    group: list[_Waiting] = []
    size = 0
    while queue and len(group) < GROUP_BATCHES_MAX and size < GROUP_BYTES_MAX:
        group.append(queue.popleft())
        size += len(group[-1].batch.body)
    return group


def _fail(waiting: Iterable[_Waiting], problem: str) -> None:
    for one in waiting:
        if not one.future.done():
            one.future.set_exception(Unavailable(problem))
            one.future.exception()  # a caller that has gone is no bug


def _columns(batches: Sequence[MeasurementBatch]) -> tuple[list[Any], ...]:
    names = ("workspace", "run", "attempt", "source", "sequence", "kind", "body", "log_name", "log_offset", "log_bytes", "sha256")
    return tuple([getattr(batch, name) for batch in batches] for name in names)


def _check_text(batch: MeasurementBatch) -> None:
    texts = (batch.workspace, batch.run, batch.source, batch.kind, batch.log_name or "", batch.sha256)
    try:
        stored = "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise Invalid("This text cannot be stored: it is no valid Unicode.") from error
    if b"\0" in stored:
        raise Invalid("Names and ids cannot hold the character NUL.")

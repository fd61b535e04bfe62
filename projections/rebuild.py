"""Makes every read model anew from the log, beside the one that serves, compares the two, and swaps them. Reads never stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from core.ids import Position
from projections import checkpoints
from projections.database import Connection, Database
from projections.digests import compare
from projections.progress import Progress
from projections.runner import BATCH_MAX, Member, Runner
from projections.topics import Slice, Source
from projections.writer import Writer

SUFFIX = "_rebuild"
CLOSE_OFFSETS = 2_000
"""So near to the end, the live model is held still for the rest."""
LIVE_SECONDS = 60.0
"""How long the live model may take to reach what the new one has read."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One read model before and after. `before` and `after` are digests of all its rows at the same place in the log."""

    model: str
    rows: int
    before: str
    after: str
    identical: bool
    differences: Sequence[str] = ()
    """Keys of rows that differ, at most 20."""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    models: Sequence[ModelReport]
    events: int
    """Records of both logs that were read."""
    seconds: float

    @property
    def identical(self) -> bool:
        return all(model.identical for model in self.models)


class Rebuilder:
    """Rebuilds the read models that a runner keeps. One rebuild at a time."""

    def __init__(
        self, database: Database, runner: Runner, progress: Progress, *, batch_max: int = BATCH_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._runner, self._progress = database, runner, progress
        self._batch_max, self._monotonic = batch_max, monotonic
        self._lock = asyncio.Lock()

    async def rebuild(self, models: Sequence[str] | None = None) -> RebuildReport:
        """Replays the logs into new tables, compares them with the live ones and puts them in their place.

        A model that stood still for a workspace goes on, when it can be folded now. Raises: Unavailable, Behind.
        """
        async with self._lock:
            began, events = self._monotonic(), 0
            reports: list[ModelReport] = []
            for source, members in self._by_source(models):
                news = {member: Writer(member.writer.model, source.id, source.shards, SUFFIX) for member in members}
                count, last = await self._fill(source, list(news.values()))
                events += count
                for member, new in news.items():
                    reports.append(await self._replace(source, member, new, last))
            report = RebuildReport(reports, events, self._monotonic() - began)
            log.info("read_models.rebuilt", models=len(reports), events=events, identical=report.identical)
            return report

    def _by_source(self, models: Sequence[str] | None) -> list[tuple[Source, list[Member]]]:
        wanted: dict[Source, list[Member]] = {}
        for member in self._runner.members:
            if models is None or member.name in models:
                wanted.setdefault(member.source, []).append(member)
        return list(wanted.items())

    async def _fill(self, source: Source, news: Sequence[Writer]) -> tuple[int, dict[int, int]]:
        """Folds the whole log into the new tables, until what is left is little; how many records, and the last of each shard."""
        for new in news:
            await new.prepare(self._database, fresh=True)
        at: dict[int, int] = dict.fromkeys(range(source.shards), 0)
        last: dict[int, int] = {}
        count = 0
        while True:
            before = dict(at)
            async with aclosing(source.slices(at, batch_max=self._batch_max, follow=False)) as slices:
                async for piece in slices:
                    at[piece.shard] = piece.next_offset
                    count += len(piece.items)
                    if piece.items:
                        last[piece.shard] = piece.items[-1].position.offset
                    async with asyncio.TaskGroup() as tasks:
                        for new in news:
                            tasks.create_task(new.apply(self._database, piece))
            if sum(at.values()) - sum(before.values()) < CLOSE_OFFSETS:
                return count, last

    async def _replace(self, source: Source, member: Member, new: Writer, last: Mapping[int, int]) -> ModelReport:
        """Brings both tables to the same place, compares and swaps them, while the live one is held still."""
        live = member.writer
        for shard, offset in last.items():
            await self._progress.wait(member.name, Position(source.id, shard, offset), LIVE_SECONDS)
        async with live.lock, self._database.acquire() as connection, connection.transaction():
            taken = dict(map(tuple, await connection.fetch(checkpoints.TAKE_ALL, live.table)))
            place = {shard: max(taken.get(shard, 0), live.reached.get(shard, 0)) for shard in range(source.shards)}
            await self._read_to(source, new, place)
            rows, before, after, differences = await compare(connection, live.model, live, new)
            await _swap(connection, live, new, place)
        async with live.lock, self._database.acquire() as connection:
            await live.load(connection)
        self._progress.begin(member.name, source.id, live.reached, live.stopped, whole=True)
        return ModelReport(member.name, rows, before, after, before == after, differences)

    async def _read_to(self, source: Source, new: Writer, place: Mapping[int, int]) -> None:
        """Folds what lies before `place`, which is the end of a commit in each shard."""
        async with aclosing(source.slices(new.reached, batch_max=self._batch_max, follow=False)) as slices:
            async for piece in slices:
                end = place[piece.shard]
                if piece.next_offset > end:
                    piece = Slice(piece.shard, [item for item in piece.items if item.position.offset < end], end)
                await new.apply(self._database, piece)
                if all(new.reached[shard] >= end for shard, end in place.items()):
                    return


async def _swap(connection: Connection, live: Writer, new: Writer, place: Mapping[int, int]) -> None:
    names = [(live.table, new.table)]
    if live.side is not None and new.side is not None:
        names.append((live.side, new.side))
    for old_name, new_name in names:
        await connection.execute(f"DROP TABLE {old_name}; ALTER TABLE {new_name} RENAME TO {old_name}")
    for shard, offset in place.items():
        await connection.execute(checkpoints.REPLACE, live.table, shard, offset)
    await connection.execute(checkpoints.GO_ON, live.table)
    await connection.execute(checkpoints.RENAME_STOPPED, new.table, live.table)
    await connection.execute(checkpoints.DROP, new.table)


def facts_of(report: RebuildReport) -> dict[str, Any]:
    """The report as JSON can carry it."""
    return {
        "models": [
            {
                "model": model.model, "rows": model.rows, "before": model.before, "after": model.after, "identical": model.identical,
                "differences": list(model.differences),
            }
            for model in report.models
        ],
        "identical": report.identical, "events": report.events, "seconds": round(report.seconds, 3),
    }

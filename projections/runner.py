"""Keeps all read models at the head of their logs: one task per read model, and one reader per log that feeds them all.

A log is read and decoded once for all models that are at the same place. A model that is far behind, or that cannot keep up
for a while, leaves the common feed and catches up by a subscription of its own, so that none holds back another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from core.ports import EventLog, Measurements
from projections.catalogue import READ_MODELS
from projections.checkpoints import Rewound
from projections.database import Database
from projections.progress import Progress
from projections.readmodel import ReadModel
from projections.topics import Slice, Source
from projections.writer import Writer

BATCH_MAX = 1_000
INBOX_SLICES_MAX = 4
DETACH_SECONDS = 5.0
"""After so long without taking a slice, a model is left to catch up by itself."""
COMMON_OFFSETS_MAX = 10_000
"""Models that lie so close together at the start are fed in common from the lowest."""
COMMITS_MAX = 6
"""At once: more would not be faster, and reads want connections too."""
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Member:
    """One read model that is kept up."""

    writer: Writer
    source: Source
    inbox: asyncio.Queue[Slice | None]
    """None says: this was everything that was durable when the common reader began."""
    attached: bool = False

    @property
    def name(self) -> str:
        return self.writer.model.name

    def detach(self) -> None:
        self.attached = False
        while not self.inbox.empty():
            self.inbox.get_nowait()


@dataclass(eq=False, slots=True)
class _Feed:
    """The common reader of one log; `at` is what it has handed out."""

    source: Source
    members: list[Member]
    at: dict[int, int] = field(default_factory=dict)
    whole: bool = False
    """Whether it has handed out everything that was durable when it began."""

    def join(self, member: Member) -> bool:
        """Takes the member in when it has all that was handed out before."""
        if all(member.writer.reached.get(shard, 0) >= offset for shard, offset in self.at.items()):
            member.attached = True
        return member.attached


class Runner:
    """`await run()` for as long as the server lives. Survives the database and the logs going away and coming back."""

    def __init__(
        self, database: Database, events: EventLog, measurements: Measurements, progress: Progress, *,
        models: Sequence[ReadModel[Any]] = READ_MODELS, batch_max: int = BATCH_MAX, detach_seconds: float = DETACH_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database, self._progress, self._sleep = database, progress, sleep
        self._batch_max, self._detach_seconds = batch_max, detach_seconds
        self._commits = asyncio.Semaphore(COMMITS_MAX)
        sources = (Source("events", events), Source("measurements", measurements))
        self._feeds = [_Feed(source, self._members(source, models)) for source in sources]
        self.members = [member for feed in self._feeds for member in feed.members]
        self._prepared = False

    def _members(self, source: Source, models: Sequence[ReadModel[Any]]) -> list[Member]:
        return [
            Member(Writer(model, source.id, source.shards), source, asyncio.Queue(INBOX_SLICES_MAX))
            for model in models if model.topic == source.topic
        ]

    async def prepare(self) -> None:
        """Makes the tables that are not there and finds out where each model is. `run` does it too, with patience."""
        self._progress.know(feed.source.id for feed in self._feeds)
        for feed in self._feeds:
            for member in feed.members:
                await member.writer.prepare(self._database)
                self._progress.begin(member.name, feed.source.id, member.writer.reached, member.writer.stopped)
            feed.at = _common_start(feed)
            for member in feed.members:
                feed.join(member)
        self._prepared = True

    async def run(self) -> None:
        """Never returns; ends when it is cancelled."""
        if not self._prepared:
            await self._patiently("read_models.prepare", self.prepare)
        async with asyncio.TaskGroup() as tasks:
            for feed in self._feeds:
                tasks.create_task(self._patiently(f"read_models.{feed.source.topic}", partial(self._hand_out, feed)))
                for member in feed.members:
                    tasks.create_task(self._patiently(f"read_models.{member.name}", partial(self._keep, feed, member)))

    # -- the common reader ---------------------------------------------------------------------------------------------
    async def _hand_out(self, feed: _Feed) -> None:
        slices = feed.source.slices(feed.at, batch_max=self._batch_max, follow=feed.whole)
        async with contextlib.aclosing(slices):
            async for piece in slices:
                feed.at[piece.shard] = piece.next_offset
                for member in [member for member in feed.members if member.attached]:
                    await self._hand(member, piece)
        feed.whole = True
        for member in [member for member in feed.members if member.attached]:
            await self._hand(member, None)

    async def _hand(self, member: Member, piece: Slice | None) -> None:
        try:
            member.inbox.put_nowait(piece)
        except asyncio.QueueFull:
            try:
                async with asyncio.timeout(self._detach_seconds):  # Python 3.11's wait_for can swallow a cancellation here
                    await member.inbox.put(piece)
            except TimeoutError:
                log.warning("read_model.detached", model=member.name, seconds=self._detach_seconds)
                member.detach()
        if not member.attached:
            member.detach()

    # -- one model -----------------------------------------------------------------------------------------------------
    async def _keep(self, feed: _Feed, member: Member) -> None:
        """Keeps one model up, from the common feed where it can."""
        try:
            if not self._join(feed, member):
                await self._catch_up(feed, member, follow=False)
            if not member.attached:
                self._progress.whole(member.name)
                await self._catch_up(feed, member, follow=True)
            while member.attached:
                await self._apply(member, await member.inbox.get())
        except Rewound:
            log.warning("read_model.rewound", model=member.name, reached=member.writer.reached)
            member.detach()
            await self._begin(member)
        except BaseException:
            member.detach()
            raise

    async def _catch_up(self, feed: _Feed, member: Member, *, follow: bool) -> None:
        """Reads on its own until it can join the common feed, or is at the end."""
        slices = member.source.slices(member.writer.reached, batch_max=self._batch_max, follow=follow)
        async with contextlib.aclosing(slices):
            async for piece in slices:
                await self._apply(member, piece)
                if self._join(feed, member):
                    return

    def _join(self, feed: _Feed, member: Member) -> bool:
        joined = feed.join(member)
        if joined and feed.whole:
            self._progress.whole(member.name)
        return joined

    async def _apply(self, member: Member, piece: Slice | None) -> None:
        """Folds one slice, however often the database has to be asked. Raises: Rewound."""
        if piece is None:
            self._progress.whole(member.name)
            return
        tries = 0
        while True:
            try:
                async with self._commits:
                    await member.writer.apply(self._database, piece)
                break
            except Rewound:
                raise
            except Exception as error:
                log.warning("read_model.retry", model=member.name, problem=f"{type(error).__name__}: {error}"[:300], tries=tries)
                await self._sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
                if str(getattr(error, "sqlstate", "")) == "42P01":
                    raise Rewound(member.writer.table) from error
                tries += 1
        for workspace in member.writer.stopped - self._progress.stopped(member.name):
            self._progress.stop(member.name, workspace)
        self._progress.advance(member.name, piece.shard, member.writer.reached[piece.shard])

    async def _begin(self, member: Member) -> None:
        """Finds out anew where the model is; its answers are whole again once it has caught up."""
        await member.writer.prepare(self._database)
        self._progress.begin(member.name, member.source.id, member.writer.reached, member.writer.stopped)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs the work, again and again with a growing pause while it fails; `prepare` runs once."""
        tries = 0
        while True:
            try:
                await work()
            except Exception as error:
                log.warning("read_models.retry", what=what, problem=f"{type(error).__name__}: {error}"[:300], tries=tries)
                await self._sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
                tries += 1
            else:
                if what == "read_models.prepare":
                    return
                tries = 0


def _common_start(feed: _Feed) -> dict[int, int]:
    """Where the common reader begins: at the lowest of the models that are near the highest."""
    start: dict[int, int] = {}
    for shard in range(feed.source.shards):
        offsets = [member.writer.reached.get(shard, 0) for member in feed.members]
        highest = max(offsets, default=0)
        start[shard] = min((offset for offset in offsets if offset >= highest - COMMON_OFFSETS_MAX), default=0)
    return start

"""Runs the actors of this server: on the shards that it holds, from a snapshot and the tail, again after a failure, stopped in order.

One subscription per shard is handed to all members in their order. While a shard is being caught up with, its members only fold;
once the end of the log is reached they begin to react.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from actors.actor import Actor, Begin, CaughtUp, Gone, Heard
from actors.snapshots import Snapshot, Snapshots
from core.ports import EventLog, Gained, Lost, Shards

log = structlog.get_logger()

PAUSE_MAX_SECONDS = 30.0


class Member(Protocol):
    """Whoever hears the log: an actor, or the desk."""

    name: str
    version: int

    def begin(self, shard: int, snapshot: Snapshot | None) -> Begin: ...

    async def hear(self, item: Heard) -> None: ...

    def dump(self, shard: int) -> Snapshot | None: ...


@dataclass(slots=True)
class _Seat:
    """One role: the actor that has it now, and how to make the next."""

    make: Callable[[], Actor[Any]]
    actor: Actor[Any]


@dataclass(slots=True)
class _Shard:
    task: asyncio.Task[None] | None = None
    reached: int | None = None
    live: bool = False
    saved: dict[str, int] = field(default_factory=dict)


class Supervisor:
    """`async with Supervisor(...)` runs until its block ends; `caught_up` tells when the actors act."""

    def __init__(
        self, event_log: EventLog, shards: Shards, snapshots: Snapshots, *,
        first: Sequence[Member], actors: Sequence[Callable[[], Actor[Any]]],
        snapshot_seconds: float = 60.0, stop_seconds: float = 5.0, pause_seconds: float = 0.2,
    ) -> None:
        self._log, self._changes, self._snapshots, self._first = event_log, shards, snapshots, tuple(first)
        self._seats = [_Seat(make, make()) for make in actors]
        self._snapshot_seconds, self._stop_seconds, self._pause_seconds = snapshot_seconds, stop_seconds, pause_seconds
        self._shards: dict[int, _Shard] = {}
        self._live = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(self.run())
        self._stack.callback(running.cancel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def caught_up(self) -> None:
        """Returns once every shard held is caught up with."""
        await self._live.wait()

    async def run(self) -> None:
        """Until cancelled; then followers stop first, the actors after them from the last to the first, and states are saved."""
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(self._keep(seat)) for seat in self._seats]
            saver = tasks.create_task(self._save_on())
            try:
                async for change in self._changes.changes():
                    match change:
                        case Gained(shard):
                            self._live.clear()
                            held = self._shards[shard] = _Shard()
                            for member in self._members:
                                await member.hear(Begin(shard, 0, {}))
                            held.task = tasks.create_task(self._follow(shard, held))
                        case Lost(shard):
                            await self._leave(shard)
            finally:
                await self._stop(keepers, saver)

    @property
    def _members(self) -> tuple[Member, ...]:
        return (*self._first, *(seat.actor for seat in self._seats))

    async def _follow(self, shard: int, held: _Shard) -> None:
        pause = self._pause_seconds
        while True:
            try:
                await self._pump(shard, held)
            except Exception as error:
                log.error("supervisor.follow_failed", shard=shard, reached=held.reached, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(PAUSE_MAX_SECONDS, pause * 2)

    async def _pump(self, shard: int, held: _Shard) -> None:
        """Hands the log on, from where it was left."""
        if held.reached is None:
            begins = [(member, await self._begin(member, shard)) for member in self._members]
            for member, begin in begins:
                await member.hear(begin)
            held.reached = min(begin.next_offset for _, begin in begins)
        end = (await self._log.ends()).get(shard, 0)
        if held.reached >= end:
            await self._caught_up(shard, held)
        async for batch in self._log.subscribe({shard: held.reached}):
            for member in self._members:
                await member.hear(batch)
            held.reached = batch.next_offset
            if not held.live and held.reached >= end:
                await self._caught_up(shard, held)

    async def _caught_up(self, shard: int, held: _Shard) -> None:
        if held.live:
            return
        for member in self._members:
            await member.hear(CaughtUp(shard))
        held.live = True
        log.info("supervisor.caught_up", shard=shard, next_offset=held.reached)
        if all(one.live for one in self._shards.values()):
            self._live.set()

    async def _keep(self, seat: _Seat) -> None:
        """Runs one role; after a failure a new actor takes its seat, catches up by itself and goes on with what the others hear."""
        pause = self._pause_seconds
        while True:
            try:
                await seat.actor.run()
            except Exception as error:
                log.exception("actor.failed", role=seat.actor.name, again_in_seconds=pause, error=repr(error))
            seat.actor.close()
            await asyncio.sleep(pause)
            pause = min(PAUSE_MAX_SECONDS, pause * 2)
            fresh = seat.make()
            seat.actor = fresh
            try:
                for shard, held in list(self._shards.items()):
                    if held.reached is not None:
                        await self._catch_up(fresh, shard)
            except Exception as error:
                log.exception("actor.not_caught_up", role=fresh.name, error=repr(error))

    async def _catch_up(self, actor: Actor[Any], shard: int) -> None:
        begin = await self._begin(actor, shard)
        actor.take(begin)
        async for batch in self._log.subscribe({shard: begin.next_offset}, follow=False):
            actor.take(batch)
        held = self._shards.get(shard)
        if held is not None and held.live:
            actor.take(CaughtUp(shard))

    async def _begin(self, member: Member, shard: int) -> Begin:
        return member.begin(shard, await self._snapshots.load(self._log.id, shard, member.name, member.version))

    async def _leave(self, shard: int) -> None:
        held = self._shards.pop(shard, None)
        if held is None:
            return
        if held.task is not None:
            held.task.cancel()
            await asyncio.wait({held.task})
        for member in self._members:
            await member.hear(Gone(shard))

    async def _save_on(self) -> None:
        while True:
            await asyncio.sleep(self._snapshot_seconds)
            await self._save()

    async def _save(self) -> None:
        for shard, held in self._shards.items():
            for member in self._members:
                snapshot = member.dump(shard)
                if snapshot is None or held.saved.get(member.name) == snapshot.next_offset:
                    continue
                try:
                    await self._snapshots.save(self._log.id, shard, member.name, member.version, snapshot)
                    held.saved[member.name] = snapshot.next_offset
                except Exception as error:
                    log.warning("supervisor.snapshot_not_saved", role=member.name, shard=shard, error=repr(error))

    async def _stop(self, keepers: Sequence[asyncio.Task[None]], saver: asyncio.Task[None]) -> None:
        followers = [held.task for held in self._shards.values() if held.task is not None]
        try:
            async with asyncio.timeout(self._stop_seconds):
                for task in (*followers, saver, *reversed(keepers)):
                    task.cancel()
                    await asyncio.wait({task})
                await self._save()
        except TimeoutError:
            log.warning("supervisor.stop_timed_out", seconds=self._stop_seconds)

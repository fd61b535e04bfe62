"""The in-memory twin of the event log: the same groups, refusals and order as the real ones, without IO.

A `MemoryStore` is what a database would be: several `MemoryLog`s opened on one store fence each other like servers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from adapters.following import Bell, Entry, Tail, follow
from adapters.ordering import Accepted, CommandKey, Doubt, Known, StreamKey, Waiting, admit, answer, check_age, committed, dropped, plan
from core.envelope import Head, Sealed
from core.errors import CommandReused, Refusal, Unavailable
from core.events import Recorded
from core.ids import CommandId, Stream, WorkspaceId, shard_of
from core.ports import Batch, Clock, Commit, Committed, Gained, Lost


@dataclass(slots=True)
class _Shard:
    epoch: int = 0
    records: list[Sealed] = field(default_factory=list)
    tail: Tail[Recorded] = field(default_factory=lambda: Tail(0, entries_max=1 << 62, bytes_max=1 << 62))
    versions: dict[StreamKey, int] = field(default_factory=dict)
    heads: dict[WorkspaceId, Head] = field(default_factory=dict)
    commands: dict[CommandKey, tuple[str, Committed]] = field(default_factory=dict)
    streams: dict[StreamKey, list[Recorded]] = field(default_factory=dict)


class MemoryStore:
    """What outlives a log: its shards."""

    def __init__(self, *, shards: int = 1, log_id: str = "memory", installation: str = "memory") -> None:
        self.log_id, self.installation = log_id, installation
        self.shards = [_Shard() for _ in range(shards)]
        self.bell = Bell()


class MemoryLog:
    """Implements core.ports.EventLog and core.ports.Shards. Opening one takes every shard of the store over."""

    def __init__(self, clock: Clock, store: MemoryStore | None = None) -> None:
        self._clock = clock
        self._store = store or MemoryStore()
        self._queues: list[list[Waiting]] = [[] for _ in self._store.shards]
        self._doubt = Doubt()
        self._epochs: dict[int, int] = {}
        for number, shard in enumerate(self._store.shards):
            shard.epoch += 1
            self._epochs[number] = shard.epoch
        self._store.bell.ring()

    @property
    def id(self) -> str:
        return self._store.log_id

    @property
    def shards(self) -> int:
        return len(self._store.shards)

    def append(self, commit: Commit) -> asyncio.Future[Committed]:
        loop = asyncio.get_running_loop()
        waiting = Waiting(commit, (), loop.create_future())
        try:
            waiting.values = admit(self._store.installation, commit, self._clock.now())
        except Refusal as error:
            waiting.fail(error)
            return waiting.future
        number = shard_of(commit.workspace, self.shards)
        if commit.workspace in self._doubt:
            waiting.fail(dropped())
        elif self.epoch(number) is None:
            waiting.fail(Unavailable("Another server writes this part of the log now."))
        else:
            self._doubt.watch(waiting)
            self._queues[number].append(waiting)
            if len(self._queues[number]) == 1:
                loop.call_soon(self._commit, number)
        return waiting.future

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int = 0) -> Sequence[Recorded]:
        return tuple(self._shard(workspace).streams.get((workspace, stream), ())[after:])

    async def find(self, workspace: WorkspaceId, command: CommandId, request_hash: str) -> Committed | None:
        check_age(command, self._clock.now())
        found = self._shard(workspace).commands.get((workspace, command))
        if found is None:
            return None
        if found[0] != request_hash:
            raise CommandReused(command)
        return found[1]

    async def ends(self) -> Mapping[int, int]:
        return {number: shard.tail.end for number, shard in enumerate(self._store.shards)}

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[Batch]:
        tails = {number: shard.tail for number, shard in enumerate(self._store.shards)}
        until = None if follow else {number: tail.end for number, tail in tails.items()}
        return self._batches(tails, dict(start), batch_max, until)

    async def changes(self) -> AsyncGenerator[Gained | Lost, None]:
        """core.ports.Shards: what is held now, then what is lost to a log opened later on the same store."""
        woken = self._store.bell.join()
        told: set[int] = set()
        try:
            for number in self._epochs:
                if (epoch := self.epoch(number)) is not None:
                    told.add(number)
                    yield Gained(number, epoch)
            while True:
                woken.clear()
                for number in sorted(told):
                    if self.epoch(number) is None:
                        told.discard(number)
                        yield Lost(number)
                await woken.wait()
        finally:
            self._store.bell.leave(woken)

    def epoch(self, shard: int) -> int | None:
        mine = self._epochs.get(shard)
        return mine if mine == self._store.shards[shard].epoch else None

    def raw(self, shard: int) -> list[tuple[int, Mapping[str, str], bytes]]:
        """The records as they are stored, with their offsets: for audits and tests."""
        return [(offset, one.attributes, one.value) for offset, one in enumerate(self._store.shards[shard].records)]

    def _shard(self, workspace: WorkspaceId) -> _Shard:
        return self._store.shards[shard_of(workspace, self.shards)]

    async def _batches(
        self, tails: Mapping[int, Tail[Recorded]], start: Mapping[int, int], batch_max: int, until: Mapping[int, int] | None,
    ) -> AsyncGenerator[Batch, None]:
        batches = follow(tails, self._store.bell, _never_read, start, batch_max, until)
        try:
            async for number, items, next_offset in batches:
                yield Batch(number, tuple(items), next_offset)
        finally:
            await batches.aclose()

    def _commit(self, number: int) -> None:
        waiting, self._queues[number] = self._queues[number], []
        shard = self._store.shards[number]
        if self.epoch(number) is None:
            self._doubt.rise({one.commit.workspace for one in waiting})
            for one in waiting:
                one.fail(Unavailable("Another server writes this part of the log now."))
            return
        known = Known(shard.versions, shard.heads, shard.commands)
        group = plan(self._store.installation, waiting, known, shard.tail.end, self._clock.now())
        self._doubt.rise(group.broken)
        recorded = answer(group, self.id, number)
        for accepted in group.accepted:
            self._keep(shard, accepted, recorded[accepted.first])
        shard.versions.update(group.versions)
        shard.heads.update(group.heads)
        self._store.bell.ring()

    def _keep(self, shard: _Shard, accepted: Accepted, recorded: tuple[Recorded, ...]) -> None:
        shard.records.extend(accepted.records)
        shard.tail.extend([Entry(one.position.offset, accepted.last, one, 0) for one in recorded])
        for one in recorded:
            shard.streams.setdefault((one.workspace, one.stream), []).append(one)
        shard.commands[accepted.waiting.key] = (accepted.waiting.commit.request_hash, committed(recorded, again=True))


async def _never_read(shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[Recorded], int]:
    raise AssertionError(f"the memory log keeps everything in its tail; asked for {shard}:{offset}..{end} ({batch_max})")

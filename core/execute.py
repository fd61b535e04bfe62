"""Load, decide, append: the only way in which a decision reaches the log.

One command at a time per workspace is decided, on cached state that already includes the events still in flight; the wait for
the log is outside that order, so commands of one workspace share the log's group commits. When an append fails, everything
that this executor remembers of the workspace is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.catalogue import HANDLERS, kind_of
from core.decider import Decision, State
from core.errors import CommandReused, Refusal, Unavailable, UnreadableHistory, VersionConflict
from core.events import Recorded, Unreadable
from core.ids import CommandId, Position, Stream, WorkspaceId, shard_of
from core.ports import Commit, Committed, Context, EventLog, StreamWrite

STREAMS_CACHED_MAX = 50_000
TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Done:
    """What a command led to. `recorded` is empty when the wish was true already; the position is then the newest known."""

    position: Position
    recorded: tuple[Recorded, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """What a caller's right to decide rests on: a stream, and a check of its state that raises a Refusal when it is gone."""

    stream: Stream
    check: Callable[[State], None]


@dataclass(slots=True)
class _Loaded:
    state: State
    version: int


@dataclass(slots=True)
class _Workspace:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    streams: OrderedDict[Stream, _Loaded] = field(default_factory=OrderedDict)
    writing: dict[Stream, int] = field(default_factory=dict)
    """How many commits in flight write each stream."""
    commands: dict[CommandId, tuple[str, asyncio.Future[Committed]]] = field(default_factory=dict)
    in_flight: dict[asyncio.Future[Committed], None] = field(default_factory=dict)
    """In the order of their append; one may fail while an earlier one's outcome is still open."""
    generation: int = 0
    epoch: int | None = None
    """Under which the shard was ours last: in between, another server may have written."""
    position: Position | None = None

    @property
    def last(self) -> asyncio.Future[Committed] | None:
        return next(reversed(self.in_flight), None)


class Executor:
    """Decides commands on one log. `epoch` is that of core.ports.Shards: under another one than before, nothing remembered counts."""

    def __init__(self, log: EventLog, epoch: Callable[[int], int | None] = lambda _: None) -> None:
        self._log, self._epoch = log, epoch
        self._workspaces: dict[WorkspaceId, _Workspace] = {}

    async def execute(
        self, workspace: WorkspaceId, command: Any, context: Context,
        *, expected: Mapping[Stream, int] | None = None, request_hash: str | None = None, rests_on: Rest | None = None,
    ) -> Done:
        """Decides `command` and waits until its events are durable.

        `expected` are versions that the caller has seen (If-Match); `rests_on` is asked at the moment of the decision. The same
        command id with the same `request_hash` (by default the hash of the command) answers what was recorded the first time.

        Raises: any Refusal of the decision, VersionConflict, CommandReused, KeyExpired, EventTooLarge, UnreadableHistory, Unavailable,
        OutcomeUnknown.
        """
        digest = request_hash or hash_of(command)
        home = self._home(workspace)
        for _ in range(TRIES_MAX):
            await self._prefetch(home, workspace, command)
            refusal: Refusal | None = None
            pending: asyncio.Future[Committed] | None = None
            async with home.lock:
                last, generation = home.last, home.generation
                twin = home.commands.get(context.command)
                decision: Decision = {}
                if twin is None:
                    try:
                        decision = await self._decide(home, workspace, command, expected or {}, rests_on)
                    except Refusal as error:
                        refusal = error
                if decision and home.generation == generation:  # else a commit that it saw was lost while it was made
                    pending = self._append(home, workspace, context, digest, decision)
            if twin is not None:  # in flight: looked up under the lock, so that it is here or in the log, never in between
                if twin[0] != digest:
                    raise CommandReused(context.command)
                try:
                    return _done(await asyncio.shield(twin[1]), again=True)
                except VersionConflict:
                    if expected:
                        raise
                    continue
            if pending is not None:
                try:
                    return _done(await asyncio.shield(pending))
                except VersionConflict:
                    if expected:
                        raise
                    continue
            known = await self._log.find(workspace, context.command, digest)
            if known is not None:
                return _done(known, again=True)
            if not await _durable(last) or home.generation != generation:
                continue
            if refusal is not None:
                raise refusal
            return Done(await self._newest(home, workspace), ())
        raise Unavailable("Too many changes at once; try again.")

    async def state(self, workspace: WorkspaceId, stream: Stream) -> State:
        """The stream's state as the next decision would see it: for checks that must not lag, such as access.

        Raises: UnreadableHistory, and what the log raises.
        """
        home = self._home(workspace)
        known = home.streams.get(stream)
        if known is not None:
            return known.state
        async with home.lock:
            return (await self._load(home, workspace, stream)).state

    async def version(self, workspace: WorkspaceId, stream: Stream) -> int:
        """The version that belongs to `state`; a caller may hand it back as `expected`."""
        home = self._home(workspace)
        known = home.streams.get(stream)
        if known is not None:
            return known.version
        async with home.lock:
            return (await self._load(home, workspace, stream)).version

    def forget(self, workspace: WorkspaceId | None = None) -> None:
        """Drops what is remembered, of one workspace or of all: after a shard was lost, say."""
        for name, home in self._workspaces.items():
            if workspace is None or name == workspace:
                home.streams.clear()
                home.generation += 1

    def _home(self, workspace: WorkspaceId) -> _Workspace:
        home = self._workspaces.setdefault(workspace, _Workspace())
        epoch = self._epoch(shard_of(workspace, self._log.shards))
        if epoch is not None and epoch != home.epoch:  # None: not ours now, or the lease could not be read in time
            if home.epoch is not None:
                home.streams.clear()
                home.generation += 1
            home.epoch = epoch
        return home

    async def _prefetch(self, home: _Workspace, workspace: WorkspaceId, command: Any) -> None:
        """Loads what the command surely needs before its turn comes, so that look-ups of several commands overlap."""
        for stream in HANDLERS[type(command)].streams(command, {}):
            if stream in home.streams or stream in home.writing:
                continue
            generation = home.generation
            loaded = _fold(stream, await self._log.read(workspace, stream))
            if home.generation == generation and stream not in home.streams and stream not in home.writing:
                home.streams[stream] = loaded

    async def _decide(
        self, home: _Workspace, workspace: WorkspaceId, command: Any, expected: Mapping[Stream, int], rests_on: Rest | None,
    ) -> Decision:
        handler = HANDLERS[type(command)]
        states: dict[Stream, State] = {}
        if rests_on is not None:
            rests_on.check((await self._load(home, workspace, rests_on.stream)).state)
        while missing := [name for name in handler.streams(command, states) if name not in states]:
            for stream in missing:
                states[stream] = (await self._load(home, workspace, stream)).state
        for stream, version in expected.items():
            loaded = await self._load(home, workspace, stream)
            if loaded.version != version:
                raise VersionConflict(stream, version, loaded.version)
        return handler.decide(states, command)

    async def _load(self, home: _Workspace, workspace: WorkspaceId, stream: Stream) -> _Loaded:
        known = home.streams.get(stream)
        if known is not None:
            home.streams.move_to_end(stream)
            return known
        while stream in home.writing:
            await _durable(home.last)
        loaded = _fold(stream, await self._log.read(workspace, stream))
        home.streams[stream] = loaded
        while len(home.streams) > STREAMS_CACHED_MAX:
            home.streams.popitem(last=False)
        return loaded

    def _append(
        self, home: _Workspace, workspace: WorkspaceId, context: Context, digest: str, decision: Decision,
    ) -> asyncio.Future[Committed]:
        writes = tuple(StreamWrite(stream, home.streams[stream].version, tuple(events)) for stream, events in decision.items())
        pending = self._log.append(Commit(workspace, context, digest, writes))
        if pending.done() and pending.exception() is not None:
            return pending  # refused at the call (too large, key expired): nothing of it may be decided on
        for write in writes:
            evolve = kind_of(write.stream).evolve
            loaded = home.streams[write.stream]
            for event in write.events:
                loaded.state = evolve(loaded.state, event)
            loaded.version += len(write.events)
            home.writing[write.stream] = home.writing.get(write.stream, 0) + 1
        home.in_flight[pending] = None
        home.commands[context.command] = (digest, pending)
        pending.add_done_callback(lambda _: self._finish(home, context.command, writes, pending))
        return pending

    def _finish(self, home: _Workspace, command: CommandId, writes: tuple[StreamWrite, ...], pending: asyncio.Future[Committed]) -> None:
        home.commands.pop(command, None)
        home.in_flight.pop(pending, None)
        for write in writes:
            home.writing[write.stream] -= 1
            if not home.writing[write.stream]:
                del home.writing[write.stream]
        if pending.cancelled() or pending.exception() is not None or pending.result().again:
            home.streams.clear()
            home.generation += 1
        else:
            home.position = pending.result().position

    async def _newest(self, home: _Workspace, workspace: WorkspaceId) -> Position:
        if home.position is not None:
            return home.position
        shard = shard_of(workspace, self._log.shards)
        return Position(self._log.id, shard, (await self._log.ends()).get(shard, 0) - 1)


def hash_of(command: Any) -> str:
    """SHA-256 hex of a command's class and fields."""
    return hashlib.sha256(repr(command).encode()).hexdigest()


def _fold(stream: Stream, recorded: Any) -> _Loaded:
    """Raises: UnreadableHistory."""
    kind = kind_of(stream)
    state, version = kind.initial, 0
    for one in recorded:
        if isinstance(one.event, Unreadable):
            raise UnreadableHistory(stream, one.event.type, one.event.reason)
        state, version = kind.evolve(state, one.event), one.version
    return _Loaded(state, version)


def _done(committed: Committed, *, again: bool = False) -> Done:
    return Done(committed.position, committed.recorded, again or committed.again)


async def _durable(pending: asyncio.Future[Committed] | None) -> bool:
    """Whether the commit reached the log; waits for it."""
    if pending is None:
        return True
    await asyncio.wait({pending})
    return not pending.cancelled() and pending.exception() is None

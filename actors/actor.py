"""The one loop that every role runs in: what was heard and ticks in, commands and outside calls out.

A role is pure: `evolve` folds one event, `observe` folds what is not durable (a provider's list, heartbeats), `react` says
what it wants now. The loop keeps one state per workspace, asks `react` after each change and each tick, and sends each wish
once until it is told that it came true, was refused, or a little time has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, Generic

import structlog
from pydantic import TypeAdapter, ValidationError

from actors.outbox import Outbox
from actors.role import Call, Hands, Look, Role, Send, Started, State
from actors.snapshots import Snapshot
from core.events import Unreadable
from core.execute import Executor
from core.ids import WorkspaceId, shard_of
from core.ports import Batch, Clock, Shards

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Begin:
    """A shard begins with these states; what follows is from `next_offset` on."""

    shard: int
    next_offset: int
    states: Mapping[WorkspaceId, Any]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    shard: int


@dataclass(frozen=True, slots=True)
class Gone:
    shard: int


@dataclass(frozen=True, slots=True)
class Told:
    """Signals about one workspace, or none: look at it again."""

    workspace: WorkspaceId
    signals: tuple[object, ...] = ()


Heard = Begin | Batch | CaughtUp | Gone
Item = Heard | Told | Look


@dataclass(slots=True)
class _Home(Generic[State]):
    """One shard: up to where it was heard, and a state per workspace."""

    next_offset: int = 0
    live: bool = False
    states: dict[WorkspaceId, State] = field(default_factory=dict)
    frozen: set[WorkspaceId] = field(default_factory=set)
    """Workspaces with an event that cannot be read: nothing is folded, observed or wished for there from then on."""


class Actor(Generic[State]):
    """One role on this server, over all shards that it holds."""

    def __init__(
        self, role: Role[State], executor: Executor, clock: Clock, shards: Shards,
        *, shard_count: int, hands: Hands | None = None, inbox_max: int = 1_000,
    ) -> None:
        self.name, self.version = role.name, role.version
        self._role, self._clock, self._shard_count, self._hands = role, clock, shard_count, hands
        self._inbox: asyncio.Queue[Item] = asyncio.Queue(inbox_max)
        self._homes: dict[int, _Home[State]] = {}
        self._look_due = asyncio.Event()
        self._closed = False
        shape: Any = GenericAlias(dict, (str, role.shape))
        self._adapter: TypeAdapter[dict[str, State]] = TypeAdapter(shape)
        self._outbox = Outbox(role.name, executor, clock, lambda workspace: shards.epoch(self._shard(workspace)), hands, self._tell)

    async def run(self) -> None:
        """The loop. Ends only by cancellation, or with the error that `evolve`, `observe` or `react` raised."""
        tick = self._role.tick_seconds
        loop = asyncio.get_running_loop()
        due = loop.time() + tick
        async with asyncio.TaskGroup() as tasks:
            if self._hands is not None:
                tasks.create_task(self._watch(self._hands))
                tasks.create_task(self._listen(self._hands))
            while True:
                touched: set[WorkspaceId] = set()
                try:
                    async with asyncio.timeout_at(due):
                        touched |= self.take(await self._inbox.get())
                    while not self._inbox.empty() and loop.time() < due:
                        touched |= self.take(self._inbox.get_nowait())
                except TimeoutError:
                    due = loop.time() + tick
                    touched |= {workspace for home in self._homes.values() for workspace in home.states}
                wishes = self.wishes(touched)
                if self._hands is not None:
                    self._hands.foresee([(workspace, wish) for workspace, wish in wishes if isinstance(wish, Call)])
                for workspace, wish in wishes:
                    self._outbox.send(tasks, workspace, wish)

    def take(self, item: Item) -> set[WorkspaceId]:
        """Folds one item; returns the workspaces that it touched."""
        match item:
            case Batch():
                return self._fold(item)
            case Begin():
                self._homes[item.shard] = _Home(item.next_offset, False, dict(item.states))
                return set()
            case CaughtUp(shard):
                home = self._homes[shard]
                home.live = True
                self._look_due.set()
                started = Started(self._clock.now())
                return self._observe(dict.fromkeys(home.states, started))
            case Gone(shard):
                self._homes.pop(shard, None)
                return set()
            case Told(workspace, signals):
                for signal in signals:
                    self._observe({workspace: signal})
                return {workspace}
            case Look():
                everywhere = dict.fromkeys((w for home in self._homes.values() for w in home.states), item.otherwise)
                return self._observe({**everywhere, **item.by_workspace})

    def wishes(self, touched: set[WorkspaceId]) -> list[tuple[WorkspaceId, Send | Call]]:
        """What the role wants in these workspaces now. Nothing while it replays."""
        if self._role.together and not all(home.live for home in self._homes.values()):
            return []
        now, wishes = self._clock.now(), list[tuple[WorkspaceId, Send | Call]]()
        for workspace in touched:
            home = self._homes.get(self._shard(workspace))
            if home is not None and home.live and workspace in home.states and workspace not in home.frozen:
                wishes += [(workspace, wish) for wish in self._role.react(home.states[workspace], now)]
        return wishes

    def begin(self, shard: int, snapshot: Snapshot | None) -> Begin:
        """What the shard begins with: the snapshot, or nothing when there is none that can be read."""
        if snapshot is not None:
            try:
                states = self._adapter.validate_json(snapshot.content)
                return Begin(shard, snapshot.next_offset, {WorkspaceId(name): state for name, state in states.items()})
            except ValidationError:
                log.warning("actor.snapshot_unreadable", role=self.name, shard=shard)
        return Begin(shard, 0, {})

    def dump(self, shard: int) -> Snapshot | None:
        """The shard's states as of now. None while it is not caught up, or while a workspace is frozen: then the snapshot from before
        stays, from which a server that can read the event goes on."""
        home = self._homes.get(shard)
        if home is None or not home.live or home.frozen:
            return None
        return Snapshot(home.next_offset, self._adapter.dump_json({str(name): state for name, state in home.states.items()}))

    async def hear(self, item: Heard) -> None:
        """Waits while the inbox is full. A closed actor hears nothing."""
        if not self._closed:
            await self._inbox.put(item)

    def close(self) -> None:
        """After the loop's end: lets go of whoever waits for room in the inbox."""
        self._closed = True
        while not self._inbox.empty():
            self._inbox.get_nowait()

    def _fold(self, batch: Batch) -> set[WorkspaceId]:
        home, touched = self._homes[batch.shard], set[WorkspaceId]()
        for recorded in batch.recorded:
            if recorded.position.offset < home.next_offset or recorded.workspace in home.frozen:
                continue
            if isinstance(recorded.event, Unreadable):
                home.frozen.add(recorded.workspace)
                log.error("actor.workspace_frozen", role=self.name, event_id=recorded.id, **dict(recorded.event))
                continue
            before = home.states.get(recorded.workspace)
            if before is None:
                before = self._role.initial
                if home.live:
                    before = self._role.observe(before, Started(self._clock.now()))
            home.states[recorded.workspace] = self._role.evolve(before, recorded)
            touched.add(recorded.workspace)
            self._outbox.heard(recorded.workspace)
        home.next_offset = max(home.next_offset, batch.next_offset)
        return touched

    def _observe(self, signals: Mapping[WorkspaceId, object]) -> set[WorkspaceId]:
        for workspace, signal in signals.items():
            home = self._homes.get(self._shard(workspace))
            if home is not None and home.live and workspace not in home.frozen:
                home.states[workspace] = self._role.observe(home.states.get(workspace, self._role.initial), signal)
        return set(signals)

    async def _watch(self, hands: Hands) -> None:
        """Looks at the outside once caught up, every `look_seconds`, and whenever something changed there."""
        while True:
            try:
                async with asyncio.timeout(hands.look_seconds):
                    await self._look_due.wait()
            except TimeoutError:
                pass
            self._look_due.clear()
            try:
                await self._inbox.put(await hands.look())
            except Exception as error:
                log.error("actor.look_failed", role=self.name, error=repr(error))

    async def _listen(self, hands: Hands) -> None:
        while True:
            await hands.changed()
            self._look_due.set()

    def _tell(self, workspace: WorkspaceId, signals: Sequence[object]) -> None:
        try:
            self._inbox.put_nowait(Told(workspace, tuple(signals)))
        except asyncio.QueueFull:
            log.warning("actor.signal_skipped", role=self.name, workspace=workspace)

    def _shard(self, workspace: WorkspaceId) -> int:
        return shard_of(workspace, self._shard_count)

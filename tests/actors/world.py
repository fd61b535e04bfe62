"""A small world for tests of actors: a clock that stands still, a recorder of events, and a server's inside on the memory log."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.actor import Actor
from actors.desk import Desk
from actors.role import Role
from actors.snapshots import Snapshots
from actors.supervisor import Supervisor
from adapters.memory.log import MemoryLog, MemoryStore
from adapters.snapshots.memory import MemorySnapshots
from core.computes import CreateCompute
from core.environments import EnvironmentSpec
from core.events import Event, Recorded
from core.execute import Executor
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId
from core.nodes import JoinNode, NodeFacts
from core.ports import Context
from core.runs import JobSpec, SubmitRun

HOME = WorkspaceId("ws-0123456789ab")
MORNING = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
COMMANDS = itertools.count()
FACTS = NodeFacts(hostname="a", cores=2, memory_bytes=1, python="3.11", platform="linux", agent="0.1.0", sandbox="bubblewrap")


class StillClock:
    """Implements core.ports.Clock: time passes only when told so."""

    def __init__(self) -> None:
        self.at, self._random = MORNING, 0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - MORNING).total_seconds()

    def random(self, count: int) -> bytes:
        self._random += 1
        return self._random.to_bytes(count, "big")

    def pass_seconds(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(slots=True)
class Recorder:
    """Puts events into envelopes as a log would, without one."""

    workspace: WorkspaceId = HOME
    at: datetime = MORNING
    sequence: int = 0
    versions: dict[Stream, int] = field(default_factory=dict)

    def __call__(self, stream: str, event: Event, *, after_seconds: float = 0.0) -> Recorded:
        self.at += timedelta(seconds=after_seconds)
        self.sequence += 1
        name = Stream(stream)
        self.versions[name] = self.versions.get(name, 0) + 1
        return Recorded(
            event=event, id=f"{self.workspace}/{self.sequence}", workspace=self.workspace, stream=name, version=self.versions[name],
            sequence=self.sequence, chain="", at=self.at, actor=ActorId("user/u-1"), correlation=f"c{self.sequence}", causation=None,
            command=CommandId(f"command-{self.sequence}"), traceparent=None, position=Position("memory", 0, self.sequence - 1),
        )


def fold(role: Role[Any], recorded: Sequence[Recorded], state: Any = None) -> Any:
    state = role.initial if state is None else state
    for one in recorded:
        state = role.evolve(state, one)
    return state


@dataclass(slots=True)
class Server:
    """A server's inside: the log, the executor, the desk and the actors under their supervisor."""

    log: MemoryLog
    executor: Executor
    clock: StillClock
    desk: Desk
    supervisor: Supervisor

    async def do(self, command: Any, workspace: WorkspaceId = HOME) -> Sequence[Recorded]:
        name = f"test-{next(COMMANDS)}"
        context = Context(actor=ActorId("user/u-1"), command=CommandId(name), correlation=name)
        return (await self.executor.execute(workspace, command, context)).recorded

    async def happens(self, wanted: type[Event], count: int = 1) -> Sequence[Recorded]:
        """Waits until the log holds so many events of this kind; returns them."""
        found: list[Recorded] = []
        async with asyncio.timeout(10):
            async for batch in self.log.subscribe(dict.fromkeys(range(self.log.shards), 0)):
                found += [one for one in batch.recorded if isinstance(one.event, wanted)]
                if len(found) >= count:
                    return found
        raise AssertionError("the log ended")

    async def all_events(self) -> list[Event]:
        events: list[Event] = []
        async for batch in self.log.subscribe(dict.fromkeys(range(self.log.shards), 0), follow=False):
            events += [one.event for one in batch.recorded]
        return events


@asynccontextmanager
async def server(
    *roles: Role[Any], store: MemoryStore | None = None, snapshots: Snapshots | None = None, clock: StillClock | None = None,
    hands: dict[str, Any] | None = None,
) -> AsyncIterator[Server]:
    clock = clock or StillClock()
    log = MemoryLog(clock, store)
    executor = Executor(log)
    desk = Desk(clock, shard_count=log.shards)

    def seat(role: Role[Any]) -> Any:
        return lambda: Actor(role, executor, clock, log, shard_count=log.shards, hands=(hands or {}).get(role.name))

    supervisor = Supervisor(
        log, log, snapshots or MemorySnapshots(), first=[desk], actors=[seat(role) for role in roles], pause_seconds=0.001,
    )
    async with supervisor:
        await supervisor.caught_up()
        yield Server(log, executor, clock, desk, supervisor)


def job(command: str = "true", *, slots: int = 1, retries: int = 0) -> JobSpec:
    return JobSpec(command=command, environment=EnvironmentSpec(), slots=slots, retries_on_node_lost=retries)


def submit(run: str, compute: str = "cpu", *, slots: int = 1, retries: int = 0, parent: str | None = None) -> SubmitRun:
    return SubmitRun(run=run, experiment="digits", compute=compute, job=job(slots=slots, retries=retries), tags={}, parent=parent)


def create_compute(compute: str = "cpu", **settings: Any) -> CreateCompute:
    return CreateCompute(workspace=HOME, compute=compute, **settings)


def join(node: str, compute: str = "cpu", *, slots: int = 1) -> JoinNode:
    return JoinNode(node=node, compute=compute, slots=slots, facts=FACTS)

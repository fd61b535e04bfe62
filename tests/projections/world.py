"""A small world for the tests of the read models: the real core on the twin of the log, at a clock that stands still."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from adapters.memory.log import MemoryLog, MemoryStore
from adapters.memory.measurements import MemoryMeasurements
from bench.histories import Wish
from core.events import Event, Recorded
from core.execute import Done, Executor
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId
from core.ports import Context, EventLog, Measurements
from projections.readmodel import ReadModel
from tests.contract.settable_clock import SettableClock

W = WorkspaceId("ws-1")
OTHER = WorkspaceId("ws-2")
NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class World:
    """`await world.do(W, command)` records what the core decides; each command is a second later than the one before."""

    def __init__(
        self, *, shards: int = 1, log_id: str = "memory", log: EventLog | None = None, measurements: Measurements | None = None,
        clock: SettableClock | None = None,
    ) -> None:
        self.clock = clock or SettableClock(NOON)
        self.store = MemoryStore(shards=shards, log_id=log_id)
        self.log = log or MemoryLog(self.clock, self.store)
        self.measurements = measurements or MemoryMeasurements(self.clock, shards=shards, log_id=f"{log_id}-measurements")
        self.executor = Executor(self.log)
        self._commands = itertools.count(1)

    async def do(
        self, workspace: WorkspaceId, command: Any, *, actor: str = "user/u-1", correlation: str | None = None,
        causation: str | None = None,
    ) -> Done:
        number = next(self._commands)
        self.clock.advance(1)
        context = Context(
            actor=ActorId(actor), command=CommandId(f"{number:064x}"), correlation=correlation or f"c-{number}", causation=causation,
        )
        return await self.executor.execute(workspace, command, context)

    async def play(self, wishes: Iterable[Wish]) -> None:
        for wish in wishes:
            await self.do(wish.workspace, wish.command, actor=wish.actor)

    async def recorded(self) -> list[Recorded]:
        start = dict.fromkeys(range(self.log.shards), 0)
        return [one async for batch in self.log.subscribe(start, follow=False) for one in batch.recorded]


class Tape:
    """Events with an envelope, for tests that need no decision: `tape.add(event)`."""

    def __init__(self, workspace: WorkspaceId = W) -> None:
        self.workspace, self.recorded = workspace, list[Recorded]()

    def add(self, event: Event, *, actor: str = "user/u-1", at: datetime = NOON, stream: str = "run/r-1") -> Recorded:
        sequence = len(self.recorded) + 1
        recorded = Recorded(
            event=event, id=f"{self.workspace}/{sequence}", workspace=self.workspace, stream=Stream(stream), version=sequence,
            sequence=sequence, chain="0" * 64, at=at, actor=ActorId(actor), correlation=f"c-{sequence}", causation=None,
            command=CommandId(f"{sequence:064x}"), traceparent=None, position=Position("memory", 0, sequence - 1),
        )
        self.recorded.append(recorded)
        return recorded


def folded(model: ReadModel[Any], items: Iterable[Any]) -> dict[tuple[Any, ...], Any]:
    """The rows of a model after the items: what the runner writes, without a database."""
    rows: dict[tuple[Any, ...], Any] = {}
    for item in items:
        if model.hears is not None and type(item.event) not in model.hears:
            continue
        for key, fact in model.facts(item):
            rows[key] = model.fold(rows.get(key), fact)
    return {key: row for key, row in rows.items() if row is not None}

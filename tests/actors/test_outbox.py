"""The outbox and the loop: what is sent once, what is sent again, and calls that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors import scheduler
from actors.outbox import Outbox
from actors.role import Because, Call, Look, Send
from core.execute import Done, Executor
from core.ids import Position, Stream, WorkspaceId
from core.runs import RunPlaced
from tests.actors.world import HOME, StillClock, create_compute, join, server, submit

BECAUSE = Because("ws/1", 1, "c")
WISH = Send(object(), Stream("run/a"), 1, BECAUSE)


class CountingExecutor:
    """Grants everything, and counts."""

    def __init__(self) -> None:
        self.sent = 0

    async def execute(self, *_: Any, **__: Any) -> Done:
        self.sent += 1
        return Done(Position("memory", 0, 0), ())


class FailingHands:
    """Fails as often as told, then does what it is asked."""

    look_seconds = 3600.0

    def __init__(self, failures: int) -> None:
        self.failures, self.made = failures, 0

    async def look(self) -> Look:
        return Look({}, None)

    async def changed(self) -> None:
        await asyncio.Event().wait()

    def foresee(self, wishes: Sequence[tuple[WorkspaceId, Call]]) -> None:
        return

    async def perform(self, workspace: WorkspaceId, action: object, epoch: int) -> Sequence[object]:
        self.made += 1
        if self.made <= self.failures:
            raise OSError("no such machine")
        return ("done",)


def outbox(executor: Any, clock: StillClock, told: list[Any], hands: Any = None, epoch: int | None = 1) -> Outbox:
    return Outbox("role", executor, clock, lambda _: epoch, hands, lambda workspace, signals: told.append((workspace, tuple(signals))))


async def send(box: Outbox, wish: Send | Call, times: int = 1) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(times):
            box.send(tasks, HOME, wish)


async def test_a_wish_that_was_granted_is_not_sent_again_while_its_event_is_on_its_way() -> None:
    executor, clock = CountingExecutor(), StillClock()
    box = outbox(executor, clock, [])
    await send(box, WISH, times=3)
    await send(box, WISH)
    assert executor.sent == 1
    await send(box, replace(WISH, version=2))
    assert executor.sent == 2
    clock.pass_seconds(5)
    await send(box, WISH)
    assert executor.sent == 3


async def test_a_refused_wish_is_looked_at_again_only_when_something_new_was_heard() -> None:
    async with server() as inside:
        told: list[Any] = []
        box = outbox(inside.executor, inside.clock, told)
        refused = Send(submit("amber", compute="nowhere"), Stream("run/amber"), 0, BECAUSE)
        await send(box, refused)
        assert told == []
        async with asyncio.TaskGroup() as tasks:
            box.send(tasks, HOME, refused)
            box.heard(HOME)
        assert told == [(HOME, ())]


async def test_a_failed_call_is_made_again_after_a_pause_that_grows() -> None:
    clock, told = StillClock(), list[Any]()
    hands = FailingHands(failures=2)
    box = outbox(CountingExecutor(), clock, told, hands)
    call = Call("start n", "start")
    for after_seconds, made in ((0, 1), (0.9, 1), (0.2, 2), (1.9, 2), (0.2, 3)):
        clock.pass_seconds(after_seconds)
        await send(box, call)
        assert hands.made == made
    assert told == [(HOME, ("done",))]


async def test_no_call_is_made_without_the_shards_lease() -> None:
    hands = FailingHands(failures=0)
    await send(outbox(CountingExecutor(), StillClock(), [], hands, epoch=None), Call("start n", "start"))
    assert hands.made == 0


async def test_placements_of_a_burst_are_sent_at_once_and_each_only_once() -> None:
    async with server(scheduler.ROLE) as inside:
        await inside.do(create_compute(slots_per_node=50))
        await inside.do(join("cpu-1", slots=50))
        async with asyncio.TaskGroup() as tasks:
            for number in range(50):
                tasks.create_task(inside.do(submit(f"run-{number}")))
        placed = await inside.happens(RunPlaced, 50)
        assert len(placed) == 50
        assert isinstance(inside.executor, Executor)

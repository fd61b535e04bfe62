"""The desk: what a held request is answered, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from actors.actor import Begin, CaughtUp, Gone
from actors.desk import Desk, HeldAttempt, Work
from core.errors import Unavailable
from core.events import Event
from core.nodes import NodeGone, NodeReleaseRequested
from core.runs import RunCancelRequested, RunEnded, RunPlaced, RunPreempted, RunRequeued, RunScriptExited, RunStarted, RunSubmitted
from tests.actors.world import HOME, Recorder, StillClock, job

N = "cpu-1"


class Hall:
    """A desk that is told events of one workspace."""

    def __init__(self) -> None:
        self.clock, self.record = StillClock(), Recorder()
        self.desk = Desk(self.clock, shard_count=1)

    def tell(self, stream: str, *events: Event) -> None:
        for event in events:
            self.desk.apply(self.record(stream, event))

    def submit(self, run: str, **changed: object) -> None:
        submitted = RunSubmitted(run=run, experiment="digits", compute="cpu", job=job(retries=1))
        self.tell(f"run/{run}", submitted.model_copy(update=changed))

    def place(self, run: str, node: str = N, attempt: int = 1) -> None:
        self.tell(f"run/{run}", RunPlaced(run=run, attempt=attempt, node=node, reason=""))

    async def work(self, *held: HeldAttempt, wait_seconds: float = 0.0, node: str = N) -> Work:
        return await self.desk.work(HOME, node, held, wait_seconds)

    def waiting(self, *held: HeldAttempt, node: str = N) -> asyncio.Task[Work]:
        return asyncio.ensure_future(self.work(*held, wait_seconds=5, node=node))


@pytest.fixture
async def hall() -> Hall:
    found = Hall()
    await found.desk.hear(CaughtUp(0))
    return found


def names(work: Work) -> Sequence[tuple[str, int]]:
    return [(one.run, one.attempt) for one in work.assignments]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_waiting_node_hears_of_its_run_at_once_and_others_do_not(hall: Hall) -> None:
    mine, other = hall.waiting(), hall.waiting(node="cpu-2")
    await settle()
    hall.submit("a")
    hall.place("a")
    (assignment,) = (await mine).assignments
    assert (assignment.run, assignment.attempt, assignment.root, assignment.submitted.job.command) == ("a", 1, "a", "true")
    await settle()
    assert not other.done()
    other.cancel()


async def test_an_assignment_is_given_again_until_the_node_lists_it(hall: Hall) -> None:
    hall.submit("a")
    hall.place("a")
    assert names(await hall.work()) == [("a", 1)]
    hall.clock.pass_seconds(1)
    assert names(await hall.work(wait_seconds=5)) == [("a", 1)]
    assert await hall.work(HeldAttempt("a", 1, "preparing")) == Work()


async def test_a_node_that_asks_again_at_once_waits_instead_of_turning_in_circles(hall: Hall) -> None:
    hall.submit("a")
    hall.place("a")
    await hall.work()
    again = hall.waiting()
    await settle()
    assert not again.done()
    again.cancel()


async def test_an_attempt_that_started_is_never_given_out_again(hall: Hall) -> None:
    hall.submit("a")
    hall.place("a")
    hall.tell("run/a", RunStarted(run="a", attempt=1, environment_key="e"))
    assert names(await hall.work()) == []
    hall.tell("run/a", RunScriptExited(run="a", attempt=1, exit_code=0))
    assert names(await hall.work()) == []


@pytest.mark.parametrize(("event", "cause"), [
    (RunCancelRequested(run="a"), "canceled"), (RunPreempted(run="a", attempt=1, reason="room"), "preempted"),
])
async def test_a_stop_is_told_at_once_and_then_with_every_answer(hall: Hall, event: Event, cause: str) -> None:
    hall.submit("a")
    hall.place("a")
    held = HeldAttempt("a", 1)
    request = hall.waiting(held)
    await settle()
    hall.tell("run/a", event)
    (stop,) = (await request).stops
    assert (stop.run, stop.attempt, stop.cause) == ("a", 1, cause)
    second = hall.waiting(held)
    await settle()
    assert not second.done()
    second.cancel()
    assert len((await hall.work(held)).stops) == 1


async def test_a_run_canceled_before_its_node_heard_of_it_comes_with_its_stop(hall: Hall) -> None:
    hall.submit("a")
    hall.place("a")
    hall.tell("run/a", RunCancelRequested(run="a"))
    work = await hall.work()
    assert names(work) == [("a", 1)]
    assert len(work.stops) == 1


@pytest.mark.parametrize("over", [
    RunEnded(run="a", attempt=1, outcome="failed", reason="node_lost", message=""),
    RunRequeued(run="a", attempt=1, cause="node_lost", message=""),
])
async def test_attempts_that_are_over_are_dropped(hall: Hall, over: Event) -> None:
    hall.submit("a")
    hall.place("a")
    hall.tell("run/a", over)
    held = HeldAttempt("a", 1)
    assert (await hall.work(held, wait_seconds=5)).drop == (held,)


async def test_an_attempt_that_moved_to_another_node_is_dropped_here_and_given_there(hall: Hall) -> None:
    hall.submit("a")
    hall.place("a")
    hall.tell("run/a", RunRequeued(run="a", attempt=1, cause="node_lost", message=""))
    hall.place("a", node="cpu-2", attempt=2)
    held = HeldAttempt("a", 1)
    assert (await hall.work(held)).drop == (held,)
    (given,) = (await hall.work(node="cpu-2")).assignments
    assert (given.attempt, given.retries_on_node_lost) == (2, 0)


async def test_a_node_that_is_released_or_gone_is_told_at_once(hall: Hall) -> None:
    request = hall.waiting()
    await settle()
    hall.tell(f"node/{N}", NodeReleaseRequested(node=N, reason="idle"))
    assert (await request).release
    request = hall.waiting(node="cpu-2")
    await settle()
    hall.tell("node/cpu-2", NodeGone(node="cpu-2", reason="forgotten"))
    assert (await request).release


async def test_a_newer_request_of_a_node_ends_the_older_one(hall: Hall) -> None:
    older = hall.waiting()
    await settle()
    newer = hall.waiting()
    assert await older == Work()
    hall.submit("a")
    hall.place("a")
    assert names(await newer) == [("a", 1)]


async def test_a_childs_root_is_the_topmost_parent_even_when_that_has_ended(hall: Hall) -> None:
    hall.submit("top")
    hall.submit("middle", parent="top")
    hall.tell("run/top", RunEnded(run="top", outcome="canceled", reason="canceled", message=""))
    hall.submit("leaf", parent="middle")
    hall.place("leaf")
    assert (await hall.work()).assignments[0].root == "top"


async def test_nothing_is_answered_before_the_log_was_caught_up_with_nor_after_the_shard_was_lost() -> None:
    hall = Hall()
    with pytest.raises(Unavailable):
        await hall.work(HeldAttempt("a", 1))
    await hall.desk.hear(Begin(0, 0, {}))
    with pytest.raises(Unavailable):
        await hall.work(HeldAttempt("a", 1))
    await hall.desk.hear(CaughtUp(0))
    request = hall.waiting()
    await settle()
    await hall.desk.hear(Gone(0))
    with pytest.raises(Unavailable):
        await request


async def test_the_floor_survives_a_snapshot(hall: Hall) -> None:
    hall.submit("a")
    hall.submit("b", parent="a")
    hall.place("a")
    hall.tell("run/a", RunCancelRequested(run="a"))
    snapshot = hall.desk.dump(0)
    later = Desk(hall.clock, shard_count=1)
    await later.hear(later.begin(0, snapshot))
    await later.hear(CaughtUp(0))
    assert await later.work(HOME, N, [], 0) == await hall.work()


async def test_signs_of_life_are_kept_until_the_watchdog_takes_them(hall: Hall) -> None:
    await hall.work(HeldAttempt("a", 1))
    hall.desk.heard(HOME, N, [HeldAttempt("b", 2)])
    (heard,) = hall.desk.take_heard()[HOME]
    assert {(one.run, one.attempt) for one in heard.attempts} == {("a", 1), ("b", 2)}
    assert hall.desk.take_heard() == {}

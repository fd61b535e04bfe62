"""The scheduler, pure: what it wants after what it heard."""

from __future__ import annotations

from collections.abc import Sequence

from actors import scheduler
from actors.role import Send
from actors.scheduler import Queue
from core.computes import ComputeCreated, ComputeDeleted
from core.ids import derived_command
from core.nodes import NodeGone, NodeJoined, NodeReachable, NodeReleaseRequested, NodeUnreachable, SlotFreed, SlotTaken
from core.runs import CancelRun, PlaceRun, RunEnded, RunPlaced, RunRequeued, RunSubmitted
from tests.actors.world import FACTS, MORNING, Recorder, fold, job

cluster = ComputeCreated(compute="cpu", min_nodes=0, max_nodes=2, idle_seconds=60)


def submitted(run: str, *, slots: int = 1, compute: str = "cpu") -> RunSubmitted:
    return RunSubmitted(run=run, experiment="digits", compute=compute, job=job(slots=slots))


def joined(node: str, *, slots: int = 1) -> NodeJoined:
    return NodeJoined(node=node, compute="cpu", slots=slots, facts=FACTS)


def placed(record: Recorder, run: str, node: str, attempt: int = 1) -> list[object]:
    return [
        record(f"run/{run}", RunPlaced(run=run, attempt=attempt, node=node, reason="")),
        record(f"node/{node}", SlotTaken(node=node, run=run, attempt=attempt, slots=1)),
    ]


def placements(queue: Queue) -> list[tuple[str, str]]:
    return [(send.command.run, send.command.node) for send in wishes(queue) if isinstance(send.command, PlaceRun)]


def wishes(queue: Queue) -> Sequence[Send]:
    return scheduler.react(queue, MORNING)


def test_the_scheduler_falls_silent_once_it_is_told_that_the_run_was_placed() -> None:
    record = Recorder()
    queue = fold(scheduler.ROLE, [record("run/a", submitted("a")), record("node/n", joined("n"))])
    assert placements(queue) == [("a", "n")]
    assert placements(fold(scheduler.ROLE, placed(record, "a", "n"), queue)) == []


def test_the_same_wish_has_the_same_command_id_until_the_run_is_queued_again() -> None:
    record = Recorder()
    queue = fold(scheduler.ROLE, [record("run/a", submitted("a")), record("node/n", joined("n")), record("node/m", joined("m"))])

    def command(state: Queue) -> str:
        (send,) = wishes(state)
        return derived_command("scheduler", send.stream, send.version, send.ordinal)

    first = command(queue)
    assert command(fold(scheduler.ROLE, [record("node/m", NodeUnreachable(node="m", silent_seconds=15))], queue)) == first
    again = RunRequeued(run="a", attempt=1, cause="preempted", message="")
    freed = record("node/n", SlotFreed(node="n", run="a", attempt=1))
    later = fold(scheduler.ROLE, [*placed(record, "a", "n"), record("run/a", again), freed], queue)
    assert command(later) != first


def test_first_come_first_served_and_a_run_that_lost_its_node_keeps_its_turn() -> None:
    record = Recorder()
    queue = fold(scheduler.ROLE, [record(f"run/{name}", submitted(name)) for name in "abc"])
    queue = fold(scheduler.ROLE, [record("node/n", joined("n")), *placed(record, "a", "n")], queue)
    gone = record("node/n", NodeGone(node="n", reason="off"))
    lost = record("run/a", RunRequeued(run="a", attempt=1, cause="node_lost", message=""))
    queue = fold(scheduler.ROLE, [lost, gone, record("node/m", joined("m", slots=2))], queue)
    assert placements(queue) == [("a", "m"), ("b", "m")]


def test_a_preempted_run_goes_to_the_end_of_the_queue() -> None:
    record = Recorder()
    heard = [record("run/a", submitted("a")), record("node/n", joined("n")), *placed(record, "a", "n"), record("run/b", submitted("b"))]
    heard.append(record("run/a", RunRequeued(run="a", attempt=1, cause="preempted", message="")))
    heard.append(record("node/n", SlotFreed(node="n", run="a", attempt=1)))
    assert placements(fold(scheduler.ROLE, heard)) == [("b", "n")]


def test_nothing_is_placed_on_a_node_that_is_silent_leaving_or_gone() -> None:
    for last in (NodeUnreachable(node="n", silent_seconds=15), NodeReleaseRequested(node="n", reason=""), NodeGone(node="n", reason="")):
        record = Recorder()
        queue = fold(scheduler.ROLE, [record("run/a", submitted("a")), record("node/n", joined("n")), record("node/n", last)])
        assert placements(queue) == []
    record = Recorder()
    heard = [record("run/a", submitted("a")), record("node/n", joined("n"))]
    heard += [record("node/n", NodeUnreachable(node="n", silent_seconds=15)), record("node/n", NodeReachable(node="n"))]
    assert placements(fold(scheduler.ROLE, heard)) == [("a", "n")]


def test_a_run_that_was_canceled_in_the_queue_is_not_placed() -> None:
    record = Recorder()
    ended = RunEnded(run="a", outcome="canceled", reason="canceled", message="")
    queue = fold(scheduler.ROLE, [record("run/a", submitted("a")), record("run/a", ended), record("node/n", joined("n"))])
    assert wishes(queue) == []


def test_causation_is_what_came_last_and_the_correlation_is_the_runs_own() -> None:
    record = Recorder()
    first = record("run/a", submitted("a"))
    then = record("node/n", joined("n"))
    (send,) = wishes(fold(scheduler.ROLE, [first, then]))
    assert (send.because.event, send.because.correlation) == (then.id, first.correlation)


def test_what_waits_on_a_deleted_compute_is_canceled_because_of_that() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster), record("run/a", submitted("a")), record("run/b", submitted("b", compute="gpu"))]
    deleted = record("compute/cpu", ComputeDeleted(compute="cpu"))
    (send,) = wishes(fold(scheduler.ROLE, [*heard, deleted]))
    assert send.command == CancelRun(run="a")
    assert send.because.event == deleted.id
    again = fold(scheduler.ROLE, [*heard, deleted, record("compute/cpu", cluster)])
    assert wishes(again) == []


def test_an_ended_run_leaves_nothing_behind() -> None:
    record = Recorder()
    ended = RunEnded(run="a", attempt=1, outcome="completed", reason="succeeded", message="")
    heard = [record("run/a", submitted("a")), record("node/n", joined("n")), *placed(record, "a", "n")]
    heard += [record("run/a", ended), record("node/n", SlotFreed(node="n", run="a", attempt=1))]
    heard.append(record("node/n", NodeGone(node="n", reason="")))
    assert fold(scheduler.ROLE, heard) == Queue({}, {}, {})

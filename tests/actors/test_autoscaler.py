"""The autoscaler, pure: what it wants after what it heard."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from actors import autoscaler
from actors.autoscaler import Load
from core.computes import ClusterScaled, ComputeCreated, ComputeDeleted, ComputeUpdated, ScaleCluster
from core.events import Recorded
from core.nodes import NodeGone, NodeJoined, NodeReleaseRequested, NodeRequested, NodeUnreachable, SlotFreed, SlotTaken
from core.runs import RunEnded, RunPlaced, RunSubmitted
from tests.actors.world import FACTS, Recorder, fold, job


def cluster(**changed: Any) -> ComputeCreated:
    return ComputeCreated(**({"compute": "cpu", "min_nodes": 0, "max_nodes": 4, "idle_seconds": 60.0} | changed))


def submitted(run: str, slots: int = 1) -> RunSubmitted:
    return RunSubmitted(run=run, experiment="digits", compute="cpu", job=job(slots=slots))


def requested(node: str) -> NodeRequested:
    return NodeRequested(node=node, compute="cpu", provider="local", slots=1, reason="")


def joined(node: str) -> NodeJoined:
    return NodeJoined(node=node, compute="cpu", slots=1, facts=FACTS)


def scaled(wanted: int, before: int) -> ClusterScaled:
    return ClusterScaled(compute="cpu", wanted=wanted, before=before, reason="")


def wanted(load: Load, record: Recorder, after_seconds: float = 0.0) -> list[int]:
    sends = autoscaler.react(load, record.at + timedelta(seconds=after_seconds))
    assert all(isinstance(send.command, ScaleCluster) and send.command.reason for send in sends)
    return [send.command.wanted for send in sends]


def test_the_cluster_grows_at_once_for_each_run_that_finds_no_room() -> None:
    record = Recorder()
    waiting = [record("compute/cpu", cluster()), record("run/a", submitted("a")), record("run/b", submitted("b"))]
    load = fold(autoscaler.ROLE, waiting)
    (send,) = autoscaler.react(load, record.at)
    assert send.command.wanted == 2
    assert send.because.event == waiting[-1].id


def test_the_autoscaler_falls_silent_once_it_has_what_it_asked_for() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster()), record("run/a", submitted("a")), record("compute/cpu", scaled(1, 0))]
    load = fold(autoscaler.ROLE, heard)
    assert wanted(load, record) == []
    load = fold(autoscaler.ROLE, [record("node/n", requested("n"))], load)
    assert wanted(load, record) == []
    load = fold(autoscaler.ROLE, [record("node/n", joined("n"))], load)
    assert wanted(load, record, after_seconds=600) == []


def test_it_never_asks_for_more_than_the_most() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster(max_nodes=2)), *(record(f"run/{n}", submitted(str(n))) for n in range(9))]
    assert wanted(fold(autoscaler.ROLE, heard), record) == [2]


def test_a_run_that_no_remaining_gap_can_hold_makes_the_cluster_grow_although_slots_are_free() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster(slots_per_node=2)), record("compute/cpu", scaled(2, 0))]
    heard += [record(f"node/{n}", joined(n).model_copy(update={"slots": 2})) for n in "nm"]
    heard += [record(f"node/{n}", SlotTaken(node=n, run=f"on-{n}", attempt=1, slots=1)) for n in "nm"]
    assert wanted(fold(autoscaler.ROLE, [*heard, record("run/big", submitted("big", 2))]), record) == [3]


def busy(record: Recorder) -> list[Recorded]:
    """Two nodes, each with a run."""
    heard = [record("compute/cpu", cluster()), record("run/a", submitted("a")), record("run/b", submitted("b"))]
    heard.append(record("compute/cpu", scaled(2, 0)))
    for run, node in (("a", "n"), ("b", "m")):
        heard += [record(f"node/{node}", requested(node)), record(f"node/{node}", joined(node))]
        heard.append(record(f"run/{run}", RunPlaced(run=run, attempt=1, node=node, reason="")))
        heard.append(record(f"node/{node}", SlotTaken(node=node, run=run, attempt=1, slots=1)))
    return heard


def ended(record: Recorder, run: str, node: str, after_seconds: float = 0.0) -> list[Recorded]:
    over = RunEnded(run=run, attempt=1, outcome="completed", reason="succeeded", message="")
    return [
        record(f"run/{run}", over, after_seconds=after_seconds),
        record(f"node/{node}", SlotFreed(node=node, run=run, attempt=1)),
    ]


def test_an_idle_node_goes_after_the_idle_time_and_a_busy_one_stays() -> None:
    record = Recorder()
    load = fold(autoscaler.ROLE, [*busy(record), *ended(record, "a", "n")])
    assert wanted(load, record, after_seconds=59) == []
    assert wanted(load, record, after_seconds=60) == [1]
    assert wanted(load, record, after_seconds=6000) == [1]


def test_a_node_that_was_busy_a_moment_ago_stays_when_another_goes() -> None:
    record = Recorder()
    load = fold(autoscaler.ROLE, [*busy(record), *ended(record, "a", "n"), *ended(record, "b", "m", after_seconds=50)])
    assert wanted(load, record, after_seconds=20) == [1]
    assert wanted(load, record, after_seconds=61) == [0]


def test_nothing_shrinks_while_runs_wait() -> None:
    record = Recorder()
    heard = [*busy(record), *ended(record, "a", "n"), record("run/c", submitted("c"))]
    assert wanted(fold(autoscaler.ROLE, heard), record, after_seconds=600) == []


def test_released_and_lost_nodes_are_not_counted_as_coming() -> None:
    record = Recorder()
    heard = [*busy(record), *ended(record, "a", "n"), record("compute/cpu", scaled(1, 2))]
    heard += [record("node/n", NodeReleaseRequested(node="n", reason="")), record("node/n", NodeGone(node="n", reason=""))]
    load = fold(autoscaler.ROLE, heard)
    assert wanted(load, record, after_seconds=600) == []
    assert wanted(fold(autoscaler.ROLE, [record("run/c", submitted("c"))], load), record) == [2]


def test_room_on_an_unreachable_node_is_not_hoped_for() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster()), record("compute/cpu", scaled(1, 0)), record("node/n", joined("n"))]
    heard += [record("node/n", NodeUnreachable(node="n", silent_seconds=15)), record("run/a", submitted("a"))]
    assert wanted(fold(autoscaler.ROLE, heard), record) == [2]


def test_new_limits_are_kept_at_once() -> None:
    record = Recorder()
    load = fold(autoscaler.ROLE, [record("compute/cpu", cluster()), record("compute/cpu", ComputeUpdated(compute="cpu", min_nodes=2))])
    assert wanted(load, record) == [2]
    lower = record("compute/cpu", ComputeUpdated(compute="cpu", min_nodes=0, max_nodes=1))
    load = fold(autoscaler.ROLE, [record("compute/cpu", scaled(2, 0)), lower], load)
    assert wanted(load, record) == [1]


def test_machines_that_join_by_themselves_and_deleted_clusters_are_left_alone() -> None:
    record = Recorder()
    heard = [record("compute/cpu", cluster(provider="joined")), record("run/a", submitted("a"))]
    assert wanted(fold(autoscaler.ROLE, heard), record) == []
    record = Recorder()
    heard = [record("compute/cpu", cluster()), record("run/a", submitted("a")), record("compute/cpu", ComputeDeleted(compute="cpu"))]
    assert wanted(fold(autoscaler.ROLE, heard), record) == []

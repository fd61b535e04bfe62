"""The node actor, pure: which nodes it requests, starts, releases, stops and gives up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from actors import node as node_actor
from actors.node import Fleet, Listed, NodeStarted, NodeStopped, StartNode, StopNode
from actors.role import Call, Send, Started
from core.computes import ClusterScaled, ComputeCreated, ComputeDeleted
from core.events import Recorded
from core.nodes import LoseNode, NodeGone, NodeJoined, NodeReleaseRequested, NodeRequested, ReleaseNode, RequestNode, SlotFreed, SlotTaken
from tests.actors.world import FACTS, HOME, MORNING, Recorder, fold

ROLE = node_actor.role(join_seconds=60)


def cluster(record: Recorder, wanted: int, **changed: Any) -> list[Recorded]:
    made = ComputeCreated(**({"compute": "cpu", "min_nodes": 0, "max_nodes": 9, "idle_seconds": 60.0, "slots_per_node": 2} | changed))
    return [record("compute/cpu", made), record("compute/cpu", ClusterScaled(compute="cpu", wanted=wanted, before=0, reason=""))]


def scaled(record: Recorder, wanted: int) -> Recorded:
    return record("compute/cpu", ClusterScaled(compute="cpu", wanted=wanted, before=0, reason=""))


def requested(record: Recorder, name: str, after_seconds: float = 0.0) -> Recorded:
    event = NodeRequested(node=name, compute="cpu", provider="local", slots=2, reason="queue")
    return record(f"node/{name}", event, after_seconds=after_seconds)


def joined(record: Recorder, name: str) -> Recorded:
    return record(f"node/{name}", NodeJoined(node=name, compute="cpu", slots=2, facts=FACTS))


def seen(fleet: Fleet, *signals: object) -> Fleet:
    for signal in signals:
        fleet = ROLE.observe(fleet, signal)
    return fleet


def listed(*names: str, after_seconds: float = 0.0) -> Listed:
    return Listed(frozenset(names), MORNING + timedelta(seconds=after_seconds))


def wishes(fleet: Fleet, record: Recorder, after_seconds: float = 0.0) -> list[object]:
    found = ROLE.react(fleet, record.at + timedelta(seconds=after_seconds))
    return [wish.command if isinstance(wish, Send) else wish.action for wish in found if isinstance(wish, Send | Call)]


def test_nothing_is_done_before_the_first_look() -> None:
    record = Recorder()
    assert wishes(fold(ROLE, cluster(record, 2)), record) == []


def test_missing_nodes_are_requested_under_names_that_never_come_twice() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, cluster(record, 2)), listed())
    first = wishes(fleet, record)
    assert [type(wish) for wish in first] == [RequestNode, RequestNode]
    names = [wish.node for wish in first if isinstance(wish, RequestNode)]
    assert wishes(fleet, record) == first
    fleet = fold(ROLE, [requested(record, name) for name in names], fleet)
    assert not any(isinstance(wish, RequestNode) for wish in wishes(fleet, record))
    fleet = fold(ROLE, [record(f"node/{names[0]}", NodeGone(node=names[0], reason=""))], fleet)
    (third,) = [wish.node for wish in wishes(fleet, record) if isinstance(wish, RequestNode)]
    assert third not in names
    assert len({node_actor.name_of(HOME, "cpu", n) for n in range(5000)}) == 5000


def test_a_machine_is_started_only_once_its_request_is_in_the_log() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, [*cluster(record, 1), requested(record, "n")]), listed())
    assert wishes(fleet, record) == [StartNode("n", "cpu", 2)]
    fleet = seen(fleet, NodeStarted("n", record.at))
    assert wishes(fleet, record) == []


def test_an_agent_that_died_is_started_again_soon_and_one_that_dies_at_once_ever_later() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, [*cluster(record, 1), requested(record, "n"), joined(record, "n")]), listed("n"))
    fleet = seen(fleet, listed())
    assert wishes(fleet, record) == [StartNode("n", "cpu", 2)]
    for _ in range(4):
        fleet = seen(fleet, NodeStarted("n", record.at), listed())
    assert wishes(fleet, record, after_seconds=15) == []
    assert wishes(fleet, record, after_seconds=16) == [StartNode("n", "cpu", 2)]
    lived = seen(fleet, listed("n", after_seconds=61), listed(after_seconds=62))
    assert wishes(lived, record, after_seconds=62) == [StartNode("n", "cpu", 2)]


def test_the_longest_idle_nodes_are_released_first_and_busy_ones_never() -> None:
    record = Recorder()
    heard = [*cluster(record, 3)]
    for name in ("a", "b", "c"):
        heard += [requested(record, name), joined(record, name)]
    heard.append(record("node/a", SlotTaken(node="a", run="r", attempt=1, slots=1)))
    heard.append(record("node/b", SlotTaken(node="b", run="s", attempt=1, slots=1)))
    heard.append(record("node/b", SlotFreed(node="b", run="s", attempt=1), after_seconds=5))
    fleet = seen(fold(ROLE, heard), listed("a", "b", "c"))
    released = [wish.node for wish in wishes(fold(ROLE, [scaled(record, 2)], fleet), record) if isinstance(wish, ReleaseNode)]
    assert released == ["c"]
    released = [wish.node for wish in wishes(fold(ROLE, [scaled(record, 0)], fleet), record) if isinstance(wish, ReleaseNode)]
    assert released == ["c", "b"]


def test_a_node_that_has_not_joined_yet_goes_before_one_that_has() -> None:
    record = Recorder()
    heard = [*cluster(record, 2), requested(record, "old"), joined(record, "old"), requested(record, "new", after_seconds=9)]
    fleet = seen(fold(ROLE, [*heard, scaled(record, 1)]), listed("old", "new"))
    assert [wish.node for wish in wishes(fleet, record) if isinstance(wish, ReleaseNode)] == ["new"]


def test_a_released_node_is_stopped_and_then_gone() -> None:
    record = Recorder()
    heard = [*cluster(record, 1), requested(record, "n"), joined(record, "n"), scaled(record, 0)]
    released = record("node/n", NodeReleaseRequested(node="n", reason="idle"))
    fleet = seen(fold(ROLE, [*heard, released]), listed("n"))
    assert wishes(fleet, record) == [StopNode("n")]
    fleet = seen(fleet, NodeStopped("n"))
    assert wishes(fleet, record) == [LoseNode(node="n", reason="released: idle")]
    fleet = fold(ROLE, [record("node/n", NodeGone(node="n", reason=""))], fleet)
    assert wishes(fleet, record) == []


def test_a_node_that_never_joins_is_given_up_so_that_another_comes() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, [*cluster(record, 1), requested(record, "n")]), listed("n"))
    assert wishes(fleet, record, after_seconds=60) == []
    (lost,) = wishes(fleet, record, after_seconds=61)
    assert isinstance(lost, LoseNode)
    fleet = fold(ROLE, [record("node/n", NodeGone(node="n", reason=""))], fleet)
    assert [type(wish) for wish in wishes(fleet, record)] == [RequestNode, StopNode]


def test_a_node_that_lives_through_no_start_is_given_up_unless_it_holds_work() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, [*cluster(record, 1), requested(record, "n")]), listed())
    for _ in range(node_actor.STARTS_MAX):
        fleet = seen(fleet, NodeStarted("n", record.at), listed())
    assert [type(wish) for wish in wishes(fleet, record)] == [LoseNode]
    worked = fold(ROLE, [joined(record, "n")], fleet)
    for _ in range(20):
        worked = seen(worked, NodeStarted("n", record.at), listed())
    assert [type(wish) for wish in wishes(worked, record, after_seconds=60)] == [StartNode]


def test_strays_are_stopped() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, cluster(record, 0)), listed("stray"))
    assert wishes(fleet, record) == [StopNode("stray")]


def test_a_start_of_the_server_looks_again_before_it_does_anything() -> None:
    record = Recorder()
    fleet = seen(fold(ROLE, [*cluster(record, 1), requested(record, "n"), joined(record, "n")]), listed("n"), Started(record.at))
    assert wishes(fleet, record) == []
    assert wishes(seen(fleet, listed()), record) == [StartNode("n", "cpu", 2)]


def test_a_machine_of_ones_own_is_never_started_and_is_told_to_end_before_it_is_gone() -> None:
    record = Recorder()
    heard = [*cluster(record, 0, provider="joined"), joined(record, "mine")]
    fleet = seen(fold(ROLE, heard), listed())
    assert wishes(fleet, record, after_seconds=600) == []
    deleted = record("compute/cpu", ComputeDeleted(compute="cpu"))
    fleet = fold(ROLE, [deleted], fleet)
    assert wishes(fleet, record) == [ReleaseNode(node="mine", reason="cpu wants 0 nodes and has 1")]
    fleet = fold(ROLE, [record("node/mine", NodeReleaseRequested(node="mine", reason="idle"))], fleet)
    assert wishes(fleet, record, after_seconds=29) == []
    assert [type(wish) for wish in wishes(fleet, record, after_seconds=30)] == [LoseNode]

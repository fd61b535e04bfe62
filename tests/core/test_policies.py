"""Placement and scaling, as properties over many situations."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from core.placement import Room, Waiting, place
from core.scaling import Demand, scale

COMPUTES = st.sampled_from(["cpu", "gpu"])
QUEUES = st.lists(st.tuples(COMPUTES, st.integers(1, 4)), max_size=20).map(
    lambda entries: [Waiting(f"run-{n}", compute, slots) for n, (compute, slots) in enumerate(entries)]
)
ROOMS = st.lists(st.tuples(COMPUTES, st.integers(0, 4), st.integers(0, 4)), max_size=8).map(
    lambda entries: [Room(f"node-{n}", compute, free, used) for n, (compute, free, used) in enumerate(entries)]
)


@given(QUEUES, ROOMS)
def test_no_node_is_ever_over_its_capacity_and_no_run_goes_to_another_compute(queue: list[Waiting], rooms: list[Room]) -> None:
    taken: dict[str, int] = defaultdict(int)
    runs, nodes = {one.run: one for one in queue}, {one.node: one for one in rooms}
    for placement in place(queue, rooms):
        assert runs[placement.run].compute == nodes[placement.node].compute
        taken[placement.node] += runs[placement.run].slots
    assert all(taken[name] <= room.free for name, room in nodes.items())


@given(QUEUES, ROOMS)
def test_runs_of_one_compute_are_placed_in_the_order_in_which_they_came(queue: list[Waiting], rooms: list[Room]) -> None:
    placed = {placement.run for placement in place(queue, rooms)}
    for compute in ("cpu", "gpu"):
        line = [one.run in placed for one in queue if one.compute == compute]
        assert line == sorted(line, reverse=True)


@given(QUEUES, ROOMS)
def test_the_first_in_line_waits_only_when_no_node_has_room_for_it(queue: list[Waiting], rooms: list[Room]) -> None:
    placed = {placement.run for placement in place(queue, rooms)}
    for compute in ("cpu", "gpu"):
        line = [one for one in queue if one.compute == compute]
        if line and line[0].run not in placed:
            assert all(room.free < line[0].slots for room in rooms if room.compute == compute)


@given(QUEUES, ROOMS)
def test_no_run_is_placed_twice_and_the_same_situation_gives_the_same_answer(queue: list[Waiting], rooms: list[Room]) -> None:
    first = place(queue, rooms)
    assert len({placement.run for placement in first}) == len(first)
    assert place(queue, rooms) == first
    assert all(placement.reason for placement in first)


DEMANDS = st.builds(
    lambda low, more, slots, wanted, busy, queued, fitting, idle: Demand(
        min_nodes=low, max_nodes=max(1, low + more), slots_per_node=slots, wanted=wanted, busy_nodes=min(busy, max(1, low + more)),
        queued_slots=queued, free_slots=min(fitting, queued), idle_for_seconds=0.0 if queued else idle, idle_seconds=60.0,
    ),
    st.integers(0, 5), st.integers(0, 10), st.integers(1, 8), st.integers(0, 20), st.integers(0, 15), st.integers(0, 50),
    st.integers(0, 50), st.floats(0, 200),
)


@given(DEMANDS)
def test_a_cluster_stays_between_its_limits_and_never_below_what_is_busy(demand: Demand) -> None:
    wanted = scale(demand).wanted
    assert demand.min_nodes <= wanted <= demand.max_nodes
    assert wanted >= demand.busy_nodes


@given(DEMANDS)
def test_runs_that_wait_without_room_make_a_cluster_grow_until_it_may_not(demand: Demand) -> None:
    if demand.queued_slots > demand.free_slots and demand.min_nodes <= demand.wanted < demand.max_nodes:
        assert scale(demand).wanted > demand.wanted


@given(DEMANDS)
def test_nothing_shrinks_before_it_was_idle_for_long_enough(demand: Demand) -> None:
    answer = scale(demand)
    if answer.wanted < demand.wanted <= demand.max_nodes:
        assert demand.queued_slots == 0
        assert demand.idle_for_seconds >= demand.idle_seconds


@given(DEMANDS)
def test_a_cluster_that_got_what_it_asked_for_asks_for_nothing_more(demand: Demand) -> None:
    first = scale(demand)
    grown = max(0, first.wanted - demand.wanted) * demand.slots_per_node
    after = replace(demand, wanted=first.wanted, free_slots=min(demand.queued_slots, demand.free_slots + grown))
    assert scale(after).wanted == first.wanted
    assert first.reason

"""A day in a workspace, from hundreds of seeds: people submit, cancel and preempt; nodes fall silent and burn; then it is quiet."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from core.computes import ClusterScaled, CreateCompute
from core.nodes import NodeGone, NodeJoined, NodeRequested
from core.runs import CancelRun, PreemptRun, RunPlaced, RunRequeued, RunSubmitted, SubmitRun
from tests.simulation.world import HOME, World, job

SEEDS, CHUNKS = 300, 10
TROUBLE_SECONDS, QUIET_SECONDS = 120.0, 400.0
IDLE_SECONDS = 20.0


def day(seed: int, *, trouble_seconds: float = TROUBLE_SECONDS) -> World:
    world = World(seed)
    slots, most = world.random.choice((1, 1, 2, 4)), world.random.randint(1, 4)
    least = world.random.choice((0, 0, 1))
    world.do(CreateCompute(
        workspace=HOME, compute="cpu", min_nodes=min(least, most), max_nodes=most, idle_seconds=IDLE_SECONDS, slots_per_node=slots,
    ))
    for number in range(world.random.randint(1, 20)):
        run = f"run-{number}"
        wanted = job(world.random.randint(1, slots), world.random.choice((0, 0, 1, 2)))
        wish = SubmitRun(run=run, experiment="digits", compute="cpu", tags={}, job=wanted)
        at = world.random.uniform(0, TROUBLE_SECONDS * 0.7)
        world.after(at, lambda wish=wish: world.do(wish))  # type: ignore[misc]  # bound here
        if world.random.random() < 0.2:
            world.after(at + world.random.expovariate(0.1), lambda run=run: world.do(CancelRun(run=run)))  # type: ignore[misc]
        if world.random.random() < 0.1:
            world.after(at + world.random.expovariate(0.1), lambda run=run: world.do(PreemptRun(run=run, reason="room")))  # type: ignore[misc]
    world.trouble_until = trouble_seconds
    world.run(TROUBLE_SECONDS)
    world.run(QUIET_SECONDS)
    return world


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_after_any_day_every_run_has_ended_once_and_the_cluster_has_settled(chunk: int) -> None:
    for seed in range(chunk, SEEDS, CHUNKS):
        try:
            world = day(seed)
            world.check_at_quiet()
            check_settled(world)
        except AssertionError as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation


def check_settled(world: World) -> None:
    """The cluster wants its least, has exactly so many nodes, and nothing was recorded for a while."""
    cluster = world.states["compute/cpu"]
    assert cluster.wanted == cluster.min_nodes
    alive = {one.event.node for one in world.log if isinstance(one.event, NodeRequested)}
    alive -= {one.event.node for one in world.log if isinstance(one.event, NodeGone)}
    assert len(alive) == cluster.min_nodes
    assert set(world.machines) == alive
    length = len(world.log)
    world.run(60)
    assert len(world.log) == length


def test_the_same_seed_is_the_same_day() -> None:
    assert [one.event for one in day(7).log] == [one.event for one in day(7).log]
    assert [one.event for one in day(7).log] != [one.event for one in day(8).log]


def test_the_days_are_eventful_enough_to_mean_something() -> None:
    kinds: dict[str, int] = {}
    for seed in range(30):
        for recorded in day(seed).log:
            kinds[recorded.event.type] = kinds.get(recorded.event.type, 0) + 1
    eventful = ("run-requeued", "run-unreachable", "run-reachable", "node-gone", "run-preempted", "run-cancel-requested", "cluster-scaled")
    for wanted in eventful:
        assert kinds.get(wanted, 0) >= 5, (wanted, kinds)


def test_without_faults_runs_start_in_the_order_in_which_they_came() -> None:
    """Commands of one pass may overtake each other on their way, by milliseconds; turns are never lost."""
    for seed in range(30):
        world = day(seed, trouble_seconds=0)
        if any(isinstance(one.event, RunRequeued) for one in world.log):
            continue
        first = {one.event.run: one.at for one in reversed(world.log) if isinstance(one.event, RunPlaced)}
        line = [first[one.event.run] for one in world.log if isinstance(one.event, RunSubmitted) and one.event.run in first]
        assert all(earlier - later < timedelta(seconds=0.1) for earlier, later in itertools.pairwise(line))


def test_the_cluster_never_wants_more_than_its_most_and_says_why() -> None:
    for seed in range(20):
        world = day(seed)
        scaled = [one.event for one in world.log if isinstance(one.event, ClusterScaled)]
        assert all(event.reason for event in scaled)
        assert all(event.wanted <= world.states["compute/cpu"].max_nodes for event in scaled)
        assert any(isinstance(one.event, NodeJoined) for one in world.log)

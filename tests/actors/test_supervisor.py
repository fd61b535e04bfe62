"""The loop and its supervisor on the memory log: catching up, reacting, restarting, stopping."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import GenericAlias
from typing import Any

import pytest
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from actors import autoscaler, deployer, node, scheduler, watchdog
from actors.desk import HeldAttempt
from actors.role import Look, Role
from actors.scheduler import Queue
from adapters.memory.log import MemoryStore
from adapters.snapshots.memory import MemorySnapshots
from core.endpoints import CreateEndpoint, EndpointCreated
from core.errors import Unavailable
from core.events import Recorded
from core.ids import WorkspaceId
from core.nodes import NodeGone, NodeJoined
from core.runs import PlaceRun, RunPlaced, RunSubmitted
from tests.actors.world import HOME, Server, StillClock, create_compute, join, server, submit
from tests.contract.planting import following, plant_in_memory


async def test_a_submitted_run_is_placed_on_a_free_node_because_of_what_came_last() -> None:
    async with server(scheduler.ROLE) as inside:
        await inside.do(create_compute())
        await inside.do(join("cpu-1"))
        submitted = (await inside.do(submit("amber")))[-1]
        placed = (await inside.happens(RunPlaced))[0]
        assert placed.event.node == "cpu-1"
        assert (placed.actor, placed.causation, placed.correlation) == ("actor/scheduler", submitted.id, submitted.correlation)


async def test_the_desk_answers_a_held_request_as_soon_as_the_run_is_placed() -> None:
    async with server(scheduler.ROLE) as inside:
        await inside.do(create_compute())
        await inside.do(join("cpu-1"))
        await inside.do(submit("amber"))
        work = await inside.desk.work(HOME, "cpu-1", [], 5)
        assert [(one.run, one.attempt, one.submitted.job.command) for one in work.assignments] == [("amber", 1, "true")]


async def test_nothing_is_sent_while_replaying_and_nothing_is_placed_twice_after_a_start() -> None:
    store = MemoryStore()
    async with server(scheduler.ROLE, store=store) as inside:
        await inside.do(create_compute(max_nodes=2))
        await inside.do(join("cpu-1"))
        await inside.do(submit("amber"))
        await inside.happens(RunPlaced)
    sends: list[int] = []
    counted = replace(scheduler.ROLE, react=lambda queue, now: sends.append(len(found := scheduler.react(queue, now))) or found)
    async with server(counted, store=store) as inside:
        await inside.do(join("cpu-2"))
        await inside.do(submit("birch"))
        await inside.happens(RunPlaced, 2)
        assert [event.run for event in await inside.all_events() if isinstance(event, RunPlaced)] == ["amber", "birch"]
    assert sends[0] == 0


async def test_a_start_from_a_snapshot_folds_only_the_tail() -> None:
    store, snapshots = MemoryStore(), MemorySnapshots()
    async with server(scheduler.ROLE, store=store, snapshots=snapshots) as inside:
        await inside.do(create_compute())
        await inside.do(submit("amber"))
        await inside.happens(RunSubmitted)
    assert await snapshots.load("memory", 0, "scheduler", 1) is not None
    folded: list[Recorded] = []

    def evolve(queue: Queue, recorded: Recorded) -> Queue:
        folded.append(recorded)
        return scheduler.evolve(queue, recorded)

    async with server(replace(scheduler.ROLE, evolve=evolve), store=store, snapshots=snapshots) as inside:
        await inside.do(join("cpu-1"))
        placed = (await inside.happens(RunPlaced))[0]
        assert placed.event.run == "amber"
    assert not any(isinstance(one.event, RunSubmitted) for one in folded)


async def test_a_role_that_fails_is_started_again_and_the_others_go_on() -> None:
    failures = 0

    def react(queue: Queue, now: datetime) -> Any:
        nonlocal failures
        if queue.runs and failures < 2:
            failures += 1
            raise ValueError("a bug")
        return scheduler.react(queue, now)

    async with server(replace(scheduler.ROLE, react=react)) as inside:
        await inside.do(create_compute())
        await inside.do(join("cpu-1"))
        await inside.do(submit("amber"))
        assert (await inside.happens(RunPlaced))[0].event.run == "amber"
        work = await inside.desk.work(HOME, "cpu-1", [], 5)
        assert work.assignments[0].run == "amber"
    assert failures == 2


async def test_a_thousand_runs_wait_and_are_placed_in_order_as_slots_allow() -> None:
    async with server(scheduler.ROLE) as inside:
        await inside.do(create_compute(max_nodes=10, slots_per_node=10))
        for number in range(200):
            await inside.do(submit(f"run-{number}"))
        for number in range(10):
            await inside.do(join(f"cpu-{number}", slots=10))
        placed = await inside.happens(RunPlaced, 100)
        assert {one.event.run for one in placed} == {f"run-{number}" for number in range(100)}


async def test_a_shard_that_was_lost_to_another_server_is_left_and_its_desk_says_so() -> None:
    store = MemoryStore()
    async with server(scheduler.ROLE, store=store) as old:
        await old.do(create_compute())
        await old.do(join("cpu-1"))
        async with server(scheduler.ROLE, store=store, clock=StillClock()) as new:
            await new.do(submit("amber"))
            await new.happens(RunPlaced)
            with pytest.raises(Unavailable):
                await old.desk.work(HOME, "cpu-1", [HeldAttempt("amber", 1)], 5)


@pytest.mark.parametrize("role", [
    scheduler.ROLE, autoscaler.ROLE, node.role(), watchdog.role(lease_seconds=15, unreachable_limit_seconds=100), deployer.role(),
], ids=lambda role: role.name)
async def test_a_state_survives_a_snapshot_unchanged(role: Role[Any]) -> None:
    store, snapshots = MemoryStore(), MemorySnapshots()
    async with server(role, store=store, snapshots=snapshots) as inside:
        await inside.do(create_compute(max_nodes=2))
        await inside.do(join("cpu-1"))
        await inside.do(submit("amber", retries=1))
        await inside.do(PlaceRun(run="amber", node="cpu-1", reason=""))
        await inside.do(CreateEndpoint(endpoint="e", tags={}, primary_key="p", secondary_key="s"))
        await inside.happens(EndpointCreated)
    kept = await snapshots.load("memory", 0, role.name, role.version)
    assert kept is not None
    async with server(role, store=store, snapshots=snapshots, clock=StillClock()):
        pass
    assert await snapshots.load("memory", 0, role.name, role.version) == kept
    adapter = TypeAdapter(GenericAlias(dict, (str, role.shape)))
    state = adapter.validate_json(kept.content)[HOME]
    assert isinstance(state, role.shape)
    assert state != role.initial
    assert adapter.dump_json({str(HOME): state}) == kept.content


ELSEWHERE = WorkspaceId("ws-ffffffffffff")


def cannot_be_read(store: MemoryStore, inside: Server) -> None:
    plant_in_memory(store, 0, following(inside.log.raw(0), HOME, "run-levitated", b"{}"))


async def test_a_workspace_with_an_event_that_cannot_be_read_is_left_as_it_is_and_others_go_on() -> None:
    store = MemoryStore()
    async with server(scheduler.ROLE, store=store) as inside:
        for workspace in (HOME, ELSEWHERE):
            await inside.do(create_compute(), workspace)
            await inside.do(join("cpu-1"), workspace)
        await inside.do(create_compute("gpu"))
        with capture_logs() as said:
            cannot_be_read(store, inside)
            await inside.do(submit("amber"))
            await inside.do(submit("birch"), ELSEWHERE)
            (placed,) = await inside.happens(RunPlaced)
        assert (placed.workspace, placed.event.run) == (ELSEWHERE, "birch")
        assert [one["role"] for one in said if one["event"] == "actor.workspace_frozen"] == ["scheduler"]
        assert [one["type"] for one in said if one["event"] == "desk.workspace_frozen"] == ["run-levitated"]
        with pytest.raises(Unavailable, match="cannot read"):
            await inside.desk.work(HOME, "cpu-1", [HeldAttempt("cedar", 1)], 0)
        assert (await inside.desk.work(ELSEWHERE, "cpu-1", [], 0)).assignments[0].run == "birch"


async def test_a_server_that_can_read_the_event_goes_on_from_the_snapshot_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store, snapshots = MemoryStore(), MemorySnapshots()
    async with server(scheduler.ROLE, store=store, snapshots=snapshots) as inside:
        await inside.do(create_compute())
        await inside.do(join("cpu-1"))
        await inside.do(create_compute("gpu"))
        await inside.happens(NodeJoined)
    before = await snapshots.load("memory", 0, "scheduler", scheduler.ROLE.version)
    async with server(scheduler.ROLE, store=store, snapshots=snapshots) as inside:
        cannot_be_read(store, inside)
        await inside.do(submit("amber"))
        await inside.do(create_compute(), ELSEWHERE)
    assert await snapshots.load("memory", 0, "scheduler", scheduler.ROLE.version) == before
    monkeypatch.setattr("actors.actor.Unreadable", NodeGone)  # as if this binary knew the event, and it meant nothing to the scheduler
    async with server(scheduler.ROLE, store=store, snapshots=snapshots) as inside:
        (placed,) = await inside.happens(RunPlaced)
        assert placed.event.run == "amber"


async def test_an_outside_look_changes_nothing_where_an_event_cannot_be_read() -> None:
    store = MemoryStore()
    role = replace(watchdog.role(lease_seconds=1, unreachable_limit_seconds=1), tick_seconds=0.001)
    async with server(role, store=store) as inside:
        await inside.do(create_compute())
        await inside.do(join("cpu-1"))
        cannot_be_read(store, inside)
        await inside.do(create_compute("gpu"))
        inside.clock.pass_seconds(3600)
        actor = inside.supervisor._seats[0].actor
        assert actor.take(Look({}, None)) == set(actor._homes[0].states)
        assert actor.wishes({HOME}) == []

"""The node actor with real agents, and the deployer's hands with a gateway that writes down what it is given."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from actors import autoscaler, node, scheduler
from actors.deployer import ApplyRoutes, RoutesApplied, WantedBackend, WantedRoute
from actors.hands import DeployerHands, NodeHands, WatchdogHands
from actors.role import Call
from actors.watchdog import SignsOfLife
from adapters.memory.vault import MemoryVault
from adapters.nodes.local import LocalNodes
from core.computes import ClusterScaled
from core.ids import WorkspaceId
from core.nodes import NodeGone, NodeRequested
from core.ports import ReplicaOrder, ReplicaStatus, Route
from core.runs import CancelRun, ReportEnded, RunPlaced
from tests.actors.world import HOME, StillClock, create_compute, join, server, submit


@pytest.fixture
async def nodes() -> AsyncIterator[LocalNodes]:
    with tempfile.TemporaryDirectory(prefix="foldline-nodes-") as name:
        Path(name).chmod(0o711)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        found = LocalNodes(Path(name) / "nodes", server_url="http://127.0.0.1:9", cache=Path(name) / "cache", environment=environment)
        yield found
        for workspace, one in await found.list():
            await found.stop(workspace, one, 99)


async def until_there_are(nodes: LocalNodes, count: int) -> Sequence[tuple[WorkspaceId, str]]:
    async with asyncio.timeout(20):
        while len(found := await nodes.list()) != count:
            await asyncio.sleep(0.02)
        return found


async def test_a_cluster_grows_from_nothing_for_a_run_and_shrinks_to_nothing_after_it(nodes: LocalNodes) -> None:
    clock = StillClock()
    hands = {"node": NodeHands(nodes, clock, lambda workspace, name: f"fln_{workspace}:{name}", look_seconds=0.1)}
    roles = (scheduler.ROLE, autoscaler.ROLE, node.role(join_seconds=60))
    async with server(*roles, clock=clock, hands=hands) as inside:
        await inside.do(create_compute(max_nodes=2, idle_seconds=0))
        await inside.do(submit("amber"))
        name = (await inside.happens(NodeRequested))[0].event.node  # type: ignore[attr-defined]  # NodeRequested
        assert await until_there_are(nodes, 1) == [(HOME, name)]
        await inside.do(join(name))
        await inside.happens(RunPlaced)
        await inside.do(ReportEnded(run="amber", attempt=1, outcome="completed", reason="succeeded", message=""))
        await inside.happens(NodeGone)
        await until_there_are(nodes, 0)
        scaled = [event.wanted for event in await inside.all_events() if isinstance(event, ClusterScaled)]
        assert scaled == [1, 0]


async def test_a_node_that_nobody_wants_any_more_is_stopped_at_the_start(nodes: LocalNodes) -> None:
    clock = StillClock()
    hands = {"node": NodeHands(nodes, clock, lambda workspace, name: "fln_token", look_seconds=0.1)}
    async with server(autoscaler.ROLE, node.role(), clock=clock, hands=hands) as inside:
        await inside.do(create_compute())
        await inside.do(submit("amber"))
        await until_there_are(nodes, 1)
    later = {"node": NodeHands(nodes, clock, lambda workspace, name: "fln_token", look_seconds=0.1)}
    async with server(autoscaler.ROLE, node.role(), clock=clock, hands=later) as inside:
        await inside.do(create_compute("other"))
        await until_there_are(nodes, 0)
        with pytest.raises(Exception, match="no run named"):
            await inside.do(CancelRun(run="amber"))


async def test_the_desks_signs_of_life_reach_the_watchdog_once() -> None:
    async with server() as inside:
        inside.desk.heard(HOME, "cpu-1", [])
        hands = WatchdogHands(inside.desk, inside.clock, lease_seconds=15)
        first, second = await hands.look(), await hands.look()
        assert first.by_workspace == {HOME: SignsOfLife(frozenset({"cpu-1"}), frozenset(), inside.clock.now())}
        assert second.by_workspace == {}


class WritingGateway:
    """Implements core.ports.Gateway: keeps every list of routes that it was given."""

    def __init__(self) -> None:
        self.given: list[list[Route]] = []

    async def apply(self, routes: Sequence[Route]) -> None:
        self.given.append(list(routes))

    def scoring_uri(self, workspace_name: str, endpoint: str) -> str:
        return f"/endpoints/{workspace_name}/{endpoint}/score"


class EmptyServing:
    """Implements core.ports.Serving: nothing runs."""

    async def start(self, order: ReplicaOrder) -> None:
        raise AssertionError(order)

    async def stop(self, workspace: WorkspaceId, replica: str, epoch: int, drain_seconds: float) -> None:
        return

    async def list(self) -> Sequence[ReplicaStatus]:
        return ()

    async def changed(self) -> None:
        await asyncio.Event().wait()

    async def logs(self, workspace: WorkspaceId, endpoint: str, deployment: str, lines_max: int) -> Sequence[str]:
        return ()


def wanted(workspace: str) -> ApplyRoutes:
    backend = WantedBackend("blue", 100, ("/run/r1.sock",))
    return ApplyRoutes((WantedRoute(workspace, "digits", (f"{workspace}/primary", "lost"), (backend,), 60.0),))


async def test_the_routes_of_all_workspaces_go_out_together_with_their_keys_and_the_same_ones_once() -> None:
    vault, gateway = MemoryVault(), WritingGateway()
    hands = DeployerHands(EmptyServing(), gateway, vault)
    homes = [WorkspaceId("ws-a"), WorkspaceId("ws-b")]
    for home in homes:
        await vault.put(home, f"{home}/primary", b"key of " + home.encode())
    calls = [(home, Call("routes", wanted(home))) for home in homes]
    hands.foresee(calls)
    for home, call in calls:
        assert await hands.perform(home, call.action, 1) == (RoutesApplied(wanted(home).routes),)
    (routes,) = gateway.given
    assert [(route.workspace, route.keys) for route in routes] == [("ws-a", ("key of ws-a",)), ("ws-b", ("key of ws-b",))]
    await hands.perform(homes[0], ApplyRoutes(()), 1)
    assert [route.workspace for route in gateway.given[-1]] == ["ws-b"]

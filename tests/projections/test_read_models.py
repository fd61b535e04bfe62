"""The other read models, from what the core decides to what a query answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.histories import life, setting
from core.computes import CreateCompute, DeleteCompute, ScaleCluster, UpdateCompute
from core.endpoints import (
    CreateEndpoint,
    DeleteDeployment,
    DeleteEndpoint,
    DeploymentSpec,
    FailDeployment,
    RegenerateKey,
    ReportReplicaLost,
    ReportReplicaReady,
    RequestDeployment,
    SetTraffic,
)
from core.environments import EnvironmentSpec, RegisterEnvironment
from core.experiments import ArchiveExperiment, RestoreExperiment
from core.ids import SYSTEM
from core.models import DeleteModelVersion, RegisterModel, UpdateModelVersion
from core.nodes import JoinNode, LoseNode, MarkNodeReachable, MarkNodeUnreachable, NodeFacts, ReleaseNode, RequestNode
from core.runs import PlaceRun
from core.users import CreateToken, CreateUser, DeleteUser, DisableUser, EnableUser, RevokeToken
from core.workspaces import AddMember, DeleteWorkspace, RemoveMember, UpdateWorkspace
from projections import (
    computes,
    endpoints,
    environments,
    experiments,
    journal,
    model_registry,
    nodes,
    run_history,
    run_logs,
    run_metrics,
    source_progress,
    users,
    workspaces,
)
from projections.database import Database
from tests.projections.batches import log_lines, points
from tests.projections.running import caught_up, running
from tests.projections.test_run_history import SUBMIT
from tests.projections.world import NOON, OTHER, W, World

FACTS = NodeFacts(hostname="h", cores=1, memory_bytes=1, python="3.11", platform="p", agent="a", sandbox="bubblewrap")
Settle = Callable[[], Awaitable[None]]


@pytest.fixture
async def world() -> World:
    world = World()
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 2, 1))
    return world


@pytest.fixture
async def settle(world: World, database: Database) -> AsyncIterator[Settle]:
    """Returns once every read model holds all that was done."""
    async with running(database, world) as (_, progress):
        yield lambda: caught_up(world, progress)


async def test_experiments_count_their_runs(world: World, database: Database, settle: Settle) -> None:
    for number in range(25):
        await world.play(life(W, number, 2, 1))
    await world.do(W, ArchiveExperiment(experiment="digits-7"))
    await settle()
    row = await experiments.get(database, W, "digits-3")
    assert row is not None and (row.runs, row.archived) == (2, False)
    assert row.last_run_at is not None and row.last_run_at > row.created_at
    assert "digits-7" not in [row.experiment for row in (await experiments.page(database, W)).items]
    assert [row.experiment for row in (await experiments.page(database, W, archived=True)).items] == ["digits-7"]
    first = await experiments.page(database, W, limit=15)
    rest = await experiments.page(database, W, limit=15, cursor=first.next)
    assert (len(first.items), len(rest.items), rest.next) == (15, 4, None)
    await world.do(W, RestoreExperiment(experiment="digits-7"))
    await settle()
    assert len((await experiments.page(database, W)).items) == 20


async def test_models_versions_tags_and_uses(world: World, database: Database, settle: Settle) -> None:
    for number in range(3):
        await world.do(W, RegisterModel(
            model="digits", manifest="a" * 64, files=number + 1, bytes=10, tags={"stage": "new", "n": str(number)},
        ))
    await world.do(W, RegisterModel(model="other", manifest="a" * 64, files=1, bytes=1, tags={}, source_run="r-1", source_path="outputs/m"))
    better = UpdateModelVersion(model="digits", version=2, description="the good one", tags_set={"stage": "live"}, tags_removed=("n",))
    await world.do(W, better)
    await world.do(W, CreateEndpoint(endpoint="e", tags={}, primary_key="p", secondary_key="s"))
    await world.do(W, RequestDeployment(endpoint="e", deployment="blue", spec=_spec(2)))
    await settle()
    latest = await model_registry.version(database, W, "digits")
    second = await model_registry.version(database, W, "digits", 2)
    assert latest is not None and (latest.version, latest.files, latest.created_by) == (3, 3, "user/u-1")
    assert second is not None and (second.tags, second.description, second.deployments) == ({"stage": "live"}, "the good one", ["e/blue"])
    assert [row.version for row in (await model_registry.versions(database, W, "digits", tags={"stage": "new"})).items] == [3, 1]
    assert [view.model for view in (await model_registry.models(database, W)).items] == ["digits", "other"]
    assert [view.model for view in (await model_registry.models(database, W, tags={"stage": "live"})).items] == ["digits"]
    assert [view.model for view in (await model_registry.models(database, W, limit=1, cursor=None)).items] == ["digits"]
    view = await model_registry.model(database, W, "digits")
    assert view is not None and (view.latest_version, view.versions, view.tags) == (3, 3, {"stage": "new", "n": "2"})
    assert view.created_at < view.updated_at
    await world.do(W, DeleteDeployment(endpoint="e", deployment="blue"))
    await world.do(W, DeleteModelVersion(model="digits", version=2))
    await world.do(W, DeleteModelVersion(model="other", version=1))
    await settle()
    assert await model_registry.version(database, W, "digits", 2) is None
    assert await model_registry.model(database, W, "other") is None
    assert [row.version for row in (await model_registry.versions(database, W, "digits")).items] == [3, 1]


async def test_computes_count_their_nodes(world: World, database: Database, settle: Settle) -> None:
    await world.do(W, CreateCompute(workspace=W, compute="gpu", min_nodes=0, max_nodes=4, idle_seconds=5, description="two cards each"))
    await world.do(W, ScaleCluster(compute="gpu", wanted=2, reason="2 slots wait"), actor="actor/autoscaler")
    for node in ("gpu-1", "gpu-2"):
        await world.do(W, RequestNode(node=node, compute="gpu", provider="local", slots=1, reason="2 slots wait"))
    await world.do(W, JoinNode(node="gpu-1", compute="gpu", slots=1, facts=FACTS))
    await settle()
    view = await computes.get(database, W, "gpu")
    assert view is not None and (view.nodes, view.starting, view.busy, view.status) == (1, 1, 0, "resizing")
    assert (view.row.wanted, view.row.reason, view.row.max_nodes) == (2, "2 slots wait", 4)
    await world.do(W, JoinNode(node="gpu-2", compute="gpu", slots=1, facts=FACTS))
    await world.do(W, SUBMIT)
    await world.do(W, PlaceRun(run="r-1", node="gpu-1", reason="first"))
    await world.do(W, UpdateCompute(compute="gpu", max_nodes=8))
    await settle()
    view = await computes.get(database, W, "gpu")
    assert view is not None and (view.nodes, view.busy, view.status, view.row.max_nodes) == (2, 1, "steady", 8)
    assert [row.row.compute for row in (await computes.page(database, W)).items] == ["cpu", "gpu"]
    await world.do(W, ScaleCluster(compute="gpu", wanted=0, reason="idle"))
    await world.do(W, LoseNode(node="gpu-1", reason="forgotten"))
    await world.do(W, DeleteCompute(compute="gpu"))
    await settle()
    view = await computes.get(database, W, "gpu")
    assert view is not None and (view.status, view.nodes) == ("deleting", 1)
    await world.do(W, LoseNode(node="gpu-2", reason="stopped"))
    await settle()
    assert await computes.get(database, W, "gpu") is None
    assert [row.row.compute for row in (await computes.page(database, W)).items] == ["cpu"]


async def test_nodes_from_their_request_to_their_end(world: World, database: Database, settle: Settle) -> None:
    await world.do(W, RequestNode(node="n-1", compute="cpu", provider="local", slots=2, reason="runs wait"))
    await settle()
    row = await nodes.get(database, W, "n-1")
    assert row is not None and (row.status, row.reason, row.facts) == ("starting", "runs wait", {})
    await world.do(W, JoinNode(node="n-1", compute="cpu", slots=2, facts=FACTS))
    await world.do(W, SUBMIT)
    await world.do(W, PlaceRun(run="r-1", node="n-1", reason="first"))
    await world.do(W, MarkNodeUnreachable(node="n-1", silent_seconds=20))
    await settle()
    row = await nodes.get(database, W, "n-1")
    assert row is not None and (row.status, row.runs, row.held) == ("unreachable", ["r-1"], {"r-1": {"attempt": 1, "slots": 1}})
    assert row.facts["cores"] == 1
    await world.do(W, MarkNodeReachable(node="n-1"))
    await world.do(W, LoseNode(node="n-1", reason="switched off"))
    await world.do(W, ReleaseNode(node="cpu-000000", reason="idle"))
    await settle()
    assert [(row.node, row.status) for row in (await nodes.page(database, W)).items] == [("cpu-000000", "releasing")]
    assert [(row.node, row.status) for row in (await nodes.page(database, W, "cpu", gone=True)).items] == [
        ("cpu-000000", "releasing"), ("n-1", "gone"),
    ]
    assert (await nodes.page(database, W, "gpu")).items == []


async def test_an_endpoint_rolls_from_revision_to_revision(world: World, database: Database, settle: Settle) -> None:
    await world.do(W, RegisterModel(model="digits", manifest="a" * 64, files=1, bytes=1, tags={}))
    await world.do(W, CreateEndpoint(endpoint="e", description="digits", tags={"a": "b"}, primary_key="p/1", secondary_key="s/1"))
    await world.do(W, RegenerateKey(endpoint="e", which="secondary", reference="s/2"))
    await world.do(W, RequestDeployment(endpoint="e", deployment="blue", spec=_spec(1, instances=2)))
    await settle()
    row = await endpoints.get(database, W, "e")
    assert row is not None and (row.primary_key, row.secondary_key, row.state) == ("p/1", "s/2", "updating")
    assert (row.deployments["blue"].state, row.deployments["blue"].shown.number) == ("creating", 1)
    for replica in ("blue-1-0", "blue-1-1"):
        await world.do(W, ReportReplicaReady(endpoint="e", deployment="blue", revision=1, replica=replica))
    await world.do(W, SetTraffic(endpoint="e", traffic={"blue": 100}))
    await world.do(W, ReportReplicaLost(endpoint="e", deployment="blue", revision=1, replica="blue-1-0", reason="killed"))
    await world.do(W, RequestDeployment(endpoint="e", deployment="blue", spec=_spec(1, script="second.py")))
    await settle()
    row = await endpoints.get(database, W, "e")
    assert row is not None and row.traffic == {"blue": 100}
    blue = row.deployments["blue"]
    assert blue.current is not None and blue.rolling is not None
    assert (blue.state, blue.current.number, blue.current.replicas, blue.rolling.number) == ("updating", 1, ("blue-1-1",), 2)
    assert blue.shown.spec.scoring_script == "second.py"
    await world.do(W, FailDeployment(endpoint="e", deployment="blue", revision=2, reason="init() raised ValueError"))
    await settle()
    row = await endpoints.get(database, W, "e")
    assert row is not None and row.state == "failed"
    blue = row.deployments["blue"]
    assert (blue.state, blue.message, blue.shown.number) == ("failed", "init() raised ValueError", 1)
    assert blue.refused is not None and blue.refused.number == 2
    assert [row.endpoint for row in (await endpoints.page(database, W)).items] == ["e"]
    await world.do(W, DeleteEndpoint(endpoint="e"))
    await settle()
    assert await endpoints.get(database, W, "e") is None


async def test_a_first_revision_that_fails_is_still_shown(world: World, database: Database, settle: Settle) -> None:
    await world.do(W, RegisterModel(model="digits", manifest="a" * 64, files=1, bytes=1, tags={}))
    await world.do(W, CreateEndpoint(endpoint="e", tags={}, primary_key="p", secondary_key="s"))
    await world.do(W, RequestDeployment(endpoint="e", deployment="blue", spec=_spec(1)))
    await world.do(W, FailDeployment(endpoint="e", deployment="blue", revision=1, reason="no such package"))
    await settle()
    row = await endpoints.get(database, W, "e")
    assert row is not None
    blue = row.deployments["blue"]
    assert (blue.current, blue.state, blue.message, blue.shown.number) == (None, "failed", "no such package", 1)


async def test_environments_have_versions_and_a_latest(world: World, database: Database, settle: Settle) -> None:
    for version in ("2", "10"):
        spec = EnvironmentSpec(name="sklearn", version=version, packages=(f"scikit-learn=={version}",), variables={"A": "b"})
        await world.do(W, RegisterEnvironment(environment="sklearn", version=version, spec=spec, description=version))
    await world.do(W, RegisterEnvironment(environment="torch", version="1", spec=EnvironmentSpec(packages=("torch",))))
    await settle()
    latest, first = await environments.get(database, W, "sklearn"), await environments.get(database, W, "sklearn", "1")
    assert latest is not None and (latest.version, latest.spec.packages) == ("10", ("scikit-learn==10",))
    assert latest.build_key == latest.spec.key
    assert first is not None and first.version == "1"
    assert [row.version for row in (await environments.versions(database, W, "sklearn")).items] == ["10", "2", "1"]
    assert [(row.environment, row.version) for row in (await environments.page(database, W)).items] == [("sklearn", "10"), ("torch", "1")]


async def test_workspaces_and_their_members(world: World, database: Database, settle: Settle) -> None:
    await world.do(W, AddMember(workspace=W, user="u-x", role="reader"))
    await world.do(W, UpdateWorkspace(workspace=W, display_name="One"))
    await settle()
    row = await workspaces.get(database, W)
    assert row is not None and (row.name, row.display_name, row.default_compute) == ("ws-1", "One", "cpu")
    assert row.members == {"u-ws-1-0": "owner", "u-ws-1-1": "contributor", "u-x": "reader"}
    assert [row.workspace for row in (await workspaces.page(database, member="u-x")).items] == [W]
    assert [row.workspace for row in (await workspaces.page(database, member=None)).items] == [W, OTHER]
    first = await workspaces.page(database, member=None, limit=1)
    assert [row.workspace for row in (await workspaces.page(database, member=None, limit=1, cursor=first.next)).items] == [OTHER]
    await world.do(W, RemoveMember(workspace=W, user="u-x"))
    await world.do(OTHER, DeleteWorkspace(workspace=OTHER))
    await settle()
    assert (await workspaces.page(database, member="u-x")).items == []
    assert await workspaces.by_name(database, "ws-2") is None and await workspaces.by_name(database, "ws-1") is not None


async def test_users_and_their_tokens(world: World, database: Database, settle: Settle) -> None:
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    await world.do(SYSTEM, CreateUser(user="u-x", admin=True))
    await world.do(SYSTEM, CreateToken(user="u-x", token="t-1", sha256="1" * 64, label="laptop", expires_at=expires))
    await world.do(SYSTEM, CreateToken(user="u-x", token="t-2", sha256="2" * 64))
    await world.do(SYSTEM, DisableUser(user="u-x"))
    await settle()
    row = await users.get(database, "u-x")
    assert row is not None and (row.admin, row.enabled, list(row.tokens)) == (True, False, ["t-1", "t-2"])
    assert (row.tokens["t-1"].label, row.tokens["t-1"].expires_at, row.tokens["t-1"].created_at > NOON) == ("laptop", expires, True)
    assert "1" * 64 not in str(row)
    await world.do(SYSTEM, EnableUser(user="u-x"))
    await world.do(SYSTEM, RevokeToken(user="u-x", token="t-1"))
    await settle()
    row = await users.get(database, "u-x")
    assert row is not None and (row.enabled, list(row.tokens)) == (True, ["t-2"])
    assert len((await users.page(database)).items) == 5
    await world.do(SYSTEM, DeleteUser(user="u-x"))
    await settle()
    assert await users.get(database, "u-x") is None


async def test_no_query_gives_rows_of_another_workspace(world: World, database: Database, settle: Settle) -> None:
    """Every read that takes a workspace, with ids that another workspace has."""
    for number in (0, 1):
        await world.play(life(W, number, 2, 1))
    await world.measurements.append(points([1.0], run="amber-otter-000000"))
    await world.measurements.append(log_lines(b"x", 0, run="amber-otter-000000"))
    await settle()
    run, log = "amber-otter-000000", "user_logs/std_log.txt"
    mine, theirs = await _reads(database, W, run, log), await _reads(database, OTHER, run, log)
    assert all(mine), mine
    assert not any(theirs), theirs
    for page in (run_history.page, experiments.page, model_registry.models, endpoints.page):
        assert (await page(database, W)).items and not (await page(database, OTHER)).items
    for workspace in (W, OTHER):
        for listed in (computes.page, nodes.page, environments.page):
            assert len((await listed(database, workspace)).items) == 1


async def _reads(database: Database, workspace: Any, run: str, log: str) -> list[Any]:
    return [
        await run_history.get(database, workspace, run),
        await run_history.counts(database, workspace),
        await experiments.get(database, workspace, "digits-0"),
        await model_registry.version(database, workspace, "digits-0"),
        await model_registry.model(database, workspace, "digits-0"),
        (await model_registry.versions(database, workspace, "digits-0")).items,
        await endpoints.get(database, workspace, "digits-0"),
        (await journal.story(database, workspace, run)).items,
        (await journal.page(database, workspace, subject=f"run/{run}")).items,
        await run_metrics.summaries(database, workspace, run),
        (await run_metrics.last_values(database, workspace, [run]))[run],
        await run_metrics.curve(database, workspace, run, "loss"),
        await run_logs.names(database, workspace, run),
        await run_logs.length(database, workspace, run, 1, log),
        (await run_logs.read(database, workspace, run, 1, log)).data,
        await source_progress.of_run(database, workspace, run),
    ]


def _spec(version: int, *, instances: int = 1, script: str = "score.py") -> DeploymentSpec:
    return DeploymentSpec(
        model="digits", model_version=version, model_manifest="a" * 64, code="c" * 64, scoring_script=script,
        environment=EnvironmentSpec(packages=("scikit-learn",)), instance_count=instances,
    )

"""Computes, given, when, then."""

from __future__ import annotations

import pytest

from core import computes
from core.computes import (
    ClusterScaled,
    ComputeCreated,
    ComputeDeleted,
    ComputeUpdated,
    CreateCompute,
    DeleteCompute,
    ScaleCluster,
    UpdateCompute,
)
from core.errors import AlreadyExists, Conflict, Invalid, NotFound
from core.workspaces import WorkspaceCreated, WorkspaceUpdated
from tests.core.spec import spec

compute = spec(computes, "compute/cpu")
home = compute.given(WorkspaceCreated(workspace="ws-1", name="team", owner="u-1"), stream="workspace/ws-1")
created = ComputeCreated(compute="cpu", min_nodes=0, max_nodes=4, idle_seconds=60)
cluster = home.given(WorkspaceUpdated(workspace="ws-1", default_compute="cpu"), stream="workspace/ws-1").given(created)


def create(**changed: object) -> CreateCompute:
    fields: dict[str, object] = {"workspace": "ws-1", "compute": "cpu", "max_nodes": 4, "idle_seconds": 60.0}
    return CreateCompute(**(fields | changed))  # type: ignore[arg-type]


def test_the_first_compute_becomes_the_default() -> None:
    default = WorkspaceUpdated(workspace="ws-1", default_compute="cpu")
    home.when(create()).then_once_in({"compute/cpu": [created], "workspace/ws-1": [default]})


def test_a_later_compute_does_not() -> None:
    given = home.given(WorkspaceUpdated(workspace="ws-1", default_compute="gpu"), stream="workspace/ws-1")
    given.when(create()).then_once(created)


def test_a_compute_with_other_settings_exists_already() -> None:
    cluster.when(create(max_nodes=5)).then_rejected(AlreadyExists, what="compute", name="cpu")


def test_a_deleted_computes_name_is_free_again() -> None:
    cluster.given(ComputeDeleted(compute="cpu")).when(create()).then(created)


@pytest.mark.parametrize("wrong", [
    {"min_nodes": -1}, {"min_nodes": 5}, {"max_nodes": 0}, {"max_nodes": 1001}, {"idle_seconds": -1.0}, {"idle_seconds": 90_000.0},
    {"slots_per_node": 0}, {"slots_per_node": 65}, {"idle_seconds": float("nan")},
], ids=str)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    home.when(create(**wrong)).then_rejected(Invalid)


def test_only_what_changed_is_recorded_of_an_update() -> None:
    update = UpdateCompute(compute="cpu", min_nodes=0, max_nodes=2)
    cluster.when(update).then_once(ComputeUpdated(compute="cpu", max_nodes=2))
    cluster.when(UpdateCompute(compute="cpu", min_nodes=9)).then_rejected(Invalid)
    compute.when(update).then_rejected(NotFound, what="compute")


def test_a_cluster_wants_what_it_is_told_within_its_limits() -> None:
    told = ScaleCluster(compute="cpu", wanted=9, reason="queue")
    cluster.when(told).then_once(ClusterScaled(compute="cpu", wanted=4, before=0, reason="queue"))
    compute.when(told).then_rejected(NotFound, what="compute")


def test_a_compute_with_runs_is_not_deleted() -> None:
    cluster.when(DeleteCompute(compute="cpu", active=("amber",))).then_rejected(Conflict, active=["amber"])
    cluster.when(DeleteCompute(compute="cpu")).then_once(ComputeDeleted(compute="cpu"))
    compute.when(DeleteCompute(compute="cpu")).then_rejected(NotFound, what="compute")

"""Endpoints and their deployments, given, when, then."""

from __future__ import annotations

import pytest

from core import endpoints
from core.endpoints import (
    CreateEndpoint,
    DeleteDeployment,
    DeleteEndpoint,
    DeploymentDeleted,
    DeploymentFailed,
    DeploymentReady,
    DeploymentRequested,
    DeploymentSpec,
    EndpointCreated,
    EndpointDeleted,
    EndpointKeyRegenerated,
    FailDeployment,
    RegenerateKey,
    ReplicaLost,
    ReplicaReady,
    ReportReplicaLost,
    ReportReplicaReady,
    RequestDeployment,
    SetTraffic,
    TrafficSet,
)
from core.environments import EnvironmentSpec
from core.errors import AlreadyExists, Conflict, Invalid, NotFound
from core.models import ModelVersionRegistered, ModelVersionReleased, ModelVersionUsed
from tests.core.spec import Spec, spec

E, D, M = "digits", "blue", "model/digits"
endpoint = spec(endpoints, f"endpoint/{E}")
created = EndpointCreated(endpoint=E, primary_key="endpoint/digits/primary/1", secondary_key="endpoint/digits/secondary/1")
create = CreateEndpoint(endpoint=E, tags={}, primary_key=created.primary_key, secondary_key=created.secondary_key)
registered = [ModelVersionRegistered(model="digits", version=n, manifest=f"m{n}", files=1, bytes=1) for n in (1, 2)]
open_ = endpoint.given(created).given(*registered, stream=M)


def made(version: int = 1, **changed: object) -> DeploymentSpec:
    fields: dict[str, object] = {
        "model": "digits", "model_version": version, "model_manifest": f"m{version}", "code": "c", "scoring_script": "score.py",
        "environment": EnvironmentSpec(),
    }
    return DeploymentSpec(**(fields | changed))  # type: ignore[arg-type]


def wish(version: int = 1, *, all_traffic: bool = False, create_only: bool = False, **changed: object) -> RequestDeployment:
    return RequestDeployment(endpoint=E, deployment=D, spec=made(version, **changed), all_traffic=all_traffic, create_only=create_only)


def requested(revision: int, version: int = 1, *, all_traffic: bool = False, **changed: object) -> DeploymentRequested:
    return DeploymentRequested(endpoint=E, deployment=D, revision=revision, spec=made(version, **changed), all_traffic=all_traffic)


def used(revision: int, version: int = 1) -> ModelVersionUsed:
    return ModelVersionUsed(model="digits", version=version, endpoint=E, deployment=D, revision=revision)


def released(revision: int, version: int = 1) -> ModelVersionReleased:
    return ModelVersionReleased(model="digits", version=version, endpoint=E, deployment=D, revision=revision)


def replica_ready(revision: int, replica: str) -> ReplicaReady:
    return ReplicaReady(endpoint=E, deployment=D, revision=revision, replica=replica)


def report_ready(revision: int, replica: str) -> ReportReplicaReady:
    return ReportReplicaReady(endpoint=E, deployment=D, revision=revision, replica=replica)


ready = DeploymentReady(endpoint=E, deployment=D, revision=1)
first = open_.given(requested(1)).given(used(1), stream=M)
serving = first.given(replica_ready(1, "r1"), ready)
rolling = serving.given(requested(2, 2)).given(used(2, 2), stream=M)


def test_an_endpoint_is_created_once() -> None:
    endpoint.when(create).then(created)
    open_.when(create).then_rejected(AlreadyExists, what="endpoint", name=E)


def test_one_key_is_replaced_and_the_other_goes_on() -> None:
    again = RegenerateKey(endpoint=E, which="primary", reference="endpoint/digits/primary/2")
    after = open_.when(again).then_once(EndpointKeyRegenerated(endpoint=E, which="primary", reference="endpoint/digits/primary/2"))
    assert after.state().secondary_key == created.secondary_key


def test_a_deployment_takes_its_model_version_into_use_in_the_same_commit() -> None:
    open_.when(wish()).then_once_in({f"endpoint/{E}": [requested(1)], M: [used(1)]})


def test_a_deployment_needs_a_model_version_and_its_very_files() -> None:
    open_.when(wish(3)).then_rejected(NotFound, what="model version")
    open_.when(wish(model_manifest="other")).then_rejected(Conflict, model="digits")
    open_.when(wish(instance_count=0)).then_rejected(Invalid, field="instance_count")


def test_creating_a_deployment_that_is_there_with_other_content_is_refused() -> None:
    first.when(wish(2, create_only=True)).then_rejected(AlreadyExists, what="deployment")
    first.when(wish(create_only=True)).then_nothing()


def test_a_deployment_is_ready_once_all_its_replicas_are() -> None:
    two = open_.given(requested(1, instance_count=2)).given(used(1), stream=M)
    half = two.when(report_ready(1, "r1")).then_once(replica_ready(1, "r1"))
    whole = half.when(report_ready(1, "r2")).then_once(replica_ready(1, "r2"), ready)
    assert whole.state().deployments[D].current.number == 1


def test_all_traffic_goes_to_a_deployment_that_asked_for_it_once_it_is_ready() -> None:
    given = open_.given(requested(1, all_traffic=True)).given(used(1), stream=M)
    given.when(report_ready(1, "r1")).then_once(replica_ready(1, "r1"), ready, TrafficSet(endpoint=E, traffic={D: 100}))


def test_all_traffic_goes_to_a_deployment_that_is_ready_already() -> None:
    after = serving.when(wish(all_traffic=True)).then_once(TrafficSet(endpoint=E, traffic={D: 100}))
    after.when(wish(all_traffic=False)).then_nothing()
    serving.when(wish(all_traffic=True, create_only=True)).then_nothing()


def test_the_next_revision_takes_over_and_releases_the_one_before_it() -> None:
    after = serving.when(wish(2)).then_once_in({f"endpoint/{E}": [requested(2, 2)], M: [used(2, 2)]})
    assert after.state().deployments[D].current.number == 1
    over = after.when(report_ready(2, "r2")).then_once_in({
        f"endpoint/{E}": [replica_ready(2, "r2"), DeploymentReady(endpoint=E, deployment=D, revision=2)], M: [released(1)],
    })
    assert over.state().deployments[D].current.number == 2


def test_a_wish_during_a_roll_replaces_the_revision_on_its_way() -> None:
    failed = DeploymentFailed(endpoint=E, deployment=D, revision=2, reason="replaced by revision 3")
    rolling.when(wish(1, instance_count=2)).then_once_in({
        f"endpoint/{E}": [failed, requested(3, instance_count=2)], M: [released(2, 2), used(3)],
    })


def test_a_revision_that_fails_leaves_the_one_before_it_in_service() -> None:
    fail = FailDeployment(endpoint=E, deployment=D, revision=2, reason="init() raised")
    failed = DeploymentFailed(endpoint=E, deployment=D, revision=2, reason="init() raised")
    after = rolling.when(fail).then_once_in({f"endpoint/{E}": [failed], M: [released(2, 2)]})
    assert after.state().deployments[D].current.number == 1
    assert after.state().deployments[D].failed == "init() raised"


def test_a_revision_in_service_does_not_fail() -> None:
    serving.when(FailDeployment(endpoint=E, deployment=D, revision=1, reason="x")).then_nothing()


def test_a_lost_replica_is_reported_once() -> None:
    lost = ReportReplicaLost(endpoint=E, deployment=D, revision=1, replica="r1", reason="killed")
    after = serving.when(lost).then_once(ReplicaLost(endpoint=E, deployment=D, revision=1, replica="r1", reason="killed"))
    after.when(report_ready(1, "r1")).then_once(replica_ready(1, "r1"))


@pytest.mark.parametrize("late", [
    report_ready(9, "r9"), ReportReplicaLost(endpoint=E, deployment=D, revision=9, replica="r9", reason="x"),
    FailDeployment(endpoint=E, deployment=D, revision=9, reason="x"),
], ids=lambda command: type(command).__name__)
def test_word_of_a_revision_that_is_over_changes_nothing(late: object) -> None:
    for state in (endpoint, open_, serving):
        state.when(late).then_nothing()


def test_traffic_goes_to_ready_deployments_in_whole_percents() -> None:
    serving.when(SetTraffic(endpoint=E, traffic={D: 100})).then_once(TrafficSet(endpoint=E, traffic={D: 100}))
    serving.when(SetTraffic(endpoint=E, traffic={D: 90})).then_rejected(Invalid, field="traffic")
    serving.when(SetTraffic(endpoint=E, traffic={D: 200, "green": -100})).then_rejected(Invalid, field="traffic")
    serving.when(SetTraffic(endpoint=E, traffic={"green": 100})).then_rejected(NotFound, what="deployment")
    first.when(SetTraffic(endpoint=E, traffic={D: 100})).then_rejected(Conflict, deployment=D)


def test_a_deployment_with_traffic_is_not_deleted() -> None:
    busy = serving.given(TrafficSet(endpoint=E, traffic={D: 100}))
    busy.when(DeleteDeployment(endpoint=E, deployment=D)).then_rejected(Conflict, deployment=D)


def test_deleting_a_deployment_releases_all_its_model_versions() -> None:
    deleted = DeploymentDeleted(endpoint=E, deployment=D)
    rolling.when(DeleteDeployment(endpoint=E, deployment=D)).then_once_in({f"endpoint/{E}": [deleted], M: [released(1), released(2, 2)]})


def test_deleting_an_endpoint_releases_all_its_model_versions() -> None:
    deleted = EndpointDeleted(endpoint=E)
    rolling.when(DeleteEndpoint(endpoint=E)).then_once_in({f"endpoint/{E}": [deleted], M: [released(1), released(2, 2)]})


@pytest.mark.parametrize("command", [
    RegenerateKey(endpoint=E, which="primary", reference="x"), wish(), SetTraffic(endpoint=E, traffic={}),
    DeleteDeployment(endpoint=E, deployment=D),
], ids=lambda command: type(command).__name__)
def test_an_endpoint_that_is_not_there_cannot_be_changed(command: object) -> None:
    given: Spec = endpoint.given(*registered, stream=M)
    given.when(command).then_rejected(NotFound, what="endpoint", name=E)

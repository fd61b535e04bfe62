"""The deployer: runs the replicas that deployments want, reports what became of them, and keeps the gateway's routes.

Hears: workspace-created and every event of endpoints.  Sends: ReportReplicaReady, ReportReplicaLost, FailDeployment.
Calls: Serving.start, Serving.stop, Gateway.apply; looks at Serving.list.

A rolling update: the new revision's replicas are started; once all are ready the log says that it serves; then the routes are
switched; and only when the gateway has taken them are the old replicas drained and stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from actors.role import Because, Call, Role, Send, Started
from core import endpoints
from core.endpoints import DeploymentRequested, DeploymentSpec, FailDeployment, Open, ReportReplicaLost, ReportReplicaReady, Revision
from core.events import Event, Recorded
from core.ports import ReplicaStatus
from core.workspaces import WorkspaceCreated

ENDPOINT_EVENTS = endpoints.EVENTS


# -- outside calls and what is seen of the outside ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class StartReplica:
    """Starts the replica; one that failed is started again, after the pool's own back-off."""

    endpoint: str
    deployment: str
    revision: int
    replica: str
    spec: DeploymentSpec


@dataclass(frozen=True, slots=True)
class StopReplica:
    replica: str
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class WantedBackend:
    deployment: str
    weight: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WantedRoute:
    """A route whose keys are still references into the vault."""

    workspace_name: str
    endpoint: str
    key_references: tuple[str, ...]
    backends: tuple[WantedBackend, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class ApplyRoutes:
    """All routes of the workspace."""

    routes: tuple[WantedRoute, ...]


@dataclass(frozen=True, slots=True)
class ReplicasListed:
    replicas: tuple[ReplicaStatus, ...]


@dataclass(frozen=True, slots=True)
class RoutesApplied:
    routes: tuple[WantedRoute, ...]


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Service:
    """One endpoint. `born` is the sequence at which each `<deployment>/<revision>` was requested: part of its replicas' names."""

    endpoint: Open
    version: int
    because: Because
    born: dict[str, int]


@dataclass(frozen=True, slots=True)
class Services:
    workspace: str
    name: str
    services: dict[str, Service]
    replicas: dict[str, ReplicaStatus] | None = None
    """What runs, by replica; None before the first look: nothing is done then."""
    applied: tuple[WantedRoute, ...] | None = None
    """What the gateway has taken; None when that is not known."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One replica that should run. `serves`: its revision is the current one."""

    deployment: str
    revision: Revision
    replica: str
    serves: bool


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(services: Services, recorded: Recorded) -> Services:
    match recorded.event:
        case WorkspaceCreated() as event:
            return replace(services, workspace=recorded.workspace, name=event.name)
        case event if isinstance(event, ENDPOINT_EVENTS):
            return _evolve_endpoint(services, recorded, event)
        case _:
            return services


def _evolve_endpoint(services: Services, recorded: Recorded, event: Event) -> Services:
    name = recorded.stream.partition("/")[2]
    known = services.services.get(name)
    state = endpoints.evolve(known.endpoint if known else endpoints.NoEndpoint(), event)
    others = {other: service for other, service in services.services.items() if other != name}
    if not isinstance(state, Open):
        return replace(services, workspace=recorded.workspace, services=others)
    live = {f"{deployment}/{revision.number}" for deployment, revision, _ in _revisions(state)}
    born = {key: sequence for key, sequence in (known.born if known else {}).items() if key in live}
    if isinstance(event, DeploymentRequested):
        born[f"{event.deployment}/{event.revision}"] = recorded.sequence
    service = Service(state, recorded.version, Because.of(recorded), born)
    return replace(services, workspace=recorded.workspace, services={**others, name: service})


def observe(services: Services, signal: object) -> Services:
    match signal:
        case Started():
            return replace(services, replicas=None, applied=None)
        case ReplicasListed(replicas):
            return replace(services, replicas={status.replica: status for status in replicas})
        case RoutesApplied(routes):
            return replace(services, applied=routes)
        case _:
            return services


# -- react -------------------------------------------------------------------------------------------------------------
def react(services: Services, now: datetime, *, drain_seconds: float) -> Sequence[Send | Call]:
    """One pass compares what is wanted with what runs. Stopping comes last, and only under the routes that are wanted."""
    if services.replicas is None:
        return ()
    wishes: list[Send | Call] = []
    wanted: set[str] = set()
    for name, service in services.services.items():
        for slot in _slots(service):
            wanted.add(slot.replica)
            wishes += _tend(name, service, slot, services.replicas.get(slot.replica))
    routes = tuple(_route(services, name, service, services.replicas) for name, service in sorted(services.services.items()))
    if services.applied != routes:
        return (*wishes, Call("routes", ApplyRoutes(routes)))
    for replica, status in services.replicas.items():
        if replica not in wanted and status.phase != "stopped":
            wishes.append(Call(f"stop {replica}", StopReplica(replica, drain_seconds if status.phase == "ready" else 0.0)))
    return wishes


def _tend(endpoint: str, service: Service, slot: Slot, status: ReplicaStatus | None) -> Iterator[Send | Call]:
    """What one wanted replica needs: a start, a report that it is ready or lost, or the end of its revision."""
    deployment, number, replica = slot.deployment, slot.revision.number, slot.replica
    reported = replica in slot.revision.ready

    def send(command: object, ordinal: str) -> Send:
        return Send(command, endpoints.stream_of(endpoint), service.version, service.because, f"{ordinal} {replica}")

    if status is not None and status.phase == "ready":
        if not reported:
            yield send(ReportReplicaReady(endpoint=endpoint, deployment=deployment, revision=number, replica=replica), "ready")
        return
    if reported:
        reason = status.reason if status is not None and status.reason else "it is not there any more"
        lost = ReportReplicaLost(endpoint=endpoint, deployment=deployment, revision=number, replica=replica, reason=reason)
        yield send(lost, "lost")
    if status is not None and status.phase == "failed" and not slot.serves:
        yield send(FailDeployment(endpoint=endpoint, deployment=deployment, revision=number, reason=status.reason), "failed")
    elif status is None or status.phase in ("failed", "stopped"):
        yield Call(f"start {replica}", StartReplica(endpoint, deployment, number, replica, slot.revision.spec))


def _route(services: Services, name: str, service: Service, replicas: dict[str, ReplicaStatus]) -> WantedRoute:
    """Backends are the current revisions with the addresses that are ready; a deployment without traffic can still be named."""
    backends: list[WantedBackend] = []
    timeout_seconds = 1.0
    for deployment, revision, serves in _revisions(service.endpoint):
        if not serves:
            continue
        ready = [replicas[one.replica] for one in _slots(service) if one.revision is revision and one.replica in replicas]
        addresses = tuple(sorted(status.address for status in ready if status.phase == "ready"))
        backends.append(WantedBackend(deployment, service.endpoint.traffic.get(deployment, 0), addresses))
        timeout_seconds = max(timeout_seconds, revision.spec.request_timeout_ms / 1000)
    keys = (service.endpoint.primary_key, service.endpoint.secondary_key)
    return WantedRoute(services.name, name, keys, tuple(sorted(backends, key=lambda one: one.deployment)), timeout_seconds)


def _revisions(endpoint: Open) -> Iterator[tuple[str, Revision, bool]]:
    for name, deployment in endpoint.deployments.items():
        if deployment.current is not None:
            yield name, deployment.current, True
        if deployment.rolling is not None:
            yield name, deployment.rolling, False


def _slots(service: Service) -> Iterator[Slot]:
    for deployment, revision, serves in _revisions(service.endpoint):
        born = service.born.get(f"{deployment}/{revision.number}", 0)
        for ordinal in range(revision.spec.instance_count):
            yield Slot(deployment, revision, replica_name(service.endpoint.endpoint, deployment, revision.number, born, ordinal), serves)


def replica_name(endpoint: str, deployment: str, revision: int, born: int, ordinal: int) -> str:
    """The same replica has the same name at every start; one of a deployment made anew under an old name has another."""
    return "r-" + hashlib.sha256(f"{endpoint}|{deployment}|{revision}|{born}|{ordinal}".encode()).hexdigest()[:16]


def role(*, drain_seconds: float = 30.0) -> Role[Services]:
    return Role(
        name="deployer", version=1, shape=Services, initial=Services("", "", {}), evolve=evolve,
        react=partial(react, drain_seconds=drain_seconds), observe=observe, together=True,
    )

"""A real-time endpoint and its deployments. Stream `endpoint/<name>`.

A deployment moves from revision to revision: the next one gets traffic only once it is ready, and only then does the one
before it go. Each revision holds its model version from the commit that wants it to the commit that ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from core import models
from core.decider import Decision, Handler, Kind, States, one_stream
from core.environments import EnvironmentSpec
from core.errors import AlreadyExists, Conflict, Invalid, NotFound
from core.events import Event, Value
from core.ids import Stream

INSTANCES_MAX = 64


class DeploymentSpec(Value):
    """What a revision runs, resolved when it was made so that it can be made again next year."""

    model: str
    model_version: int
    model_manifest: str
    code: str
    """Manifest digest of the scoring code's folder."""
    scoring_script: str
    environment: EnvironmentSpec
    environment_variables: dict[str, str] = {}
    instance_count: int = 1
    request_timeout_ms: int = 60_000
    max_concurrent_requests_per_instance: int = 32
    target: Literal["server"] = "server"


# -- events ------------------------------------------------------------------------------------------------------------
class EndpointCreated(Event):
    """The endpoint exists, without deployments. The keys lie in the vault under these references."""

    type: Literal["endpoint-created"] = "endpoint-created"
    endpoint: str
    description: str | None = None
    tags: dict[str, str] = {}
    primary_key: str
    secondary_key: str


class EndpointKeyRegenerated(Event):
    """One of its two keys was replaced; the other goes on."""

    type: Literal["endpoint-key-regenerated"] = "endpoint-key-regenerated"
    endpoint: str
    which: Literal["primary", "secondary"]
    reference: str


class DeploymentRequested(Event):
    """A new revision of a deployment is wanted; the one that serves goes on until this one is ready."""

    type: Literal["deployment-requested"] = "deployment-requested"
    endpoint: str
    deployment: str
    revision: int
    spec: DeploymentSpec
    all_traffic: bool = False


class ReplicaReady(Event):
    """One copy of the revision passed its probe."""

    type: Literal["replica-ready"] = "replica-ready"
    endpoint: str
    deployment: str
    revision: int
    replica: str


class ReplicaLost(Event):
    """A copy that was ready is not there any more; the deployer starts another."""

    type: Literal["replica-lost"] = "replica-lost"
    endpoint: str
    deployment: str
    revision: int
    replica: str
    reason: str


class DeploymentReady(Event):
    """All copies of the revision are ready; it is the one that serves from now on."""

    type: Literal["deployment-ready"] = "deployment-ready"
    endpoint: str
    deployment: str
    revision: int


class DeploymentFailed(Event):
    """The revision did not become ready and never will; what served before goes on."""

    type: Literal["deployment-failed"] = "deployment-failed"
    endpoint: str
    deployment: str
    revision: int
    reason: str


class TrafficSet(Event):
    """Which share of the requests each deployment gets, in percent."""

    type: Literal["traffic-set"] = "traffic-set"
    endpoint: str
    traffic: dict[str, int]


class DeploymentDeleted(Event):
    """The deployment is gone; its copies stop after draining."""

    type: Literal["deployment-deleted"] = "deployment-deleted"
    endpoint: str
    deployment: str


class EndpointDeleted(Event):
    """The endpoint is gone, and its deployments with it."""

    type: Literal["endpoint-deleted"] = "endpoint-deleted"
    endpoint: str


EVENTS = (
    EndpointCreated, EndpointKeyRegenerated, DeploymentRequested, ReplicaReady, ReplicaLost, DeploymentReady, DeploymentFailed,
    TrafficSet, DeploymentDeleted, EndpointDeleted,
)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoEndpoint:
    """Never made, or deleted."""


@dataclass(frozen=True, slots=True)
class Revision:
    number: int
    spec: DeploymentSpec
    all_traffic: bool
    ready: frozenset[str] = frozenset()
    """Replicas that are ready."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """`current` serves; `rolling` is on its way to replace it; `failed` tells why the last wish did not come true."""

    current: Revision | None
    rolling: Revision | None
    failed: str | None
    highest: int


@dataclass(frozen=True, slots=True)
class Open:
    endpoint: str
    primary_key: str
    secondary_key: str
    traffic: dict[str, int]
    deployments: dict[str, Deployment]


Endpoint = NoEndpoint | Open


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Endpoint, event: Event) -> Endpoint:
    match state, event:
        case NoEndpoint(), EndpointCreated():
            return Open(event.endpoint, event.primary_key, event.secondary_key, {}, {})
        case Open(), EndpointKeyRegenerated(which="primary"):
            return replace(state, primary_key=event.reference)
        case Open(), EndpointKeyRegenerated():
            return replace(state, secondary_key=event.reference)
        case Open(), TrafficSet():
            return replace(state, traffic=event.traffic)
        case Open(), DeploymentDeleted():
            return replace(
                state,
                deployments={name: d for name, d in state.deployments.items() if name != event.deployment},
                traffic={name: share for name, share in state.traffic.items() if name != event.deployment},
            )
        case Open(), EndpointDeleted():
            return NoEndpoint()
        case Open(), (DeploymentRequested() | ReplicaReady() | ReplicaLost() | DeploymentReady() | DeploymentFailed()):
            before = state.deployments.get(event.deployment, Deployment(None, None, None, 0))
            return replace(state, deployments={**state.deployments, event.deployment: _evolve_deployment(before, event)})
        case _:
            return state


def _evolve_deployment(state: Deployment, event: Event) -> Deployment:
    match event:
        case DeploymentRequested():
            return replace(state, rolling=Revision(event.revision, event.spec, event.all_traffic), failed=None, highest=event.revision)
        case ReplicaReady():
            return _with_ready(state, event.revision, lambda ready: ready | {event.replica})
        case ReplicaLost():
            return _with_ready(state, event.revision, lambda ready: ready - {event.replica})
        case DeploymentReady() if state.rolling is not None and state.rolling.number == event.revision:
            return replace(state, current=state.rolling, rolling=None)
        case DeploymentFailed() if state.rolling is not None and state.rolling.number == event.revision:
            return replace(state, rolling=None, failed=event.reason)
        case _:
            return state


def _with_ready(state: Deployment, number: int, change) -> Deployment:  # type: ignore[no-untyped-def]  # a local lambda
    def changed(revision: Revision | None) -> Revision | None:
        if revision is None or revision.number != number:
            return revision
        return replace(revision, ready=change(revision.ready))

    return replace(state, current=changed(state.current), rolling=changed(state.rolling))


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEndpoint:
    endpoint: str
    description: str | None = None
    tags: dict[str, str]
    primary_key: str
    secondary_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegenerateKey:
    endpoint: str
    which: Literal["primary", "secondary"]
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDeployment:
    """Creates the deployment, or its next revision."""

    endpoint: str
    deployment: str
    spec: DeploymentSpec
    all_traffic: bool = False
    create_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReplicaReady:
    endpoint: str
    deployment: str
    revision: int
    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReplicaLost:
    endpoint: str
    deployment: str
    revision: int
    replica: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailDeployment:
    endpoint: str
    deployment: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTraffic:
    endpoint: str
    traffic: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDeployment:
    endpoint: str
    deployment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteEndpoint:
    endpoint: str


# -- decide ------------------------------------------------------------------------------------------------------------
def create(state: Endpoint, command: CreateEndpoint) -> Sequence[Event]:
    if isinstance(state, Open):
        raise AlreadyExists("endpoint", command.endpoint)
    return (EndpointCreated(
        endpoint=command.endpoint, description=command.description, tags=command.tags,
        primary_key=command.primary_key, secondary_key=command.secondary_key,
    ),)


def regenerate_key(state: Endpoint, command: RegenerateKey) -> Sequence[Event]:
    endpoint = _open(state, command.endpoint)
    if command.reference in (endpoint.primary_key, endpoint.secondary_key):
        return ()
    return (EndpointKeyRegenerated(endpoint=command.endpoint, which=command.which, reference=command.reference),)


def request(states: States, command: RequestDeployment) -> Decision:
    endpoint = _open(states[stream_of(command.endpoint)], command.endpoint)
    version = models.version_of(states[models.stream_of(command.spec.model)], command.spec.model, command.spec.model_version)
    if version.manifest != command.spec.model_manifest:
        raise Conflict("The model version has other files than the deployment names.", model=command.spec.model)
    if not 1 <= command.spec.instance_count <= INSTANCES_MAX:
        raise Invalid(f"instance_count must be between 1 and {INSTANCES_MAX}.", field="instance_count")
    known = endpoint.deployments.get(command.deployment, Deployment(None, None, None, 0))
    wanted = known.rolling or known.current
    if wanted is not None and wanted.spec == command.spec:
        return _all_traffic(endpoint, command, known)
    if wanted is not None and command.create_only:
        raise AlreadyExists("deployment", command.deployment)
    revision = known.highest + 1
    made: dict[Stream, list[Event]] = {stream_of(command.endpoint): []}
    if known.rolling is not None:
        made[stream_of(command.endpoint)].append(DeploymentFailed(
            endpoint=command.endpoint, deployment=command.deployment, revision=known.rolling.number,
            reason=f"replaced by revision {revision}",
        ))
        _release(made, states, command.endpoint, command.deployment, known.rolling)
    made[stream_of(command.endpoint)].append(DeploymentRequested(
        endpoint=command.endpoint, deployment=command.deployment, revision=revision, spec=command.spec, all_traffic=command.all_traffic,
    ))
    made.setdefault(models.stream_of(command.spec.model), []).append(models.ModelVersionUsed(
        model=command.spec.model, version=command.spec.model_version,
        endpoint=command.endpoint, deployment=command.deployment, revision=revision,
    ))
    return made


def _all_traffic(endpoint: Open, command: RequestDeployment, known: Deployment) -> Decision:
    """What is deployed already gets the traffic that is asked for; what is on its way gets it as its own request said."""
    if not command.all_traffic or command.create_only or known.rolling is not None or endpoint.traffic == {command.deployment: 100}:
        return {}
    return {stream_of(command.endpoint): (TrafficSet(endpoint=command.endpoint, traffic={command.deployment: 100}),)}


def report_ready(states: States, command: ReportReplicaReady) -> Decision:
    """Once as many copies as wanted are ready, the revision takes over and the one before it is released."""
    found = _revision(states, command.endpoint, command.deployment, command.revision)
    if found is None or command.replica in found[1].ready:
        return {}
    deployment, revision = found
    made: dict[Stream, list[Event]] = {stream_of(command.endpoint): [ReplicaReady(
        endpoint=command.endpoint, deployment=command.deployment, revision=command.revision, replica=command.replica,
    )]}
    if deployment.rolling is revision and len(revision.ready) + 1 >= revision.spec.instance_count:
        made[stream_of(command.endpoint)].append(DeploymentReady(
            endpoint=command.endpoint, deployment=command.deployment, revision=command.revision,
        ))
        if revision.all_traffic:
            made[stream_of(command.endpoint)].append(TrafficSet(endpoint=command.endpoint, traffic={command.deployment: 100}))
        if deployment.current is not None:
            _release(made, states, command.endpoint, command.deployment, deployment.current)
    return made


def report_lost(states: States, command: ReportReplicaLost) -> Decision:
    found = _revision(states, command.endpoint, command.deployment, command.revision)
    if found is None or command.replica not in found[1].ready:
        return {}
    return {stream_of(command.endpoint): (ReplicaLost(
        endpoint=command.endpoint, deployment=command.deployment, revision=command.revision, replica=command.replica, reason=command.reason,
    ),)}


def fail(states: States, command: FailDeployment) -> Decision:
    found = _revision(states, command.endpoint, command.deployment, command.revision)
    if found is None or found[0].rolling is not found[1]:
        return {}
    made: dict[Stream, list[Event]] = {stream_of(command.endpoint): [DeploymentFailed(
        endpoint=command.endpoint, deployment=command.deployment, revision=command.revision, reason=command.reason,
    )]}
    _release(made, states, command.endpoint, command.deployment, found[1])
    return made


def set_traffic(state: Endpoint, command: SetTraffic) -> Sequence[Event]:
    endpoint = _open(state, command.endpoint)
    traffic = {name: share for name, share in command.traffic.items() if share}
    if any(share < 0 for share in traffic.values()) or sum(traffic.values()) not in (0, 100):
        raise Invalid("The shares of the traffic must be whole percents that add up to 100 (or all be 0).", field="traffic")
    for name in traffic:
        if name not in endpoint.deployments:
            raise NotFound("deployment", name)
        if endpoint.deployments[name].current is None:
            raise Conflict(f"The deployment {name!r} is not ready; it gets traffic once it is.", deployment=name)
    return () if traffic == endpoint.traffic else (TrafficSet(endpoint=command.endpoint, traffic=traffic),)


def delete_deployment(states: States, command: DeleteDeployment) -> Decision:
    endpoint = _open(states[stream_of(command.endpoint)], command.endpoint)
    if command.deployment not in endpoint.deployments:
        return {}
    share = endpoint.traffic.get(command.deployment, 0)
    if share:
        raise Conflict(
            f"The deployment {command.deployment!r} gets {share} % of the traffic; set its traffic to 0 first.",
            deployment=command.deployment,
        )
    made: dict[Stream, list[Event]] = {stream_of(command.endpoint): [
        DeploymentDeleted(endpoint=command.endpoint, deployment=command.deployment),
    ]}
    _release_all(made, states, command.endpoint, command.deployment, endpoint.deployments[command.deployment])
    return made


def delete(states: States, command: DeleteEndpoint) -> Decision:
    state: Endpoint = states[stream_of(command.endpoint)]
    if isinstance(state, NoEndpoint):
        return {}
    made: dict[Stream, list[Event]] = {stream_of(command.endpoint): [EndpointDeleted(endpoint=command.endpoint)]}
    for name, deployment in state.deployments.items():
        _release_all(made, states, command.endpoint, name, deployment)
    return made


def _open(state: Endpoint, endpoint: str) -> Open:
    if not isinstance(state, Open):
        raise NotFound("endpoint", endpoint)
    return state


def _revision(states: States, endpoint: str, deployment: str, number: int) -> tuple[Deployment, Revision] | None:
    state: Endpoint = states[stream_of(endpoint)]
    found = state.deployments.get(deployment) if isinstance(state, Open) else None
    if found is None:
        return None
    for revision in (found.rolling, found.current):
        if revision is not None and revision.number == number:
            return found, revision
    return None


def _release_all(made: dict[Stream, list[Event]], states: States, endpoint: str, name: str, deployment: Deployment) -> None:
    for revision in (deployment.current, deployment.rolling):
        if revision is not None:
            _release(made, states, endpoint, name, revision)


def _release(made: dict[Stream, list[Event]], states: States, endpoint: str, deployment: str, revision: Revision) -> None:
    stream = models.stream_of(revision.spec.model)
    made.setdefault(stream, []).append(models.ModelVersionReleased(
        model=revision.spec.model, version=revision.spec.model_version, endpoint=endpoint, deployment=deployment, revision=revision.number,
    ))


_Deploying = RequestDeployment | ReportReplicaReady | ReportReplicaLost | FailDeployment | DeleteDeployment | DeleteEndpoint


def stream_of(endpoint: str) -> Stream:
    return Stream(f"endpoint/{endpoint}")


def _with_models(command: _Deploying, states: States) -> Sequence[Stream]:
    home = stream_of(command.endpoint)
    wanted = [home]
    if isinstance(command, RequestDeployment):
        wanted.append(models.stream_of(command.spec.model))
    state = states.get(home)
    if isinstance(state, Open):
        for deployment in state.deployments.values():
            wanted += [models.stream_of(r.spec.model) for r in (deployment.current, deployment.rolling) if r is not None]
    return wanted


KIND = Kind("endpoint", NoEndpoint(), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(CreateEndpoint, lambda c: stream_of(c.endpoint), create),
    one_stream(RegenerateKey, lambda c: stream_of(c.endpoint), regenerate_key),
    Handler(RequestDeployment, _with_models, request),
    Handler(ReportReplicaReady, _with_models, report_ready),
    Handler(ReportReplicaLost, _with_models, report_lost),
    Handler(FailDeployment, _with_models, fail),
    one_stream(SetTraffic, lambda c: stream_of(c.endpoint), set_traffic),
    Handler(DeleteDeployment, _with_models, delete_deployment),
    Handler(DeleteEndpoint, _with_models, delete),
)

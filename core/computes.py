"""A compute: where scripts run. Stream `compute/<name>`. This issue has clusters of local nodes.

A cluster states how many nodes it wants; the node actor makes it so, one `node/<id>` stream each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from core import workspaces
from core.decider import Decision, Handler, Kind, States, one_stream
from core.errors import AlreadyExists, Conflict, Invalid, NotFound
from core.events import Event
from core.ids import Stream
from core.workspaces import Active as ActiveWorkspace
from core.workspaces import UpdateWorkspace, WorkspaceUpdated
from core.workspaces import stream_of as workspace_stream

Provider = Literal["local", "joined"]
NODES_MAX = 1000


# -- events ------------------------------------------------------------------------------------------------------------
class ComputeCreated(Event):
    """A cluster was made; nothing runs yet. `local` nodes are started by the server; `joined` ones come with a join token."""

    type: Literal["compute-created"] = "compute-created"
    compute: str
    provider: Provider = "local"
    min_nodes: int
    max_nodes: int
    idle_seconds: float
    slots_per_node: int = 1
    description: str | None = None


class ComputeUpdated(Event):
    """Its limits changed; only the fields that changed are there."""

    type: Literal["compute-updated"] = "compute-updated"
    compute: str
    min_nodes: int | None = None
    max_nodes: int | None = None
    idle_seconds: float | None = None


class ClusterScaled(Event):
    """The cluster wants this many nodes from now on, for this reason."""

    type: Literal["cluster-scaled"] = "cluster-scaled"
    compute: str
    wanted: int
    before: int
    reason: str


class ComputeDeleted(Event):
    """The compute takes no more work and its nodes go."""

    type: Literal["compute-deleted"] = "compute-deleted"
    compute: str


EVENTS = (ComputeCreated, ComputeUpdated, ClusterScaled, ComputeDeleted)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoCompute:
    """Never made."""


@dataclass(frozen=True, slots=True)
class Cluster:
    compute: str
    provider: Provider
    min_nodes: int
    max_nodes: int
    idle_seconds: float
    slots_per_node: int
    wanted: int


@dataclass(frozen=True, slots=True)
class GoneCompute:
    compute: str


Compute = NoCompute | Cluster | GoneCompute


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Compute, event: Event) -> Compute:
    match state, event:
        case (NoCompute() | GoneCompute()), ComputeCreated():
            return Cluster(
                event.compute, event.provider, event.min_nodes, event.max_nodes, event.idle_seconds, event.slots_per_node, event.min_nodes,
            )
        case Cluster(), ComputeUpdated():
            return replace(
                state,
                min_nodes=state.min_nodes if event.min_nodes is None else event.min_nodes,
                max_nodes=state.max_nodes if event.max_nodes is None else event.max_nodes,
                idle_seconds=state.idle_seconds if event.idle_seconds is None else event.idle_seconds,
            )
        case Cluster(), ClusterScaled():
            return replace(state, wanted=event.wanted)
        case Cluster(), ComputeDeleted():
            return GoneCompute(state.compute)
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCompute:
    """`workspace` is where it is made: the first compute of a workspace becomes its default."""

    workspace: str
    compute: str
    provider: Provider = "local"
    min_nodes: int = 0
    max_nodes: int = 1
    idle_seconds: float = 120.0
    slots_per_node: int = 1
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCompute:
    compute: str
    min_nodes: int | None = None
    max_nodes: int | None = None
    idle_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleCluster:
    compute: str
    wanted: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCompute:
    """`active` names runs that are placed there, as the caller saw it."""

    compute: str
    active: tuple[str, ...] = ()


# -- decide ------------------------------------------------------------------------------------------------------------
def create(states: States, command: CreateCompute) -> Decision:
    stream, workspace = stream_of(command.compute), workspace_stream(command.workspace)
    _check_bounds(command.min_nodes, command.max_nodes, command.idle_seconds)
    if not 1 <= command.slots_per_node <= 64:
        raise Invalid("slots_per_node must be between 1 and 64.", field="slots_per_node")
    state: Compute = states[stream]
    match state:
        case Cluster():
            wanted = (command.provider, command.min_nodes, command.max_nodes, command.idle_seconds, command.slots_per_node)
            if wanted == (state.provider, state.min_nodes, state.max_nodes, state.idle_seconds, state.slots_per_node):
                return {}
            raise AlreadyExists("compute", command.compute)
        case NoCompute() | GoneCompute():
            made: dict[Stream, Sequence[Event]] = {stream: (ComputeCreated(
                compute=command.compute, provider=command.provider, min_nodes=command.min_nodes, max_nodes=command.max_nodes,
                idle_seconds=command.idle_seconds, slots_per_node=command.slots_per_node, description=command.description,
            ),)}
        case _:
            assert_never(state)
    home = states[workspace]
    if isinstance(home, ActiveWorkspace) and home.default_compute is None:
        made[workspace] = (WorkspaceUpdated(workspace=command.workspace, default_compute=command.compute),)
    return made


def update(state: Compute, command: UpdateCompute) -> Sequence[Event]:
    cluster = _cluster(state, command.compute)
    after = {
        field: getattr(cluster, field) if getattr(command, field) is None else getattr(command, field)
        for field in ("min_nodes", "max_nodes", "idle_seconds")
    }
    _check_bounds(after["min_nodes"], after["max_nodes"], after["idle_seconds"])
    changed = {field: value for field, value in after.items() if value != getattr(cluster, field)}
    return (ComputeUpdated(compute=command.compute, **changed),) if changed else ()


def scale(state: Compute, command: ScaleCluster) -> Sequence[Event]:
    cluster = _cluster(state, command.compute)
    wanted = max(cluster.min_nodes, min(cluster.max_nodes, command.wanted))
    if wanted == cluster.wanted:
        return ()
    return (ClusterScaled(compute=command.compute, wanted=wanted, before=cluster.wanted, reason=command.reason),)


def delete(state: Compute, command: DeleteCompute) -> Sequence[Event]:
    match state:
        case NoCompute():
            raise NotFound("compute", command.compute)
        case GoneCompute():
            return ()
        case Cluster():
            if command.active:
                raise Conflict(
                    f"Runs are on this compute: {', '.join(command.active[:10])}. Cancel them first.", active=list(command.active[:100]),
                )
            return (ComputeDeleted(compute=command.compute),)
        case _:
            assert_never(state)


def _cluster(state: Compute, compute: str) -> Cluster:
    if not isinstance(state, Cluster):
        raise NotFound("compute", compute)
    return state


def _check_bounds(min_nodes: int, max_nodes: int, idle_seconds: float) -> None:
    if not 0 <= min_nodes <= max_nodes <= NODES_MAX or max_nodes < 1:
        raise Invalid(f"A cluster needs 0 <= min_nodes <= max_nodes, and max_nodes between 1 and {NODES_MAX}.", field="max_nodes")
    if not 0 <= idle_seconds <= 86_400:
        raise Invalid("idle_seconds must be between 0 and 86400.", field="idle_seconds")


def stream_of(compute: str) -> Stream:
    return Stream(f"compute/{compute}")


def update_workspace(states: States, command: UpdateWorkspace) -> Decision:
    """Decided here because a default compute must exist. Raises: NotFound."""
    if command.default_compute is not None:
        _cluster(states[stream_of(command.default_compute)], command.default_compute)
    stream = workspace_stream(command.workspace)
    events = workspaces.update(states[stream], command)
    return {stream: events} if events else {}


def _workspace_streams(command: UpdateWorkspace, _: States) -> Sequence[Stream]:
    home = (workspace_stream(command.workspace),)
    return home if command.default_compute is None else (*home, stream_of(command.default_compute))


KIND = Kind("compute", NoCompute(), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    Handler(CreateCompute, lambda c, _: (stream_of(c.compute), workspace_stream(c.workspace)), create),
    Handler(UpdateWorkspace, _workspace_streams, update_workspace),
    one_stream(UpdateCompute, lambda c: stream_of(c.compute), update),
    one_stream(ScaleCluster, lambda c: stream_of(c.compute), scale),
    one_stream(DeleteCompute, lambda c: stream_of(c.compute), delete),
)

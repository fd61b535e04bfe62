"""The node actor: makes as many nodes exist as each local cluster wants, and no others.

Hears: compute-created, -updated, -deleted, cluster-scaled, node-requested, node-joined, node-release-requested, node-gone, slot-taken,
slot-freed.  Sends: RequestNode, ReleaseNode, LoseNode.  Calls: Nodes.start, Nodes.stop; looks at Nodes.list.

A node is requested in the log before its machine is started, released in the log before it is stopped, and gone in the log last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

from actors.role import Because, Call, Role, Send, Started
from core import computes
from core.computes import Cluster, ClusterScaled, ComputeCreated, ComputeDeleted, ComputeUpdated
from core.events import Recorded
from core.nodes import (
    LoseNode,
    NodeGone,
    NodeJoined,
    NodeReleaseRequested,
    NodeRequested,
    ReleaseNode,
    RequestNode,
    SlotFreed,
    SlotTaken,
    stream_of,
)

STARTS_MAX = 5
"""After so many starts in a row that led to nothing, a node that never joined is given up."""
LONG_SECONDS = 60.0
"""An agent that lived for so long is no longer about to die at once; also the longest pause between two starts of it."""
RELEASE_SECONDS = 30.0
"""For how long a released machine that is not ours to stop may still be told to end."""


# -- outside calls and what is seen of the outside ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class StartNode:
    node: str
    compute: str
    slots: int


@dataclass(frozen=True, slots=True)
class StopNode:
    node: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The nodes that the provider has now."""

    nodes: frozenset[str]
    at: datetime


@dataclass(frozen=True, slots=True)
class NodeStarted:
    node: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NodeStopped:
    node: str


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wanted:
    """A compute: how many nodes it wants, and how many were ever requested (names are never given twice)."""

    provider: str
    wanted: int
    slots: int
    made: int
    because: Because


@dataclass(frozen=True, slots=True)
class Machine:
    """A node that is not gone. `starts` counts the starts since it was last seen to live for long."""

    compute: str
    slots: int
    local: bool
    phase: Literal["requested", "joined", "releasing"]
    held: frozenset[str]
    since: datetime
    """When it was requested, joined, last became idle, or was released."""
    reason: str
    version: int
    because: Because
    starts: int = 0
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    workspace: str
    clusters: dict[str, Cluster]
    computes: dict[str, Wanted]
    machines: dict[str, Machine]
    existing: frozenset[str] | None = None
    """What the provider has, as far as it is known; None before the first look: nothing is done then."""


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(fleet: Fleet, recorded: Recorded) -> Fleet:
    because = Because.of(recorded)
    fleet = replace(fleet, workspace=recorded.workspace)
    match recorded.event:
        case ComputeCreated() | ComputeUpdated() | ClusterScaled() | ComputeDeleted() as event:
            state = computes.evolve(fleet.clusters.get(event.compute, computes.NoCompute()), event)
            others = {name: cluster for name, cluster in fleet.clusters.items() if name != event.compute}
            made = fleet.computes[event.compute].made if event.compute in fleet.computes else 0
            if not isinstance(state, computes.Cluster):
                wish = Wanted("local", 0, 1, made, because)
                return replace(fleet, clusters=others, computes={**fleet.computes, event.compute: wish})
            wish = Wanted(state.provider, state.wanted, state.slots_per_node, made, because)
            return replace(fleet, clusters={**others, event.compute: state}, computes={**fleet.computes, event.compute: wish})
        case NodeRequested() as event:
            machine = Machine(
                event.compute, event.slots, event.provider == "local", "requested", frozenset(), recorded.at, event.reason,
                recorded.version, because,
            )
            wish = fleet.computes.get(event.compute, Wanted("local", 0, event.slots, 0, because))
            return replace(
                fleet, machines={**fleet.machines, event.node: machine},
                computes={**fleet.computes, event.compute: replace(wish, made=wish.made + 1)},
            )
        case _:
            return replace(fleet, machines=_evolve_machines(fleet.machines, recorded, because))


def _evolve_machines(machines: dict[str, Machine], recorded: Recorded, because: Because) -> dict[str, Machine]:
    at, version = recorded.at, recorded.version
    match recorded.event:
        case NodeJoined() as event:
            known = machines.get(event.node) or Machine(event.compute, event.slots, False, "joined", frozenset(), at, "", version, because)
            return {**machines, event.node: replace(known, phase="joined", since=at, version=version, because=because, starts=0)}
        case NodeGone() as event:
            return {name: machine for name, machine in machines.items() if name != event.node}
        case NodeReleaseRequested() | SlotTaken() | SlotFreed() as event if event.node in machines:
            known = machines[event.node]
            match event:
                case NodeReleaseRequested():
                    known = replace(known, phase="releasing", reason=event.reason, since=at, version=version, because=because)
                case SlotTaken():
                    known = replace(known, held=known.held | {event.run}, version=version, because=because)
                case SlotFreed():
                    known = replace(known, held=known.held - {event.run}, since=at, version=version, because=because)
            return {**machines, event.node: known}
        case _:
            return machines


def observe(fleet: Fleet, signal: object) -> Fleet:
    match signal:
        case Started():
            machines = {name: replace(one, starts=0, started_at=None) for name, one in fleet.machines.items()}
            return replace(fleet, existing=None, machines=machines)
        case Listed(nodes, at):
            return replace(fleet, existing=nodes, machines={
                name: replace(one, starts=0) if one.starts and name in nodes and _seconds(one.started_at, at) > LONG_SECONDS else one
                for name, one in fleet.machines.items()
            })
        case NodeStarted(node, at) if fleet.existing is not None:
            machines = fleet.machines
            if node in machines:
                machines = {**machines, node: replace(machines[node], starts=machines[node].starts + 1, started_at=at)}
            return replace(fleet, existing=fleet.existing | {node}, machines=machines)
        case NodeStopped(node) if fleet.existing is not None:
            return replace(fleet, existing=fleet.existing - {node})
        case _:
            return fleet


def _seconds(since: datetime | None, now: datetime) -> float:
    """Since then; for ever when there is no then."""
    return float("inf") if since is None else (now - since).total_seconds()


# -- react -------------------------------------------------------------------------------------------------------------
def react(fleet: Fleet, now: datetime, *, join_seconds: float) -> Sequence[Send | Call]:
    if fleet.existing is None:
        return ()
    return (*_count(fleet), *_keep(fleet, fleet.existing, now, join_seconds), *_end(fleet, fleet.existing, now))


def _count(fleet: Fleet) -> Iterator[Send]:
    """As many nodes as wanted: new ones requested, idle ones released, those that never joined and the longest idle first."""
    for compute, wish in fleet.computes.items():
        if wish.provider != "local":
            continue
        alive = {name: one for name, one in fleet.machines.items() if one.compute == compute and one.phase != "releasing"}
        for ordinal in range(wish.wanted - len(alive)):
            node = name_of(fleet.workspace, compute, wish.made + ordinal)
            reason = f"{compute} wants {wish.wanted} nodes and has {len(alive)}"
            command = RequestNode(node=node, compute=compute, provider="local", slots=wish.slots, reason=reason)
            yield Send(command, stream_of(node), 0, wish.because)
        idle = [name for _, _, name in sorted((one.phase == "joined", one.since, name) for name, one in alive.items() if not one.held)]
        for name in idle[: max(0, len(alive) - wish.wanted)]:
            reason = f"{compute} wants {wish.wanted} nodes and has {len(alive)}"
            yield Send(ReleaseNode(node=name, reason=reason), stream_of(name), alive[name].version, wish.because, "release")


def _keep(fleet: Fleet, existing: frozenset[str], now: datetime, join_seconds: float) -> Iterator[Send | Call]:
    """Wanted nodes exist. One that never joins is given up, so that another is requested in its place."""
    for name, one in fleet.machines.items():
        if not one.local or one.phase == "releasing":
            continue
        late = one.phase == "requested" and (now - one.since).total_seconds() > join_seconds
        if late or (one.phase == "requested" and one.starts >= STARTS_MAX):
            reason = f"it did not join within {join_seconds:g} s" if late else f"it did not live through {one.starts} starts"
            yield Send(LoseNode(node=name, reason=reason), stream_of(name), one.version, one.because, "never joined")
        elif name not in existing and _seconds(one.started_at, now) >= min(LONG_SECONDS, 2.0 ** one.starts):
            yield Call(f"start {name}", StartNode(name, one.compute, one.slots))


def _end(fleet: Fleet, existing: frozenset[str], now: datetime) -> Iterator[Send | Call]:
    """Released nodes and strays are stopped; a released node that is not there any more is gone."""
    for name in existing:
        if name not in fleet.machines or fleet.machines[name].phase == "releasing":
            yield Call(f"stop {name}", StopNode(name))
    for name, one in fleet.machines.items():
        told = one.local or _seconds(one.since, now) >= RELEASE_SECONDS
        if one.phase == "releasing" and name not in existing and told:
            yield Send(LoseNode(node=name, reason=f"released: {one.reason}"), stream_of(name), one.version, one.because, "released")


def name_of(workspace: str, compute: str, ordinal: int) -> str:
    """`<compute>-<6 hex>`. An odd step through all 2**24 suffixes: no name comes twice in a compute, whatever the ordinal."""
    start = int.from_bytes(hashlib.sha256(f"{workspace}|{compute}".encode()).digest()[:3], "big")
    return f"{compute}-{(start + ordinal * 0x9E3779) % 2**24:06x}"


def role(*, join_seconds: float = 120.0) -> Role[Fleet]:
    return Role(
        name="node", version=1, shape=Fleet, initial=Fleet("", {}, {}, {}), evolve=evolve,
        react=partial(react, join_seconds=join_seconds), observe=observe,
    )

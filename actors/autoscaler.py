"""The autoscaler of local clusters: asks for nodes when runs wait, lets them go when idle.

Hears: compute-created, -updated, -deleted, cluster-scaled, run-submitted, run-placed, run-requeued, run-ended, node-requested, node-joined,
node-reachable, node-unreachable, node-release-requested, node-gone, slot-taken, slot-freed.  Sends: ScaleCluster. Never waits for a reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from actors.role import Because, Role, Send
from core import computes
from core.computes import ClusterScaled, ComputeCreated, ComputeDeleted, ComputeUpdated, ScaleCluster
from core.events import Recorded
from core.ids import Stream
from core.nodes import (
    NodeGone,
    NodeJoined,
    NodeReachable,
    NodeReleaseRequested,
    NodeRequested,
    NodeUnreachable,
    SlotFreed,
    SlotTaken,
)
from core.runs import RunEnded, RunPlaced, RunRequeued, RunSubmitted
from core.scaling import Demand, scale


@dataclass(frozen=True, slots=True)
class Known:
    """A local cluster, as its stream has it. `because` is the last event that changed what it needs."""

    cluster: computes.Cluster
    stream: Stream
    version: int
    because: Because


@dataclass(frozen=True, slots=True)
class Wait:
    """A run that has not ended; it counts while it waits."""

    compute: str
    slots: int
    waits: bool
    because: Because


@dataclass(frozen=True, slots=True)
class Machine:
    """A node that is requested or there. `idle_since` None: it holds work."""

    compute: str
    slots: int
    counts: bool
    """Whether its free slots can be hoped for: not while it is unreachable."""
    held: dict[str, int]
    idle_since: datetime | None
    because: Because


@dataclass(frozen=True, slots=True)
class Load:
    clusters: dict[str, Known]
    runs: dict[str, Wait]
    machines: dict[str, Machine]


def evolve(load: Load, recorded: Recorded) -> Load:
    because = Because.of(recorded)
    match recorded.event:
        case ComputeCreated() | ComputeUpdated() | ClusterScaled() | ComputeDeleted() as event:
            known = load.clusters.get(event.compute)
            state = computes.evolve(known.cluster if known else computes.NoCompute(), event)
            others = {name: one for name, one in load.clusters.items() if name != event.compute}
            if not isinstance(state, computes.Cluster) or state.provider != "local":
                return replace(load, clusters=others)
            return replace(load, clusters={**others, event.compute: Known(state, recorded.stream, recorded.version, because)})
        case RunSubmitted() as event:
            return replace(load, runs={**load.runs, event.run: Wait(event.compute, event.job.slots, True, because)})
        case RunRequeued() as event if event.run in load.runs:
            return replace(load, runs={**load.runs, event.run: replace(load.runs[event.run], waits=True, because=because)})
        case RunPlaced() as event if event.run in load.runs:
            return replace(load, runs={**load.runs, event.run: replace(load.runs[event.run], waits=False)})
        case RunEnded() as event:
            return replace(load, runs={name: run for name, run in load.runs.items() if name != event.run})
        case _:
            return replace(load, machines=_evolve_machines(load.machines, recorded, because))


def _evolve_machines(machines: dict[str, Machine], recorded: Recorded, because: Because) -> dict[str, Machine]:
    at = recorded.at
    match recorded.event:
        case NodeRequested() | NodeJoined() as event:
            return {**machines, event.node: Machine(event.compute, event.slots, True, {}, at, because)}
        case NodeReleaseRequested() | NodeGone() as event:
            return {name: machine for name, machine in machines.items() if name != event.node}
        case NodeReachable() | NodeUnreachable() | SlotTaken() | SlotFreed() as event if event.node in machines:
            known = machines[event.node]
            match event:
                case NodeReachable() | NodeUnreachable():
                    known = replace(known, counts=isinstance(event, NodeReachable))
                case SlotTaken():
                    known = replace(known, held={**known.held, event.run: event.slots}, idle_since=None)
                case SlotFreed():
                    held = {run: slots for run, slots in known.held.items() if run != event.run}
                    known = replace(known, held=held, idle_since=known.idle_since if held else at, because=because)
            return {**machines, event.node: known}
        case _:
            return machines


def react(load: Load, now: datetime) -> Sequence[Send]:
    sends: list[Send] = []
    for name, known in load.clusters.items():
        waiting = [run for run in load.runs.values() if run.waits and run.compute == name]
        machines = [machine for machine in load.machines.values() if machine.compute == name]
        answer = scale(demand(known.cluster, waiting, machines, now))
        if answer.wanted != known.cluster.wanted:
            causes = [known.because, *(run.because for run in waiting), *(machine.because for machine in machines)]
            because = max(causes, key=lambda cause: cause.sequence)
            sends.append(Send(ScaleCluster(compute=name, wanted=answer.wanted, reason=answer.reason), known.stream, known.version, because))
    return sends


def demand(cluster: computes.Cluster, waiting: Sequence[Wait], machines: Sequence[Machine], now: datetime) -> Demand:
    """The cluster now. Machines that have been idle for too short a time count as busy, so that only those idle for long go."""
    coming = max(0, cluster.wanted - len(machines))
    rooms = [machine.slots - sum(machine.held.values()) for machine in machines if machine.counts] + [cluster.slots_per_node] * coming
    idle = [(now - machine.idle_since).total_seconds() for machine in machines if machine.idle_since is not None]
    long_idle = [seconds for seconds in idle if seconds >= cluster.idle_seconds]
    queued = sum(run.slots for run in waiting)
    return Demand(
        min_nodes=cluster.min_nodes, max_nodes=cluster.max_nodes, slots_per_node=cluster.slots_per_node, wanted=cluster.wanted,
        busy_nodes=len(machines) - len(long_idle), queued_slots=queued, free_slots=_fitting((run.slots for run in waiting), rooms),
        idle_for_seconds=max(idle, default=0.0) if not waiting else 0.0, idle_seconds=cluster.idle_seconds,
    )


def _fitting(waiting: Iterable[int], rooms: list[int]) -> int:
    """How many of the waiting slots find room on nodes that are there or on their way: a run never spans two nodes."""
    fitting = 0
    for slots in waiting:
        for index, free in enumerate(rooms):
            if free >= slots:
                rooms[index] = free - slots
                fitting += slots
                break
    return fitting


def observe(load: Load, signal: object) -> Load:
    return load




ROLE: Role[Load] = Role(name="autoscaler", version=1, shape=Load, initial=Load({}, {}, {}), evolve=evolve, react=react, observe=observe)

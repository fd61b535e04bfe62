"""The scheduler: gives waiting runs to nodes with room, first come, first served in each compute.

Hears: run-submitted, run-placed, run-requeued, run-ended, node-joined, node-reachable, node-unreachable, node-release-requested,
node-gone, slot-taken, slot-freed, compute-created, compute-deleted.  Sends: PlaceRun; CancelRun for what waits on a deleted compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from actors.role import Because, Role, Send
from core.computes import ComputeCreated, ComputeDeleted
from core.events import Recorded
from core.ids import Stream
from core.nodes import NodeGone, NodeJoined, NodeReachable, NodeReleaseRequested, NodeUnreachable, SlotFreed, SlotTaken
from core.placement import Room, Waiting, place
from core.runs import CancelRun, PlaceRun, RunEnded, RunPlaced, RunRequeued, RunSubmitted


@dataclass(frozen=True, slots=True)
class Live:
    """A run that has not ended. `since` is its place in the queue, None while it is on a node."""

    compute: str
    slots: int
    submitted: int
    since: int | None
    stream: Stream
    version: int
    because: Because


@dataclass(frozen=True, slots=True)
class Place:
    """A node that takes work."""

    compute: str
    slots: int
    reachable: bool
    held: dict[str, int]
    """By run, its slots."""
    because: Because
    """The event that last made room on it."""


@dataclass(frozen=True, slots=True)
class Queue:
    runs: dict[str, Live]
    nodes: dict[str, Place]
    deleted: dict[str, Because]
    """Computes that were deleted and not made again."""


def evolve(queue: Queue, recorded: Recorded) -> Queue:
    because = Because.of(recorded)
    match recorded.event:
        case RunSubmitted() as event:
            live = Live(event.compute, event.job.slots, recorded.sequence, recorded.sequence, recorded.stream, recorded.version, because)
            return replace(queue, runs={**queue.runs, event.run: live})
        case RunRequeued() as event if event.run in queue.runs:
            known = queue.runs[event.run]
            since = known.submitted if event.cause == "node_lost" else recorded.sequence
            return replace(queue, runs={**queue.runs, event.run: replace(known, since=since, version=recorded.version, because=because)})
        case RunPlaced() as event if event.run in queue.runs:
            return replace(queue, runs={**queue.runs, event.run: replace(queue.runs[event.run], since=None)})
        case RunEnded() as event:
            return replace(queue, runs={name: live for name, live in queue.runs.items() if name != event.run})
        case ComputeCreated() as event:
            return replace(queue, deleted={name: why for name, why in queue.deleted.items() if name != event.compute})
        case ComputeDeleted() as event:
            return replace(queue, deleted={**queue.deleted, event.compute: because})
        case _:
            return replace(queue, nodes=_evolve_nodes(queue.nodes, recorded, because))


def _evolve_nodes(nodes: dict[str, Place], recorded: Recorded, because: Because) -> dict[str, Place]:
    match recorded.event:
        case NodeJoined() as event:
            return {**nodes, event.node: Place(event.compute, event.slots, True, {}, because)}
        case NodeReleaseRequested() | NodeGone() as event:
            return {name: place for name, place in nodes.items() if name != event.node}
        case NodeReachable() | NodeUnreachable() | SlotTaken() | SlotFreed() as event if event.node in nodes:
            known = nodes[event.node]
            match event:
                case NodeReachable():
                    known = replace(known, reachable=True, because=because)
                case NodeUnreachable():
                    known = replace(known, reachable=False)
                case SlotTaken():
                    known = replace(known, held={**known.held, event.run: event.slots})
                case SlotFreed():
                    known = replace(known, held={run: n for run, n in known.held.items() if run != event.run}, because=because)
            return {**nodes, event.node: known}
        case _:
            return nodes


def react(queue: Queue, now: datetime) -> Sequence[Send]:
    """The placements that are possible now. Causation is whatever came last: the run's wait or the node's room."""
    rooms = [
        Room(name, node.compute, node.slots - sum(node.held.values()), sum(node.held.values()))
        for name, node in queue.nodes.items() if node.reachable
    ]
    open_computes = {room.compute for room in rooms if room.free > 0} | queue.deleted.keys()
    waiting = sorted(
        ((live.since, name, live) for name, live in queue.runs.items() if live.since is not None and live.compute in open_computes),
        key=lambda entry: entry[0],
    )
    sends = [
        Send(CancelRun(run=name), live.stream, live.version, queue.deleted[live.compute], "compute deleted")
        for _, name, live in waiting if live.compute in queue.deleted
    ]
    waits = [Waiting(name, live.compute, live.slots) for _, name, live in waiting if live.compute not in queue.deleted]
    for placement in place(waits, rooms):
        live, node = queue.runs[placement.run], queue.nodes[placement.node]
        last = max(live.because, node.because, key=lambda because: because.sequence)
        because = replace(last, correlation=live.because.correlation)
        command = PlaceRun(run=placement.run, node=placement.node, reason=placement.reason)
        sends.append(Send(command, live.stream, live.version, because))
    return sends


def observe(queue: Queue, signal: object) -> Queue:
    return queue


ROLE: Role[Queue] = Role(
    name="scheduler", version=1, shape=Queue, initial=Queue({}, {}, {}), evolve=evolve, react=react, observe=observe,
)

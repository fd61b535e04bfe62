"""Which node a waiting run goes to. Pure: the same queue and the same nodes give the same answer, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run, oldest first in the queue."""

    run: str
    compute: str
    slots: int


@dataclass(frozen=True, slots=True)
class Room:
    """A node that is ready and reachable, with its free slots."""

    node: str
    compute: str
    free: int
    used: int


@dataclass(frozen=True, slots=True)
class Placement:
    run: str
    node: str
    reason: str


def place(queue: Sequence[Waiting], rooms: Sequence[Room]) -> Sequence[Placement]:
    """First come, first served in each compute; the fullest node that still has room, so that others can become idle.

    A run that does not fit holds back those behind it in its compute, so that a large one is never starved by small ones.
    """
    free = {room.node: room.free for room in rooms}
    used = {room.node: room.used for room in rooms}
    blocked: set[str] = set()
    placements: list[Placement] = []
    for waiting in queue:
        if waiting.compute in blocked:
            continue
        fitting = [room.node for room in rooms if room.compute == waiting.compute and free[room.node] >= waiting.slots]
        if not fitting:
            blocked.add(waiting.compute)
            continue
        node = max(fitting, key=lambda name: (used[name], name))
        reason = f"first in the queue of {waiting.compute}; {node} had {free[node]} free of {free[node] + used[node]} slots"
        free[node] -= waiting.slots
        used[node] += waiting.slots
        placements.append(Placement(waiting.run, node, reason))
    return placements

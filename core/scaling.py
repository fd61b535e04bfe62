"""How many nodes a cluster should have. Pure: its inputs are recorded, so any past decision can be explained and replayed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """A cluster at a moment."""

    min_nodes: int
    max_nodes: int
    slots_per_node: int
    wanted: int
    """What it asks for now."""
    busy_nodes: int
    """Nodes that hold a run, or did so within the idle time."""
    queued_slots: int
    """Slots that waiting runs need."""
    free_slots: int
    """Those of them that have room on nodes that are ready or on their way."""
    idle_for_seconds: float
    """How long some node has had nothing to do, with nothing waiting; 0 while runs wait."""
    idle_seconds: float
    """After how long an idle node goes."""


@dataclass(frozen=True, slots=True)
class Scale:
    wanted: int
    reason: str


def scale(demand: Demand) -> Scale:
    """Grow at once for what waits, shrink only after the idle time, never below what is busy, always within min and max."""
    short = demand.queued_slots - demand.free_slots
    floor = min(demand.max_nodes, max(demand.min_nodes, demand.busy_nodes))
    if short > 0:
        more = -(-short // demand.slots_per_node)
        wanted = min(demand.max_nodes, max(demand.wanted, floor) + more)
        if wanted > demand.wanted:
            return Scale(wanted, f"{demand.queued_slots} slots wait and {demand.free_slots} are free: {wanted - demand.wanted} more nodes")
    if demand.queued_slots == 0 and demand.wanted > floor and demand.idle_for_seconds >= demand.idle_seconds:
        return Scale(floor, f"{demand.wanted - floor} nodes idle for {demand.idle_seconds:g} s")
    if demand.wanted < floor:
        why = f"{demand.busy_nodes} nodes are busy" if demand.wanted >= demand.min_nodes else f"the least is {demand.min_nodes}"
        return Scale(floor, why)
    if demand.wanted > demand.max_nodes:
        return Scale(demand.max_nodes, f"the most is {demand.max_nodes}")
    return Scale(demand.wanted, "no change")

"""A node: one machine of a compute, with slots. Stream `node/<id>`. A slot is held by one attempt of one run at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from core.decider import Handler, Kind, one_stream
from core.errors import Conflict, NotFound
from core.events import Event, Value
from core.ids import Stream


class NodeFacts(Value):
    """What the agent found on its machine when it joined."""

    hostname: str
    cores: int
    memory_bytes: int
    gpus: int = 0
    python: str
    platform: str
    agent: str
    sandbox: str
    """`bubblewrap`, or `none: <why>`."""


# -- events ------------------------------------------------------------------------------------------------------------
class NodeRequested(Event):
    """The compute asked for this machine; nothing has been started yet."""

    type: Literal["node-requested"] = "node-requested"
    node: str
    compute: str
    provider: str
    slots: int
    reason: str


class NodeJoined(Event):
    """The agent on the machine is there and takes work."""

    type: Literal["node-joined"] = "node-joined"
    node: str
    compute: str
    slots: int
    facts: NodeFacts


class NodeUnreachable(Event):
    """Nothing was heard of the agent for a lease; its work may go on."""

    type: Literal["node-unreachable"] = "node-unreachable"
    node: str
    silent_seconds: float


class NodeReachable(Event):
    """The agent is back."""

    type: Literal["node-reachable"] = "node-reachable"
    node: str


class NodeReleaseRequested(Event):
    """The node takes no more work and is to be stopped, for this reason."""

    type: Literal["node-release-requested"] = "node-release-requested"
    node: str
    reason: str


class NodeGone(Event):
    """The machine is gone for good, by our wish or not."""

    type: Literal["node-gone"] = "node-gone"
    node: str
    reason: str


class SlotTaken(Event):
    """A run's attempt holds slots of the node."""

    type: Literal["slot-taken"] = "slot-taken"
    node: str
    run: str
    attempt: int
    slots: int


class SlotFreed(Event):
    """The attempt needs its slots no more."""

    type: Literal["slot-freed"] = "slot-freed"
    node: str
    run: str
    attempt: int


EVENTS = (NodeRequested, NodeJoined, NodeUnreachable, NodeReachable, NodeReleaseRequested, NodeGone, SlotTaken, SlotFreed)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoNode:
    """Never wanted."""


@dataclass(frozen=True, slots=True)
class Starting:
    node: str
    compute: str
    slots: int


@dataclass(frozen=True, slots=True)
class Held:
    attempt: int
    slots: int


@dataclass(frozen=True, slots=True)
class Ready:
    node: str
    compute: str
    slots: int
    reachable: bool
    held: dict[str, Held]
    """By run."""

    @property
    def free(self) -> int:
        return self.slots - sum(held.slots for held in self.held.values())


@dataclass(frozen=True, slots=True)
class Releasing:
    node: str
    compute: str


@dataclass(frozen=True, slots=True)
class Gone:
    node: str


Node = NoNode | Starting | Ready | Releasing | Gone


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Node, event: Event) -> Node:
    match state, event:
        case NoNode(), NodeRequested():
            return Starting(event.node, event.compute, event.slots)
        case (NoNode() | Starting()), NodeJoined():
            return Ready(event.node, event.compute, event.slots, True, {})
        case Ready(), NodeUnreachable():
            return replace(state, reachable=False)
        case Ready(), NodeReachable():
            return replace(state, reachable=True)
        case Ready(), SlotTaken():
            return replace(state, held={**state.held, event.run: Held(event.attempt, event.slots)})
        case Ready(), SlotFreed():
            return replace(state, held={run: held for run, held in state.held.items() if run != event.run})
        case (Starting() | Ready()), NodeReleaseRequested():
            return Releasing(state.node, state.compute)
        case (Starting() | Ready() | Releasing()), NodeGone():
            return Gone(state.node)
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNode:
    node: str
    compute: str
    provider: str
    slots: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNode:
    node: str
    compute: str
    slots: int
    facts: NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkNodeUnreachable:
    node: str
    silent_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkNodeReachable:
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseNode:
    """Refused while the node holds work: a busy node is never removed."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseNode:
    """The machine is gone (the provider says so, or a person does): its runs are requeued or failed in the same commit.

    Decided in `core.runs`, since it ends runs too.
    """

    node: str
    reason: str


# -- decide ------------------------------------------------------------------------------------------------------------
def request(state: Node, command: RequestNode) -> Sequence[Event]:
    if not isinstance(state, NoNode):
        return ()
    return (NodeRequested(
        node=command.node, compute=command.compute, provider=command.provider, slots=command.slots, reason=command.reason,
    ),)


def join(state: Node, command: JoinNode) -> Sequence[Event]:
    match state:
        case NoNode() | Starting():
            return (NodeJoined(node=command.node, compute=command.compute, slots=command.slots, facts=command.facts),)
        case Ready():
            return () if state.reachable else (NodeReachable(node=command.node),)
        case Releasing() | Gone():
            raise Conflict("This node was released; join with a new token.", node=command.node)
        case _:
            assert_never(state)


def mark_unreachable(state: Node, command: MarkNodeUnreachable) -> Sequence[Event]:
    if isinstance(state, Ready) and state.reachable:
        return (NodeUnreachable(node=command.node, silent_seconds=command.silent_seconds),)
    return ()


def mark_reachable(state: Node, command: MarkNodeReachable) -> Sequence[Event]:
    if isinstance(state, Ready) and not state.reachable:
        return (NodeReachable(node=command.node),)
    return ()


def release(state: Node, command: ReleaseNode) -> Sequence[Event]:
    match state:
        case NoNode():
            raise NotFound("node", command.node)
        case Releasing() | Gone():
            return ()
        case Starting():
            return (NodeReleaseRequested(node=command.node, reason=command.reason),)
        case Ready():
            if state.held:
                raise Conflict(f"The node holds {', '.join(sorted(state.held))}; a busy node is never removed.", runs=sorted(state.held))
            return (NodeReleaseRequested(node=command.node, reason=command.reason),)
        case _:
            assert_never(state)


def stream_of(node: str) -> Stream:
    return Stream(f"node/{node}")


KIND = Kind("node", NoNode(), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(RequestNode, lambda c: stream_of(c.node), request),
    one_stream(JoinNode, lambda c: stream_of(c.node), join),
    one_stream(MarkNodeUnreachable, lambda c: stream_of(c.node), mark_unreachable),
    one_stream(MarkNodeReachable, lambda c: stream_of(c.node), mark_reachable),
    one_stream(ReleaseNode, lambda c: stream_of(c.node), release),
)

"""Nodes, given, when, then."""

from __future__ import annotations

from core import nodes
from core.errors import Conflict, NotFound
from core.nodes import (
    JoinNode,
    LoseNode,
    MarkNodeReachable,
    MarkNodeUnreachable,
    NodeFacts,
    NodeGone,
    NodeJoined,
    NodeReachable,
    NodeReleaseRequested,
    NodeRequested,
    NodeUnreachable,
    ReleaseNode,
    RequestNode,
    SlotFreed,
    SlotTaken,
)
from tests.core.spec import spec

N = "cpu-1"
FACTS = NodeFacts(hostname="a", cores=2, memory_bytes=1, python="3.11", platform="linux", agent="0.1.0", sandbox="bubblewrap")
node = spec(nodes, f"node/{N}")
requested = NodeRequested(node=N, compute="cpu", provider="local", slots=2, reason="queue")
joined = NodeJoined(node=N, compute="cpu", slots=2, facts=FACTS)
silent = NodeUnreachable(node=N, silent_seconds=15)
taken = SlotTaken(node=N, run="amber", attempt=1, slots=1)
releasing = NodeReleaseRequested(node=N, reason="idle")
gone = NodeGone(node=N, reason="released")
ready = node.given(requested, joined)
join = JoinNode(node=N, compute="cpu", slots=2, facts=FACTS)


def test_a_node_is_requested_once() -> None:
    node.when(RequestNode(node=N, compute="cpu", provider="local", slots=2, reason="queue")).then_once(requested)


def test_a_requested_node_joins_once_and_a_machine_of_ones_own_without_a_request() -> None:
    node.given(requested).when(join).then_once(joined)
    node.when(join).then_once(joined)


def test_an_agent_that_starts_again_is_reachable_again() -> None:
    ready.given(silent).when(join).then_once(NodeReachable(node=N))


def test_a_released_node_cannot_join() -> None:
    for state in (ready.given(releasing), ready.given(releasing, gone)):
        state.when(join).then_rejected(Conflict, node=N)


def test_silence_and_word_of_a_node() -> None:
    quiet = ready.when(MarkNodeUnreachable(node=N, silent_seconds=15)).then_once(silent)
    quiet.when(MarkNodeReachable(node=N)).then_once(NodeReachable(node=N))
    node.when(MarkNodeUnreachable(node=N, silent_seconds=15)).then_nothing()


def test_an_idle_node_is_released_once() -> None:
    release = ReleaseNode(node=N, reason="idle")
    ready.when(release).then_once(releasing)
    node.given(requested).when(release).then_once(releasing)
    node.when(release).then_rejected(NotFound, what="node", name=N)


def test_a_busy_node_is_never_removed() -> None:
    ready.given(taken).when(ReleaseNode(node=N, reason="idle")).then_rejected(Conflict, runs=["amber"])
    ready.given(taken, SlotFreed(node=N, run="amber", attempt=1)).when(ReleaseNode(node=N, reason="idle")).then_once(releasing)


def test_a_node_is_gone_once() -> None:
    ready.given(releasing).when(LoseNode(node=N, reason="released")).then_once(gone)
    node.given(requested).when(LoseNode(node=N, reason="released")).then_once(gone)


def test_free_slots_are_those_that_no_attempt_holds() -> None:
    assert ready.state().free == 2
    assert ready.given(taken).state().free == 1

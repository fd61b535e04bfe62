"""The watchdog: what nothing is heard of for a lease is unreachable, until it is heard of again or the limit is over.

Hears: run-submitted, run-placed, run-unreachable, run-reachable, run-requeued, run-ended, node-joined, node-unreachable, node-reachable,
node-release-requested, node-gone; looks at the desk for signs of life.
Sends: MarkRunUnreachable, MarkRunReachable, MarkNodeUnreachable, MarkNodeReachable, GiveUpRun.

A run that may be tried on another node is given up at its lease's end: its agent has stopped it by then, by itself. Any other run may
still be running somewhere, so it is given up only after the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from actors.role import Because, Role, Send, Started
from core.events import Recorded
from core.ids import Stream
from core.nodes import (
    MarkNodeReachable,
    MarkNodeUnreachable,
    NodeGone,
    NodeJoined,
    NodeReachable,
    NodeReleaseRequested,
    NodeUnreachable,
)
from core.runs import (
    GiveUpRun,
    MarkRunReachable,
    MarkRunUnreachable,
    RunEnded,
    RunPlaced,
    RunReachable,
    RunRequeued,
    RunSubmitted,
    RunUnreachable,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """What is watched. `heard` is the last sign of life; `silent_since` None: it counts as reachable."""

    stream: Stream
    version: int
    because: Because
    attempt: int
    """0 for a node."""
    heard: datetime
    silent_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignsOfLife:
    """What was heard since the last look: nodes, and (run, attempt) of the attempts that they hold."""

    nodes: frozenset[str]
    attempts: frozenset[tuple[str, int]]
    at: datetime


@dataclass(frozen=True, slots=True)
class Leases:
    runs: dict[str, Lease]
    nodes: dict[str, Lease]
    retried: dict[str, int]
    """How many retries after a lost node each run has left that has any."""
    grace_from: datetime | None = None
    """No lease ends sooner than one term after this: set when the control plane was away."""
    looked_at: datetime | None = None


def evolve(leases: Leases, recorded: Recorded) -> Leases:
    match recorded.event:
        case RunSubmitted() as event if event.job.retries_on_node_lost > 0:
            return replace(leases, retried={**leases.retried, event.run: event.job.retries_on_node_lost})
        case RunPlaced() as event:
            lease = Lease(recorded.stream, recorded.version, Because.of(recorded), event.attempt, recorded.at)
            return replace(leases, runs={**leases.runs, event.run: lease})
        case RunEnded() | RunRequeued() as event:
            left = leases.retried.get(event.run, 0) - (isinstance(event, RunRequeued) and event.cause == "node_lost")
            retried = {name: retries for name, retries in leases.retried.items() if name != event.run}
            if isinstance(event, RunRequeued) and left > 0:
                retried[event.run] = left
            return replace(leases, runs={name: lease for name, lease in leases.runs.items() if name != event.run}, retried=retried)
        case RunUnreachable() | RunReachable() as event if event.run in leases.runs:
            return replace(leases, runs={**leases.runs, event.run: _turn(leases.runs[event.run], recorded)})
        case NodeJoined() as event:
            lease = Lease(recorded.stream, recorded.version, Because.of(recorded), 0, recorded.at)
            return replace(leases, nodes={**leases.nodes, event.node: lease})
        case NodeReleaseRequested() | NodeGone() as event:
            return replace(leases, nodes={name: lease for name, lease in leases.nodes.items() if name != event.node})
        case NodeUnreachable() | NodeReachable() as event if event.node in leases.nodes:
            return replace(leases, nodes={**leases.nodes, event.node: _turn(leases.nodes[event.node], recorded)})
        case _:
            return leases


def _turn(lease: Lease, recorded: Recorded) -> Lease:
    silent = isinstance(recorded.event, RunUnreachable | NodeUnreachable)
    return replace(
        lease, version=recorded.version, because=Because.of(recorded), silent_since=recorded.at if silent else None,
        heard=lease.heard if silent else max(lease.heard, recorded.at),
    )


def observe(leases: Leases, signal: object, *, lease_seconds: float) -> Leases:
    match signal:
        case Started(at):
            return replace(leases, grace_from=at, looked_at=at)
        case SignsOfLife(nodes, attempts, at):
            away = leases.looked_at is not None and (at - leases.looked_at).total_seconds() > lease_seconds / 2
            return replace(
                leases, grace_from=at if away else leases.grace_from, looked_at=at,
                nodes={name: replace(lease, heard=at) if name in nodes else lease for name, lease in leases.nodes.items()},
                runs={
                    name: replace(lease, heard=at) if (name, lease.attempt) in attempts else lease
                    for name, lease in leases.runs.items()
                },
            )
        case _:
            return leases


def react(leases: Leases, now: datetime, *, lease_seconds: float, unreachable_limit_seconds: float) -> Sequence[Send]:
    """Nothing before the first look, or when the last look is too old to say anything."""
    if leases.grace_from is None or leases.looked_at is None or (now - leases.looked_at).total_seconds() > lease_seconds / 2:
        return ()
    return (
        *_runs(leases, leases.grace_from, now, lease_seconds, unreachable_limit_seconds),
        *_nodes(leases, leases.grace_from, now, lease_seconds),
    )


def _runs(leases: Leases, grace_from: datetime, now: datetime, lease_seconds: float, limit_seconds: float) -> Iterator[Send]:
    graced = (now - grace_from).total_seconds() >= lease_seconds
    for run, lease in leases.runs.items():
        may_wait = 0.0 if run in leases.retried else limit_seconds
        silent = (now - max(lease.heard, grace_from)).total_seconds()
        if lease.silent_since is None:
            if silent > lease_seconds:
                mark = MarkRunUnreachable(run=run, attempt=lease.attempt, silent_seconds=round(silent, 1))
                yield Send(mark, lease.stream, lease.version, lease.because, f"unreachable {lease.attempt}")
        elif lease.heard > lease.silent_since:
            yield Send(MarkRunReachable(run=run, attempt=lease.attempt), lease.stream, lease.version, lease.because, "reachable")
        elif graced and (now - lease.silent_since).total_seconds() >= may_wait:
            message = f"Nothing was heard of it for {may_wait + lease_seconds:g} s."
            yield Send(GiveUpRun(run=run, attempt=lease.attempt, message=message), lease.stream, lease.version, lease.because, "give up")


def _nodes(leases: Leases, grace_from: datetime, now: datetime, lease_seconds: float) -> Iterator[Send]:
    for node, lease in leases.nodes.items():
        silent = (now - max(lease.heard, grace_from)).total_seconds()
        if lease.silent_since is None and silent > lease_seconds:
            mark = MarkNodeUnreachable(node=node, silent_seconds=round(silent, 1))
            yield Send(mark, lease.stream, lease.version, lease.because, "unreachable")
        elif lease.silent_since is not None and lease.heard > lease.silent_since:
            yield Send(MarkNodeReachable(node=node), lease.stream, lease.version, lease.because, "reachable")


def role(*, lease_seconds: float, unreachable_limit_seconds: float) -> Role[Leases]:
    return Role(
        name="watchdog", version=2, shape=Leases, initial=Leases({}, {}, {}), evolve=evolve, tick_seconds=min(1.0, lease_seconds / 8),
        react=partial(react, lease_seconds=lease_seconds, unreachable_limit_seconds=unreachable_limit_seconds),
        observe=partial(observe, lease_seconds=lease_seconds),
    )

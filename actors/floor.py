"""What the desk knows of one workspace: the runs that have not ended, where they are, and the nodes that are to end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from core.events import Recorded
from core.nodes import NodeGone, NodeReleaseRequested
from core.runs import (
    RunCancelRequested,
    RunEnded,
    RunPlaced,
    RunPreempted,
    RunRequeued,
    RunScriptExited,
    RunStarted,
    RunSubmitted,
)

ROOTS_MAX = 100_000

Phase = Literal["preparing", "running", "finalizing"]


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that has not ended; `node` is None while it waits."""

    submitted: RunSubmitted
    root: str
    traceparent: str | None
    node: str | None = None
    attempt: int = 0
    placed_at: datetime | None = None
    phase: Phase = "preparing"
    stopping: Literal["canceled", "preempted"] | None = None
    retries_on_node_lost: int = 0
    """What is left of them."""


@dataclass(slots=True)
class Floor:
    runs: dict[str, LiveRun] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """The topmost parent of each run that has one; the newest ROOTS_MAX of them."""
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    """By node: its runs and their attempts."""
    releasing: set[str] = field(default_factory=set)

    def apply(self, recorded: Recorded) -> str | None:
        """Folds one event; returns the node that should hear of it at once."""
        match recorded.event:
            case RunSubmitted() as event:
                self._submit(event, recorded.traceparent)
                return None
            case RunPlaced() as event:
                self._change(event.run, node=event.node, attempt=event.attempt, placed_at=recorded.at, phase="preparing", stopping=None)
                self.held.setdefault(event.node, {})[event.run] = event.attempt
                return event.node
            case RunStarted() as event:
                self._change(event.run, phase="running")
                return None
            case RunScriptExited() as event:
                self._change(event.run, phase="finalizing")
                return None
            case RunCancelRequested() as event:
                return self._change(event.run, stopping="canceled")
            case RunPreempted() as event:
                return self._change(event.run, stopping="preempted")
            case RunRequeued() as event:
                self._leave(event.run)
                left = self.runs[event.run].retries_on_node_lost - (event.cause == "node_lost") if event.run in self.runs else 0
                self._change(event.run, node=None, placed_at=None, stopping=None, retries_on_node_lost=left)
                return None
            case RunEnded() as event:
                self._leave(event.run)
                self.runs.pop(event.run, None)
                return None
            case NodeReleaseRequested() as event:
                self.releasing.add(event.node)
                return event.node
            case NodeGone() as event:
                self.releasing.discard(event.node)
                self.held.pop(event.node, None)
                return event.node
            case _:
                return None

    def _submit(self, event: RunSubmitted, traceparent: str | None) -> None:
        root = event.run
        if event.parent is not None:
            root = self.roots.get(event.parent, event.parent)
            self.roots[event.run] = root
            if len(self.roots) > ROOTS_MAX:
                del self.roots[next(iter(self.roots))]
        self.runs[event.run] = LiveRun(event, root, traceparent, retries_on_node_lost=event.job.retries_on_node_lost)

    def _change(self, run: str, **changed: object) -> str | None:
        known = self.runs.get(run)
        if known is None:
            return None
        self.runs[run] = after = replace(known, **changed)  # type: ignore[arg-type]  # names are fields of LiveRun
        return after.node

    def _leave(self, run: str) -> None:
        known = self.runs.get(run)
        if known is not None and known.node is not None:
            self.held.get(known.node, {}).pop(run, None)

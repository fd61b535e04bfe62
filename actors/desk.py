"""The desk at which agents ask for work: an in-memory fold of the log that their held requests are answered from.

Hears: run-submitted, run-placed, run-started, run-script-exited, run-cancel-requested, run-preempted, run-requeued, run-ended,
node-release-requested, node-gone.  Sends nothing. What agents tell of themselves is kept for the watchdog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import structlog
from pydantic import TypeAdapter, ValidationError

from actors.actor import Begin, CaughtUp, Gone
from actors.actor import Heard as Item
from actors.floor import Floor, Phase
from actors.snapshots import Snapshot
from core.errors import Unavailable
from core.events import Recorded, Unreadable
from core.ids import WorkspaceId, shard_of
from core.nodes import NodeGone
from core.ports import Batch, Clock
from core.runs import RunSubmitted

log = structlog.get_logger()

RETELL_SECONDS = 1.0
ATTEMPTS_MAX = 64


@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """What an agent says that it has of one attempt."""

    run: str
    attempt: int
    phase: Phase = "running"


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt that the node is to execute; given again until the node lists it. May come together with its own Stop."""

    run: str
    attempt: int
    submitted: RunSubmitted
    root: str
    """The topmost parent; the run itself when it has none."""
    traceparent: str | None
    placed_at: datetime | None
    retries_on_node_lost: int = 0
    """What is left of them: with any, the agent stops the attempt by itself before its lease ends."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the attempt in order and report it as canceled, even if it was not started yet."""

    run: str
    attempt: int
    cause: Literal["canceled", "preempted"]


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that holds for a node now. `drop` are attempts that it listed and that are not its own any more."""

    assignments: tuple[Assignment, ...] = ()
    stops: tuple[Stop, ...] = ()
    drop: tuple[HeldAttempt, ...] = ()
    release: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A node was heard of, with what it holds. Not durable: it only moves leases."""

    node: str
    attempts: tuple[HeldAttempt, ...]
    at: datetime


@dataclass(slots=True)
class _Line:
    """What the desk remembers of a node between two requests."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[Hashable, float] = field(default_factory=dict)
    """When each thing was said last, in monotonic seconds; only what was said last time is kept."""
    gone: bool = False


@dataclass(slots=True)
class _Hall:
    """One shard: up to where it was heard, and a floor per workspace."""

    next_offset: int = 0
    live: bool = False
    floors: dict[WorkspaceId, Floor] = field(default_factory=dict)
    frozen: set[WorkspaceId] = field(default_factory=set)
    """Workspaces with an event that cannot be read: their nodes are told nothing, and go on with what they have."""


_FLOORS: TypeAdapter[dict[str, Floor]] = TypeAdapter(dict[str, Floor])


class Desk:
    """Answers held requests of agents. One waiting request per node; a newer one ends the older."""

    name = "desk"
    version = 1

    def __init__(self, clock: Clock, *, shard_count: int, wait_max_seconds: float = 5.0) -> None:
        self._clock, self._shard_count, self._wait_max_seconds = clock, shard_count, wait_max_seconds
        self._halls: dict[int, _Hall] = {}
        self._lines: dict[tuple[WorkspaceId, str], _Line] = {}
        self._heard: dict[tuple[WorkspaceId, str], Heard] = {}

    async def work(self, workspace: WorkspaceId, node: str, attempts: Sequence[HeldAttempt], wait_seconds: float) -> Work:
        """What holds for the node, as soon as there is news, at the latest after `wait_seconds` (bounded by `wait_max_seconds`).

        Raises: Unavailable while this server has not caught up with the workspace's shard, or cannot read an event of the
        workspace, so that nothing is dropped by mistake.
        """
        self.heard(workspace, node, attempts)
        line = self._lines.setdefault((workspace, node), _Line())
        line.news.set()
        line.news = news = asyncio.Event()
        try:
            async with asyncio.timeout(min(wait_seconds, self._wait_max_seconds)):
                while True:
                    work, fresh = self._answer(line, workspace, node, attempts)
                    if fresh:
                        return work
                    await news.wait()
                    if line.news is not news:
                        return Work()
                    news.clear()
        except TimeoutError:
            return self._answer(line, workspace, node, attempts)[0]
        finally:
            if line.gone:
                self._lines.pop((workspace, node), None)

    def heard(self, workspace: WorkspaceId, node: str, attempts: Sequence[HeldAttempt]) -> None:
        """Any sign of life of a node; `work` calls it by itself. Attempts that are not listed are not heard of."""
        known = self._heard.get((workspace, node))
        merged = {held.run: held for held in (*(known.attempts if known else ()), *attempts[:ATTEMPTS_MAX])}
        self._heard[workspace, node] = Heard(node, tuple(merged.values())[-ATTEMPTS_MAX:], self._clock.now())

    def take_heard(self) -> dict[WorkspaceId, list[Heard]]:
        """What was heard since the last call: the watchdog moves its leases by it."""
        taken: dict[WorkspaceId, list[Heard]] = {}
        for (workspace, _), heard in self._heard.items():
            taken.setdefault(workspace, []).append(heard)
        self._heard = {}
        return taken

    def apply(self, recorded: Recorded) -> None:
        """Folds one event and wakes the node that it concerns."""
        hall = self._halls.setdefault(shard_of(recorded.workspace, self._shard_count), _Hall())
        if isinstance(recorded.event, Unreadable):
            hall.frozen.add(recorded.workspace)
            log.error("desk.workspace_frozen", event_id=recorded.id, **dict(recorded.event))
            return
        floor = hall.floors.get(recorded.workspace)
        if floor is None:
            floor = hall.floors[recorded.workspace] = Floor()
        node = floor.apply(recorded)
        if node is None:
            return
        line = self._lines.get((recorded.workspace, node))
        if line is not None:
            line.gone = isinstance(recorded.event, NodeGone)
            line.news.set()

    async def hear(self, item: Item) -> None:
        match item:
            case Begin():
                self._halls[item.shard] = _Hall(item.next_offset, False, dict(item.states))
            case Batch():
                hall = self._halls.setdefault(item.shard, _Hall())
                for recorded in item.recorded:
                    if recorded.position.offset >= hall.next_offset:
                        self.apply(recorded)
                hall.next_offset = max(hall.next_offset, item.next_offset)
            case CaughtUp(shard):
                self._halls.setdefault(shard, _Hall()).live = True
            case Gone(shard):
                self._halls.pop(shard, None)
                self._leave(shard)

    def begin(self, shard: int, snapshot: Snapshot | None) -> Begin:
        """What the shard begins with: the snapshot, or nothing when there is none that can be read."""
        if snapshot is not None:
            try:
                floors = _FLOORS.validate_json(snapshot.content)
                return Begin(shard, snapshot.next_offset, {WorkspaceId(name): floor for name, floor in floors.items()})
            except ValidationError:
                log.warning("desk.snapshot_unreadable", shard=shard)
        return Begin(shard, 0, {})

    def dump(self, shard: int) -> Snapshot | None:
        """The shard's floors as of now, or None while it is not caught up or a workspace is frozen."""
        hall = self._halls.get(shard)
        if hall is None or not hall.live or hall.frozen:
            return None
        return Snapshot(hall.next_offset, _FLOORS.dump_json({str(name): floor for name, floor in hall.floors.items()}))

    def _answer(self, line: _Line, workspace: WorkspaceId, node: str, attempts: Sequence[HeldAttempt]) -> tuple[Work, bool]:
        """Everything that holds, and whether something of it is news; then all of it counts as told."""
        hall = self._halls.get(shard_of(workspace, self._shard_count))
        if hall is None or not hall.live:
            raise Unavailable("This server is still reading the log; ask again in a moment.")
        if workspace in hall.frozen:
            raise Unavailable("This workspace holds an event that this server cannot read; go on with what you have, and ask again.", 5.0)
        floor = hall.floors.get(workspace) or Floor()
        work = _work(floor, node, attempts, line.gone)
        now = self._clock.monotonic()
        said: list[tuple[Hashable, float]] = [((item.run, item.attempt, "assignment"), RETELL_SECONDS) for item in work.assignments]
        said += [((item.run, item.attempt, item.cause), float("inf")) for item in work.stops]
        said += [((item.run, item.attempt, "drop"), float("inf")) for item in work.drop]
        said += [("release", float("inf"))] if work.release else []
        fresh = any(now - line.told.get(what, float("-inf")) >= after for what, after in said)
        line.told = {what: now if fresh else line.told.get(what, now) for what, _ in said}
        return work, fresh

    def _leave(self, shard: int) -> None:
        for key in [key for key in self._lines if shard_of(key[0], self._shard_count) == shard]:
            self._lines.pop(key).news.set()


def _work(floor: Floor, node: str, attempts: Sequence[HeldAttempt], gone: bool) -> Work:
    listed = {(held.run, held.attempt) for held in attempts}
    own = {(run, attempt): floor.runs[run] for run, attempt in floor.held.get(node, {}).items() if run in floor.runs}
    return Work(
        tuple(
            Assignment(name, attempt, run.submitted, run.root, run.traceparent, run.placed_at, run.retries_on_node_lost)
            for (name, attempt), run in own.items() if (name, attempt) not in listed and run.phase == "preparing"
        ),
        tuple(Stop(name, attempt, run.stopping) for (name, attempt), run in own.items() if run.stopping is not None),
        tuple(held for held in attempts if (held.run, held.attempt) not in own),
        gone or node in floor.releasing,
    )

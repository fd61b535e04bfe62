"""What of a group of appends can be recorded: pure, so that the memory twin and the Postgres log decide alike.

A writer takes the appends that wait, looks up what it does not know of their streams, workspaces and command ids, and asks
`plan` for the records to write and for those that are refused. Nothing it knows changes until the group is durable.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from core.envelope import Head, Sealed, seal, serialise, unseal
from core.errors import CommandReused, Invalid, KeyExpired, Refusal, Unavailable, VersionConflict
from core.events import Recorded
from core.ids import CommandId, Position, Stream, WorkspaceId, uuid7_unix_ms
from core.ports import Commit, Committed

COMMAND_KEPT = timedelta(days=7)
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""The escape in JSON, and not a backslash followed by its letters."""

StreamKey = tuple[WorkspaceId, Stream]
CommandKey = tuple[WorkspaceId, CommandId]


@dataclass(slots=True, eq=False)
class Waiting:
    """An append that has its place in the shard's order and waits for its answer."""

    commit: Commit
    values: tuple[bytes, ...]
    future: asyncio.Future[Committed]
    since: float = 0.0
    """When it was taken, on a monotonic clock."""

    @property
    def size(self) -> int:
        return sum(map(len, self.values))

    @property
    def key(self) -> CommandKey:
        return self.commit.workspace, self.commit.context.command

    def answer(self, committed: Committed) -> None:
        if not self.future.done():
            self.future.set_result(committed)

    def fail(self, error: Refusal) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # an abandoned append is no bug of the caller: nothing is logged for it


@dataclass(frozen=True, slots=True)
class Known:
    """What the log knows that a group needs: versions of streams, ends of chains, and the command ids it has had."""

    versions: Mapping[StreamKey, int]
    heads: Mapping[WorkspaceId, Head]
    commands: Mapping[CommandKey, tuple[str, Committed]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A commit with its records; `first` is the offset of the first one."""

    waiting: Waiting
    records: tuple[Sealed, ...]
    first: int

    @property
    def last(self) -> int:
        return self.first + len(self.records) - 1


@dataclass(slots=True)
class Plan:
    accepted: list[Accepted] = field(default_factory=list)
    twins: list[tuple[Waiting, Accepted]] = field(default_factory=list)
    """Appends that repeat an accepted one of the same group: answered with it, `again`."""
    again: list[tuple[Waiting, Committed]] = field(default_factory=list)
    refused: list[tuple[Waiting, Refusal]] = field(default_factory=list)
    broken: set[WorkspaceId] = field(default_factory=set)
    """Workspaces in which an append records nothing: what was appended after it may depend on it."""
    versions: dict[StreamKey, int] = field(default_factory=dict)
    heads: dict[WorkspaceId, Head] = field(default_factory=dict)
    end: int = 0


class Doubt:
    """Workspaces in which an append has just recorded nothing, until its caller hears so.

    What is appended in between may have been decided upon it, and is refused. A log asks `in` before it takes an append,
    calls `watch` when it has taken it, and `rise` right before it answers a group's refusals, which it does before all else.
    """

    def __init__(self) -> None:
        self._workspaces: set[WorkspaceId] = set()

    def __contains__(self, workspace: WorkspaceId) -> bool:
        return workspace in self._workspaces

    def watch(self, waiting: Waiting) -> None:
        """Must be the first callback of the future: it runs before any caller wakes."""
        waiting.future.add_done_callback(partial(self._heard, waiting.commit.workspace))

    def rise(self, workspaces: Iterable[WorkspaceId]) -> None:
        raised = set(workspaces)
        if raised:
            self._workspaces |= raised
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._workspaces.difference_update, raised)  # callers that were cancelled hear nothing

    def _heard(self, workspace: WorkspaceId, future: asyncio.Future[Committed]) -> None:
        if future.cancelled() or future.exception() is not None or future.result().again:
            self._workspaces.discard(workspace)


def admit(installation: str, commit: Commit, now: datetime) -> tuple[bytes, ...]:
    """What can be checked before a commit has its place, so that it fails nobody else. Returns the events' values.

    Raises: KeyExpired, EventTooLarge, Invalid for text that cannot be stored: a NUL would stop read models, which Postgres keeps.
    """
    check_age(commit.context.command, now)
    if not any(write.events for write in commit.writes):
        raise ValueError("a commit holds at least one event")
    context = commit.context
    texts = (
        commit.workspace, commit.request_hash, context.actor, context.command, context.correlation, context.causation or "",
        context.traceparent or "", *(write.stream for write in commit.writes),
    )
    try:
        if b"\0" in "".join(texts).encode():
            raise Invalid("Names and ids cannot hold the character NUL.")
        values = serialise(installation, commit)
        if any(b"\\u0000" in value and NUL.search(value) for value in values):
            raise Invalid("No text can hold the character NUL.")
        return values
    except ValueError as error:  # lone surrogates, in a name or in an event
        raise Invalid("This text cannot be stored: it is no valid Unicode.") from error


def check_age(command: CommandId, now: datetime) -> None:
    """Raises: KeyExpired when a UUIDv7 is older than command ids are kept."""
    made = uuid7_unix_ms(command)
    if made is not None and made / 1000 < (now - COMMAND_KEPT).timestamp():
        raise KeyExpired(command)


def plan(installation: str, waiting: Iterable[Waiting], known: Known, start: int, now: datetime) -> Plan:
    """Orders a group: which appends are recorded, from offset `start` on, and what each of the others is told."""
    result = Plan(end=start)
    taken: dict[CommandKey, Accepted] = {}
    for one in waiting:
        workspace = one.commit.workspace
        if workspace in result.broken:
            result.refused.append((one, dropped()))
            continue
        before = known.commands.get(one.key)
        twin = taken.get(one.key)
        first_hash = before[0] if before else twin.waiting.commit.request_hash if twin else one.commit.request_hash
        error: Refusal | None = CommandReused(one.commit.context.command) if first_hash != one.commit.request_hash else None
        if error is None and before is not None:
            result.again.append((one, before[1]))
        elif error is None and twin is not None:
            result.twins.append((one, twin))
        elif error is None:
            error = _conflict(one.commit, known, result)
            if error is None:
                taken[one.key] = _accept(installation, one, known, result, now)
                continue
        if error is not None:
            result.refused.append((one, error))
        result.broken.add(workspace)
    return result


def answer(result: Plan, shard_log: str, shard: int) -> dict[int, tuple[Recorded, ...]]:
    """Answers every append of a durable group, those that recorded nothing first. Returns what was recorded, by first offset."""
    recorded = {accepted.first: as_recorded(shard_log, shard, accepted) for accepted in result.accepted}
    for one, error in result.refused:
        one.fail(error)
    for one, before in result.again:
        one.answer(before)
    for one, twin in result.twins:
        one.answer(committed(recorded[twin.first], again=True))
    for accepted in result.accepted:
        accepted.waiting.answer(committed(recorded[accepted.first]))
    return recorded


def dropped() -> Unavailable:
    return Unavailable("A change that this one was decided upon was not recorded; try again.", retry_after_seconds=0.05)


def as_recorded(log: str, shard: int, accepted: Accepted) -> tuple[Recorded, ...]:
    return tuple(
        unseal(record.attributes, record.value, Position(log, shard, accepted.first + index))
        for index, record in enumerate(accepted.records)
    )


def committed(recorded: Sequence[Recorded], *, again: bool = False) -> Committed:
    return Committed(recorded[-1].position, tuple(recorded), again)


def _conflict(commit: Commit, known: Known, result: Plan) -> VersionConflict | None:
    for write in commit.writes:
        key = commit.workspace, write.stream
        actual = result.versions.get(key, known.versions.get(key, 0))
        if actual != write.expected_version:
            return VersionConflict(write.stream, write.expected_version, actual)
    return None


def _accept(installation: str, one: Waiting, known: Known, result: Plan, now: datetime) -> Accepted:
    commit = one.commit
    head = result.heads.get(commit.workspace) or known.heads.get(commit.workspace) or Head()
    versions = {write.stream: write.expected_version for write in commit.writes}
    records, result.heads[commit.workspace] = seal(installation, commit, versions, head, now, values=one.values)
    for write in commit.writes:
        result.versions[commit.workspace, write.stream] = write.expected_version + len(write.events)
    accepted = Accepted(one, tuple(records), result.end)
    result.accepted.append(accepted)
    result.end += len(records)
    return accepted

"""What a shard's index does not cover yet: the durable records since its checkpoint, in memory.

It is made of segments: the newest takes what is committed, older ones are being written to the index. A segment goes only once
a checkpoint covers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from adapters.ordering import CommandKey, StreamKey
from core.envelope import Head, spell_time
from core.events import Recorded
from core.ids import WorkspaceId


@dataclass(frozen=True, slots=True)
class Done:
    """What a command led to."""

    request_hash: str
    recorded: tuple[Recorded, ...]


@dataclass(slots=True)
class Segment:
    """Consecutive commits, from the checkpoint before them to `end`, the next offset after them."""

    end: int
    events: int = 0
    streams: dict[StreamKey, list[Recorded]] = field(default_factory=dict)
    commands: dict[CommandKey, Done] = field(default_factory=dict)
    lasts: dict[WorkspaceId, Recorded] = field(default_factory=dict)
    """The last record of each workspace, where its chain goes on."""

    def add(self, request_hash: str, recorded: tuple[Recorded, ...]) -> None:
        for one in recorded:
            self.streams.setdefault((one.workspace, one.stream), []).append(one)
        last = recorded[-1]
        self.commands[last.workspace, last.command] = Done(request_hash, recorded)
        self.lasts[last.workspace] = last
        self.events += len(recorded)
        self.end = last.position.offset + 1


class ShardTail:
    """Looks a thing up in what is not indexed yet, newest first."""

    def __init__(self, checkpoint: int) -> None:
        self.checkpoint = checkpoint
        """What lies below is in the index."""
        self._segments = [Segment(checkpoint)]

    @property
    def end(self) -> int:
        """The next offset after the last durable record."""
        return self._segments[-1].end

    @property
    def events(self) -> int:
        return sum(segment.events for segment in self._segments)

    def add(self, request_hash: str, recorded: tuple[Recorded, ...]) -> None:
        """Takes one durable commit."""
        self._segments[-1].add(request_hash, recorded)

    def version(self, key: StreamKey) -> int | None:
        for segment in reversed(self._segments):
            if key in segment.streams:
                return segment.streams[key][-1].version
        return None

    def head(self, workspace: WorkspaceId) -> Head | None:
        for segment in reversed(self._segments):
            if workspace in segment.lasts:
                return head_of(segment.lasts[workspace])
        return None

    def command(self, key: CommandKey) -> Done | None:
        for segment in reversed(self._segments):
            if key in segment.commands:
                return segment.commands[key]
        return None

    def stream(self, key: StreamKey) -> Sequence[Recorded]:
        """The records of a stream that are not indexed yet, in order."""
        return tuple(one for segment in self._segments for one in segment.streams.get(key, ()))

    def cut(self) -> Segment | None:
        """The oldest segment that is to be written to the index; None when there is nothing to write."""
        if len(self._segments) == 1 and self._segments[0].events:
            self._segments.append(Segment(self._segments[0].end))
        return self._segments[0] if len(self._segments) > 1 else None

    def covered(self, segment: Segment) -> None:
        """Drops the oldest segment: the checkpoint is past it now."""
        self._segments.remove(segment)
        self.checkpoint = segment.end


def head_of(last: Recorded) -> Head:
    """Where the chain of a workspace ends, from its last record."""
    return Head(last.sequence, last.chain, spell_time(last.at))


def commits(entries: Sequence[tuple[str, Recorded]]) -> Iterator[tuple[str, tuple[Recorded, ...]]]:
    """Consecutive records of one command, with its request hash: what was appended as one commit."""
    start = 0
    for index in range(1, len(entries) + 1):
        if index == len(entries) or _differ(entries[index][1], entries[start][1]):
            yield entries[start][0], tuple(recorded for _, recorded in entries[start:index])
            start = index


def _differ(one: Recorded, other: Recorded) -> bool:
    return (one.workspace, one.command) != (other.workspace, other.command)

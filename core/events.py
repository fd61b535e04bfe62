"""What happened, and its envelope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId


class Value(BaseModel):
    """A part of an event: frozen, without a life of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Event(Value):
    """Something that happened in the world. Past tense, keyword only, its `type` written down."""

    type: str


class Unreadable(Event):
    """Stands where a record lies that this code cannot read: damaged, or newer than this binary. Never appended by anybody.

    Its `type` is the record's own. Whoever folds a stream or a workspace that holds one stops there.
    """

    reason: str
    sha256: str
    """Hex, of the value's bytes as stored."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its envelope, as every fold gets it."""

    event: Event
    id: str
    """CloudEvents id: `<workspace>/<sequence>`."""
    workspace: WorkspaceId
    stream: Stream
    version: int
    """1, 2, 3 ... in its stream."""
    sequence: int
    """1, 2, 3 ... in its workspace, without gaps."""
    chain: str
    """Hex SHA-256 over the previous chain, the sequence, the sorted attributes and the value as stored."""
    at: datetime
    actor: ActorId
    correlation: str
    causation: str | None
    command: CommandId
    traceparent: str | None
    position: Position
    """Where this record itself lies; the commit's last record carries the commit's position."""

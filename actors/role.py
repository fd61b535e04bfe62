"""What a role is made of: its folds, the wishes that `react` returns, and the hands that make outside calls for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from core.events import Recorded
from core.ids import Stream, WorkspaceId

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Because:
    """The event that made a wish."""

    event: str
    sequence: int
    correlation: str

    @classmethod
    def of(cls, recorded: Recorded) -> Because:
        return cls(recorded.id, recorded.sequence, recorded.correlation)


@dataclass(frozen=True, slots=True)
class Send:
    """A command. The same stream, version and ordinal are the same wish, however often it is sent."""

    command: Any
    stream: Stream
    version: int
    because: Because
    ordinal: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """An outside call, made by the role's hands. One with the same key is not made while it is under way."""

    key: str
    action: object


@dataclass(frozen=True, slots=True)
class Started:
    """Observed once the log is caught up: forget what is not durable; every lease begins anew."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """What the outside looks like: a signal for each workspace that it names, `otherwise` for all others."""

    by_workspace: Mapping[WorkspaceId, object]
    otherwise: object


class Hands(Protocol):
    """A role's access to the outside. Nothing here decides."""

    look_seconds: float

    async def look(self) -> Look: ...

    async def changed(self) -> None:
        """Returns when another look is due before `look_seconds` are over; may wait for ever."""
        ...

    def foresee(self, wishes: Sequence[tuple[WorkspaceId, Call]]) -> None:
        """Told of all calls that came out of one look, before the first of them is made."""
        ...

    async def perform(self, workspace: WorkspaceId, action: object, epoch: int) -> Sequence[object]:
        """Makes one call and returns the signals that tell of it. Whatever it raises is tried again after a while."""
        ...


@dataclass(frozen=True, slots=True)
class Role(Generic[State]):
    """One role: its name, its folds and what it wants. `together`: it reacts only once every shard held is caught up."""

    name: str
    version: int
    """Of the state's shape and its folds: a snapshot of another version is not read."""
    shape: Any
    initial: State
    evolve: Callable[[State, Recorded], State]
    react: Callable[[State, datetime], Sequence[Send | Call]]
    observe: Callable[[State, object], State]
    tick_seconds: float = 1.0
    together: bool = False

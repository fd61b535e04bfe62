"""How a command becomes events.

A Handler belongs to one class of command. It names the streams whose states the decision needs, and decides from those
states alone. Time, ids and randomness are fields of the command. A decision without events is a wish that is already true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.events import Event
from core.ids import Stream

State = Any
States = Mapping[Stream, State]
Decision = Mapping[Stream, Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of stream: its prefix, what an empty one is, and how it evolves."""

    prefix: str
    initial: State
    evolve: Callable[[State, Event], State]
    events: tuple[type[Event], ...]


@dataclass(frozen=True, slots=True)
class Handler:
    """Decides one class of command.

    `streams(command, states)` is asked again with what has been loaded until it names nothing new, so that a decision can
    follow a reference from one stream to the next. `decide(states, command)` returns the events of each stream that changes.
    """

    command: type[Any]
    streams: Callable[[Any, States], Iterable[Stream]]
    decide: Callable[[States, Any], Decision]


def one_stream(command: type[Any], stream: Callable[[Any], Stream], decide: Callable[[State, Any], Sequence[Event]]) -> Handler:
    """A handler whose decision reads and writes a single stream."""

    def of_states(states: States, wanted: Any) -> Decision:
        name = stream(wanted)
        events = decide(states[name], wanted)
        return {name: events} if events else {}

    return Handler(command, lambda wanted, _: (stream(wanted),), of_states)

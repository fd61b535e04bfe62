"""Given, when, then for one kind of stream: `Spec(runs)` over any handlers, on states of any streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest

from core.catalogue import HANDLERS, kind_of
from core.decider import State
from core.errors import Refusal
from core.events import Event
from core.ids import Stream


@dataclass(frozen=True)
class Spec:
    """Events of one stream given, a command decided, its events or its refusal expected."""

    module: ModuleType
    stream: Stream
    past: Mapping[Stream, tuple[Event, ...]]

    def given(self, *events: Event, stream: str | None = None) -> Spec:
        name = Stream(stream) if stream is not None else self.stream
        return replace(self, past={**self.past, name: (*self.past.get(name, ()), *events)})

    def when(self, command: Any) -> Result:
        return Result(self, command)

    def state(self, stream: str | None = None) -> State:
        """The state of a stream after what was given."""
        name = Stream(stream) if stream is not None else self.stream
        kind = kind_of(name)
        state = kind.initial
        for event in self.past.get(name, ()):
            state = kind.evolve(state, event)
        return state

    def decide(self, command: Any) -> Mapping[Stream, Sequence[Event]]:
        handler = HANDLERS[type(command)]
        states: dict[Stream, State] = {}
        while missing := [name for name in handler.streams(command, states) if name not in states]:
            for name in missing:
                states[name] = self.state(name)
        return {name: events for name, events in handler.decide(states, command).items() if events}


@dataclass(frozen=True)
class Result:
    spec: Spec
    command: Any

    def then(self, *events: Event) -> Spec:
        """Exactly these events in the spec's own stream, and none elsewhere; returns the spec with them in the past."""
        return self.then_in({self.spec.stream: events})

    def then_in(self, expected: Mapping[str, Sequence[Event]]) -> Spec:
        """Exactly these events in these streams. Sent once more, the command then records nothing."""
        decided = self.spec.decide(self.command)
        wanted = {name: tuple(events) for name, events in expected.items() if events}
        assert {name: tuple(events) for name, events in decided.items()} == wanted
        after = self.spec
        for name, events in decided.items():
            after = after.given(*events, stream=name)
        return after

    def then_nothing(self) -> Spec:
        """The wish is true already."""
        assert self.spec.decide(self.command) == {}
        return self.spec

    def then_once(self, *events: Event) -> Spec:
        """These events, and nothing when the command is sent a second time."""
        after = self.then(*events)
        after.when(self.command).then_nothing()
        return after

    def then_once_in(self, expected: Mapping[str, Sequence[Event]]) -> Spec:
        after = self.then_in(expected)
        after.when(self.command).then_nothing()
        return after

    def then_rejected(self, refusal: type[Refusal], **facts: Any) -> None:
        with pytest.raises(refusal) as caught:
            self.spec.decide(self.command)
        assert type(caught.value) is refusal
        found = {**vars(caught.value), **caught.value.fields()}
        assert {name: found.get(name) for name in facts} == facts
        assert str(caught.value)


def spec(module: ModuleType, stream: str) -> Spec:
    return Spec(module, Stream(stream), {})

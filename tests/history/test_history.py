"""Every event ever released can be read for ever: its name, its fields, their values. See record.py for how a sample is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.catalogue import EVENT_CLASSES, KINDS, parse_event
from core.errors import UnreadableEvent
from core.upcasters import UPCASTERS
from tests.history.record import EVENTS, samples, words

FILES = sorted(EVENTS.glob("*.json"))


def read(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_released_event_is_read_and_means_what_it_meant(file: Path) -> None:
    for stored in read(file):
        event = parse_event(file.stem, json.dumps(stored).encode())
        assert event.type == EVENT_CLASSES[file.stem].model_fields["type"].default
        again = json.loads(event.model_dump_json(exclude_none=True))
        if not UPCASTERS.get(file.stem):
            assert kept(stored, again), f"{stored} became {again}"
        assert parse_event(file.stem, event.model_dump_json(exclude_none=True).encode()) == event


def kept(stored: Any, again: Any) -> bool:
    """Whether everything that was stored is there with the same value; what is new beside it has a default."""
    if isinstance(stored, dict):
        return isinstance(again, dict) and all(name in again and kept(value, again[name]) for name, value in stored.items())
    if isinstance(stored, list):
        return isinstance(again, list) and len(stored) == len(again) and all(map(kept, stored, again))
    return bool(stored == again) or (isinstance(stored, str) and stored.replace("+00:00", "Z") == again)


@pytest.mark.parametrize("name", sorted(EVENT_CLASSES))
def test_every_event_has_its_samples_and_all_its_fields_and_words_are_in_them(name: str) -> None:
    file = EVENTS / f"{name}.json"
    assert file.exists(), f"run `python -m tests.history.record` once {name} has its final shape, and commit what it writes"
    if UPCASTERS.get(name):
        return
    stored, fields = read(file), EVENT_CLASSES[name].model_fields
    for wanted in samples(name)[1:]:
        for field, value in wanted.items():
            fixed = bool(words(fields[field].annotation))
            assert any(one.get(field) == value if fixed else shape(one.get(field)) == shape(value) for one in stored), (
                f"{name}.{field}: {value!r} is new: record a sample with it in {file.name}, beside what is there"
            )


def shape(value: Any) -> Any:
    """The names of a value's parts and their types."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_a_sample_of_an_event_that_is_no_more_is_still_read() -> None:
    for file in FILES:
        assert file.stem in EVENT_CLASSES, f"{file.stem} was released: keep its class, or lift it with an upcaster"


def test_a_field_that_was_renamed_or_removed_is_noticed() -> None:
    stored = read(EVENTS / "run-placed.json")[1]
    with pytest.raises(UnreadableEvent):
        parse_event("run-placed", json.dumps({**{k: v for k, v in stored.items() if k != "node"}, "machine": "n"}).encode())
    with pytest.raises(UnreadableEvent):
        parse_event("run-put-somewhere", json.dumps(stored).encode())


def test_every_kind_of_stream_folds_every_sample_of_its_events() -> None:
    for kind in KINDS.values():
        state = kind.initial
        for event in kind.events:
            name = event.model_fields["type"].default
            for stored in read(EVENTS / f"{name}.json"):
                state = kind.evolve(state, parse_event(name, json.dumps(stored).encode()))

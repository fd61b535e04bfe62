"""Writes a sample file for each event type that has none yet: `python -m tests.history.record`. What is there is never changed.

A file holds, as JSON: the least that the event needs, everything that it can hold, and one more for each other word of a field that
allows a fixed few. Once released, such a file is history, and must be readable for ever.
"""

from __future__ import annotations

import json
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from core.catalogue import EVENT_CLASSES

EVENTS = Path(__file__).parent / "events"


def sample(annotation: Any, name: str) -> Any:
    """A value of the annotated type, with everything in it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return sample(next(one for one in arguments if one is not type(None)), name)
    if origin is tuple:
        return [sample(arguments[0], name), sample(arguments[0], name + "-2")]
    if origin is dict:
        return {f"{name}-key": sample(arguments[1], name)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field: sample(info.annotation, field) for field, info in annotation.model_fields.items()}
    simple: dict[Any, Any] = {
        str: f"{name} é∑", int: 7, float: 2.5, bool: True, datetime: datetime(2026, 11, 23, 8, 30, 0, 250, tzinfo=UTC).isoformat(),
    }
    return simple[annotation]


def least(model: type[BaseModel]) -> dict[str, Any]:
    return {
        name: least(info.annotation) if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        else sample(info.annotation, name)
        for name, info in model.model_fields.items() if info.is_required()
    }


def samples(name: str) -> list[dict[str, Any]]:
    model = EVENT_CLASSES[name]
    full = {field: sample(info.annotation, field) for field, info in model.model_fields.items()}
    found = [{"type": name, **least(model)}, full]
    for field, info in model.model_fields.items():
        found += [{**full, field: word} for word in words(info.annotation)[1:]]
    return found


def words(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((words(one) for one in get_args(annotation) if get_origin(one) is Literal), ())


def main() -> None:
    for name in EVENT_CLASSES:
        file = EVENTS / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(samples(name), indent=1, ensure_ascii=False) + "\n")
            print(f"recorded {name}")


if __name__ == "__main__":
    main()

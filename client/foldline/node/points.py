"""The lines of a script's spool as what the server takes: columns of points, parameters and tags. Lines that are none are counted."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

POINTS_MAX = 20_000
KEYS_MAX = 1_000
KEY_MAX = 250
PARAMETER_MAX = 6_000
TAG_MAX = 5_000
TEXTS_MAX = 100
READ_MAX = 1 << 18
LINE_BYTES_MAX = 2 << 20
INTEGER_LIMIT = 1 << 63
TIME_MS_MAX = 253_402_300_799_999
CONTROL = re.compile(r"[\x00-\x1f]")
SPELLED = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(slots=True)
class Parsed:
    """Of some whole lines."""

    keys: dict[str, int] = field(default_factory=dict)
    key: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    time_ms: list[int] = field(default_factory=list)
    value: list[float | str] = field(default_factory=list)
    parameters: list[dict[str, str]] = field(default_factory=list)
    tags: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    def columns(self) -> dict[str, Any]:
        return {"keys": list(self.keys), "key": self.key, "step": self.step, "time_ms": self.time_ms, "value": self.value}


def cut(data: bytes) -> int:
    """How many bytes make the next batch: whole lines, within the limits of a batch. A line without end is waited for, or let go."""
    end = data.rfind(b"\n") + 1
    if end == 0:
        return len(data) if len(data) >= LINE_BYTES_MAX else 0
    points, keys, at = 0, set[str](), 0
    for line in data[:end].split(b"\n")[:-1]:
        found = _loaded(line)
        for point in found.get("m", ()) if isinstance(found.get("m"), list) else ():
            points += 1
            keys.add(str(point[0]) if isinstance(point, list) and point else "")
        if at and (points > POINTS_MAX or len(keys) > KEYS_MAX):
            return at
        at += len(line) + 1
    return end


def parse(data: bytes) -> Parsed:
    """What the lines say; the same bytes always say the same."""
    parsed = Parsed()
    for line in data.split(b"\n"):
        if line:
            found = _loaded(line)
            good = _points(parsed, found)
            good |= _texts(parsed.parameters, found.get("p"), PARAMETER_MAX)
            good |= _texts(parsed.tags, found.get("g"), TAG_MAX)
            parsed.refused += not good
    return parsed


def _loaded(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _points(parsed: Parsed, found: dict[str, Any]) -> bool:
    points, at = found.get("m"), found.get("t")
    if not isinstance(points, list) or type(at) is not int or not 0 <= at <= TIME_MS_MAX:
        return False
    good = False
    for point in points:
        if not isinstance(point, list) or len(point) != 3:
            continue
        key, step, value = point
        number = _value(value)
        if number is None or not _integer(step) or not _key(key) or len(parsed.value) >= POINTS_MAX:
            continue
        if key not in parsed.keys and len(parsed.keys) >= KEYS_MAX:
            continue
        good = True
        parsed.key.append(parsed.keys.setdefault(key, len(parsed.keys)))
        parsed.step.append(step)
        parsed.time_ms.append(at)
        parsed.value.append(number)
    return good


def _value(value: object) -> float | str | None:
    if isinstance(value, str):
        return value if value in SPELLED else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> bool:
    return type(value) is int and -INTEGER_LIMIT <= value < INTEGER_LIMIT


def _key(key: object) -> bool:
    """The server refuses a batch, and not a point: what it would not take is left out here."""
    return isinstance(key, str) and 1 <= len(key) <= KEY_MAX and _valid(key) and not CONTROL.search(key)


def _valid(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _texts(groups: list[dict[str, str]], given: object, value_max: int) -> bool:
    """Adds to the last group, or a new one when it is full or says otherwise already."""
    if not isinstance(given, dict):
        return False
    for key, value in given.items():
        if not _key(key) or not isinstance(value, str) or not _valid(value) or len(value) > value_max:
            continue
        if not groups or len(groups[-1]) >= TEXTS_MAX or groups[-1].get(key, value) != value:
            groups.append({})
        groups[-1][key] = value
    return True

"""The body of a batch of points, opened: one column set per metric."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import zstandard

from core.ports import MeasurementBatch

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of an opened body; a batch of 20,000 points is far below it."""
_INT64_MAX = 2**63 - 1


class _Columns(msgspec.Struct):
    keys: list[str]
    key: list[int]
    step: list[int]
    time_ms: list[int]
    value: list[float | str | None]


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one metric out of one batch, in the order in which they came."""

    workspace: str
    run: str
    attempt: int
    kind: str
    key: str
    source: str
    sequence: int
    step: Sequence[int]
    time_ms: Sequence[int]
    value: Sequence[float]


def points_of(batch: MeasurementBatch) -> list[Points]:
    """One `Points` per metric of the batch. Raises: ValueError when the body has not the shape of a batch of points."""
    columns = _columns(zstandard.ZstdDecompressor().decompress(batch.body, max_output_size=BODY_BYTES_MAX))
    grouped: dict[str, tuple[list[int], list[int], list[float]]] = {}
    steps, times, values = columns.step, columns.time_ms, columns.value
    into = [grouped.setdefault(_text(key), ([], [], [])) for key in columns.keys]
    for place, step, time_ms, value in zip(columns.key, steps, times, values, strict=True):
        if place < 0:
            raise ValueError(f"a point of metric {place}")
        step_column, time_column, value_column = into[place]
        step_column.append(step)
        time_column.append(time_ms)
        value_column.append(value if type(value) is float else _number(value))
    return [
        Points(
            batch.workspace, batch.run, batch.attempt, batch.kind, key, batch.source, batch.sequence, _int64(step), _int64(time_ms), value,
        )
        for key, (step, time_ms, value) in grouped.items()
        if value
    ]


def _columns(content: bytes) -> _Columns:
    try:
        return msgspec.json.decode(content, type=_Columns)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return msgspec.convert(json.loads(content), _Columns)  # bare NaN and Infinity, huge numbers


def _number(value: Any) -> float:
    """A float behind its spelling; what JSON could not carry was NaN."""
    return math.nan if value is None else float(value)


def _int64(values: list[int]) -> list[int]:
    """Held within what a column of the table takes."""
    if max(values) <= _INT64_MAX and min(values) >= -_INT64_MAX:
        return values
    return [min(max(value, -_INT64_MAX), _INT64_MAX) for value in values]


def _text(key: str) -> str:
    """A metric's name as Postgres can hold it."""
    return key.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()

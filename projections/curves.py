"""Curves at any resolution, with every spike kept. Pure: columns of points in, buckets out."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One bucket: its last point, with the least and the greatest value in it."""

    step: int
    time_ms: int
    value: float
    min: float
    """Of the values that are numbers; NaN when none is."""
    max: float
    count: int = 1
    nans: int = 0


@dataclass(slots=True)
class Series:
    """Columns of points, in the order in which they came."""

    step: array[int] = field(default_factory=lambda: array("q"))
    time_ms: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.value)

    def extend(self, step: bytes, time_ms: bytes, value: bytes) -> None:
        """Adds packed columns."""
        self.step.extend(unpack_integers(step))
        self.time_ms.extend(unpack_integers(time_ms))
        self.value.extend(unpack_floats(value))

    def ordered(self) -> Series:
        """By step, then time, then the order in which they came."""
        order = sorted(range(len(self)), key=lambda place: (self.step[place], self.time_ms[place]))
        return Series(
            array("q", [self.step[place] for place in order]), array("q", [self.time_ms[place] for place in order]),
            array("d", [self.value[place] for place in order]),
        )


def pack(kind: str, values: Iterable[float]) -> bytes:
    """8 bytes each, little endian; `kind` is `q` for integers, `d` for floats. Bits of a NaN stay."""
    packed = array(kind, values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_integers(packed: bytes) -> array[int]:
    values: array[int] = array("q")
    values.frombytes(packed)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def unpack_floats(packed: bytes) -> array[float]:
    values: array[float] = array("d")
    values.frombytes(packed)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def extremes(values: Sequence[float]) -> tuple[float | None, float | None, int]:
    """The least and the greatest number, None when there is none, and how many NaN there are."""
    low, high = min(values, default=math.nan), max(values, default=math.nan)
    if not math.isnan(sum(values)):
        return (low, high, 0) if values else (None, None, 0)
    numbers = [value for value in values if value == value]
    return (min(numbers), max(numbers), len(values) - len(numbers)) if numbers else (None, None, len(values))


def resample(series: Series, buckets: int) -> list[CurvePoint]:
    """At most `buckets` buckets of the ordered series, of as equal a count as can be."""
    total = len(series)
    count = min(total, buckets)
    points: list[CurvePoint] = []
    for number in range(count):
        first, after = number * total // count, (number + 1) * total // count
        low, high, nans = extremes(series.value[first:after])
        points.append(CurvePoint(
            series.step[after - 1], series.time_ms[after - 1], series.value[after - 1], math.nan if low is None else low,
            math.nan if high is None else high, after - first, nans,
        ))
    return points


def merge(points: Sequence[CurvePoint], buckets: int) -> list[CurvePoint]:
    """Fewer buckets from many, nothing of their extremes lost."""
    total = len(points)
    count = min(total, buckets)
    merged: list[CurvePoint] = []
    for number in range(count):
        group = points[number * total // count : (number + 1) * total // count]
        last = group[-1]
        low, _, _ = extremes([point.min for point in group])
        _, high, _ = extremes([point.max for point in group])
        merged.append(CurvePoint(
            last.step, last.time_ms, last.value, math.nan if low is None else low, math.nan if high is None else high,
            sum(point.count for point in group), sum(point.nans for point in group),
        ))
    return merged

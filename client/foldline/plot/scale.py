"""Ranges and round tick values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where `value` lies in the range, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def scale_of(values: Sequence[float], *, ticks: int = 5) -> Scale:
    """A range that holds the values, with about `ticks` round steps."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / max(1, ticks))
    first, last = math.floor(low / step), math.ceil(high / step)
    return Scale(first * step, last * step, tuple(index * step for index in range(first, last + 1)))


def tight(values: Sequence[float]) -> Scale:
    """A range that the values just fill."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return Scale(low, high, ()) if low < high else scale_of(values)


def label(value: float) -> str:
    """A tick's value, short."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5):
        if raw <= factor * size:
            return factor * size
    return 10 * size

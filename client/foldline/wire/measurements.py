"""Batches of measurements: columns of points, and bytes of a log.

`POST /api/v1/agent/runs/{run}/points` has a `PointsBatch` as JSON. `POST /api/v1/agent/runs/{run}/log` has raw bytes, with
`attempt`, `source`, `sequence`, `name`, `offset` in the query. Both answer 204; a doubled sequence is 204 again.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from foldline.wire.shapes import Request

POINTS_MAX = 20_000
LOG_BYTES_MAX = 1 << 20

Number = float | Literal["NaN", "Infinity", "-Infinity"]
MetricKey = Annotated[str, StringConstraints(min_length=1, max_length=250)]


class PointsBatch(Request):
    """Columns of equal length. `key` holds indexes into `keys`."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=True)

    attempt: int
    source: Annotated[str, StringConstraints(max_length=100)]
    sequence: Annotated[int, Field(ge=1)]
    kind: Literal["points", "system"] = "points"
    keys: Annotated[list[MetricKey], Field(max_length=1000)]
    key: Annotated[list[int], Field(max_length=POINTS_MAX)]
    step: Annotated[list[int], Field(max_length=POINTS_MAX)]
    time_ms: Annotated[list[int], Field(max_length=POINTS_MAX)]
    value: Annotated[list[Number], Field(max_length=POINTS_MAX)]


def spell(value: float) -> float | str:
    """A float as JSON can carry it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def unspell(value: float | str) -> float:
    """The float behind a number or its spelling; `float` reads `NaN` and `Infinity` itself."""
    return float(value)


NO_DIGEST = "0" * 64
"""The digest of a source without batches."""


def chain_digest(previous: str, body: str) -> str:
    """A source's digest after one more batch: SHA-256 hex of the digest before it and the hex SHA-256 of the body as posted.

    The body as posted is the request's JSON for points and the raw bytes for a log, before any compression.
    """
    return hashlib.sha256(f"{previous}{body}".encode()).hexdigest()

"""Batches of measurements as the edge makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import zstandard

from core.ids import WorkspaceId
from core.ports import MeasurementBatch
from foldline.wire.measurements import spell
from tests.projections.world import W


def points(
    values: Sequence[float], *, key: str = "loss", first_step: int = 0, sequence: int = 1, run: str = "r-1", attempt: int = 1,
    source: str | None = None, kind: str = "points", workspace: WorkspaceId = W, steps: Sequence[int] | None = None,
) -> MeasurementBatch:
    """Points of one metric, a second apart."""
    count = len(values)
    steps = steps or list(range(first_step, first_step + count))
    columns: dict[str, object] = {
        "keys": [key], "key": [0] * count, "step": list(steps), "time_ms": [1000 * step for step in steps],
        "value": [spell(value) for value in values],
    }
    return batch_of(
        columns, sequence=sequence, run=run, attempt=attempt, source=source, kind=kind, workspace=workspace,
    )


def batch_of(
    columns: dict[str, object], *, sequence: int = 1, run: str = "r-1", attempt: int = 1, source: str | None = None, kind: str = "points",
    workspace: WorkspaceId = W,
) -> MeasurementBatch:
    posted = json.dumps({"attempt": attempt, "source": source, "sequence": sequence, "kind": kind, **columns}).encode()
    return MeasurementBatch(
        workspace=workspace, run=run, attempt=attempt, source=source or f"{attempt}/spool", sequence=sequence, kind=kind,
        body=zstandard.compress(posted), sha256=hashlib.sha256(posted).hexdigest(),
    )


def log_lines(
    content: bytes, offset: int, *, sequence: int = 1, run: str = "r-1", attempt: int = 1, name: str = "user_logs/std_log.txt",
    workspace: WorkspaceId = W,
) -> MeasurementBatch:
    return MeasurementBatch(
        workspace=workspace, run=run, attempt=attempt, source=f"{attempt}/log", sequence=sequence, kind="log",
        body=zstandard.compress(content), log_name=name, log_offset=offset, log_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )

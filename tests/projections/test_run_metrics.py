"""Metrics: last, min, max and count; curves from chunks and tail; everything counted once."""

from __future__ import annotations

import math
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import Position
from core.ports import Measured, MeasurementBatch
from projections import run_metrics
from projections.database import Database
from projections.points import points_of
from projections.run_metrics import CHUNK_POINTS, MetricRow, fold, spill
from tests.projections.batches import batch_of, points
from tests.projections.running import caught_up, running
from tests.projections.world import NOON, OTHER, W, World


def row_of(*batches: MeasurementBatch) -> MetricRow:
    """The row of the first metric after the batches."""
    row: MetricRow | None = None
    for batch in batches:
        for part in points_of(batch)[:1]:
            row = fold(row, part)
    assert row is not None
    return row


def test_a_summary_has_last_least_greatest_and_count() -> None:
    row = row_of(points([3.0, 1.0, 2.0]), points([0.5], first_step=3, sequence=2))
    assert (row.last, row.last_step, row.min, row.max, row.count) == (0.5, 3, 0.5, 3.0, 4)


def test_a_batch_that_comes_twice_is_counted_once() -> None:
    first, second = points([1.0, 2.0]), points([3.0], first_step=2, sequence=2)
    assert row_of(first, second, first, second, second) == row_of(first, second)


def test_the_last_value_is_that_of_the_highest_step_whatever_came_last() -> None:
    row = row_of(points([5.0], first_step=10), points([7.0], first_step=3, sequence=2))
    assert (row.last, row.last_step, row.ordered) == (5.0, 10, False)


def test_nan_and_infinities_are_kept_exactly() -> None:
    row = row_of(points([1.0, math.inf, -math.inf, math.nan]))
    assert (row.min, row.max, row.nans) == (-math.inf, math.inf, 1)
    assert math.isnan(row.last)
    only = row_of(points([math.nan]))
    assert (only.min, only.max, only.count) == (None, None, 1)


def test_bare_nan_as_python_writes_it_is_read_too() -> None:
    body = b'{"keys":["loss"],"key":[0,0,0],"step":[1,2,3],"time_ms":[1,2,3],"value":[NaN,Infinity,null]}'
    packed = zstandard.compress(body)
    (part,) = points_of(MeasurementBatch(workspace=W, run="r", attempt=1, source="1/s", sequence=1, kind="points", body=packed))
    assert [repr(value) for value in part.value] == ["nan", "inf", "nan"]


def test_numbers_and_names_that_a_table_cannot_hold_are_bent_not_refused() -> None:
    columns: dict[str, object] = {"keys": ["a\x00b"], "key": [0, 0], "step": [2**70, -(2**70)], "time_ms": [0, 0], "value": [1, 2]}
    (part,) = points_of(batch_of(columns))
    assert (part.key, list(part.step)) == ("a\ufffdb", [2**63 - 1, -(2**63 - 1)])


@pytest.mark.parametrize("columns", [
    {"keys": ["a"], "key": [0, 0], "step": [1], "time_ms": [1], "value": [1.0]},
    {"keys": ["a"], "key": [1], "step": [1], "time_ms": [1], "value": [1.0]},
    {"keys": ["a"], "key": [-1], "step": [1], "time_ms": [1], "value": [1.0]},
    {"keys": ["a"], "key": [0], "step": ["x"], "time_ms": [1], "value": [1.0]},
])
def test_columns_that_do_not_fit_together_are_told(columns: dict[str, object]) -> None:
    with pytest.raises((ValueError, IndexError)):
        points_of(batch_of(columns))


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(0, 2**32))
def test_where_batches_are_cut_changes_nothing(sizes: list[int], seed: int) -> None:
    """The same points in one batch and in many: the same chunks, tail and summary."""
    values = [random.Random(seed + n).uniform(-1, 1) for n in range(sum(sizes))]
    whole = row_of(points(values))
    parts, start = [], 0
    for number, size in enumerate(sizes, 1):
        parts.append(points(values[start : start + size], first_step=start, sequence=number))
        start += size
    cut = row_of(*parts)
    cut.sources = whole.sources
    assert cut == whole
    kept, sealed = spill(whole)
    assert len(sealed) == len(values) // CHUNK_POINTS == kept.chunks
    assert sum(chunk.count for chunk in sealed) + len(kept.tail_value) // 8 == len(values)


async def fill(world: World, database: Database, *batches: MeasurementBatch) -> None:
    for batch in batches:
        await world.measurements.append(batch)
    async with running(database, world, models=[run_metrics.MODEL], batch_max=3) as (_, progress):
        await caught_up(world, progress)


async def test_a_curve_of_many_chunks_keeps_its_spike_at_every_resolution(database: Database) -> None:
    values = [math.sin(n / 500) for n in range(10_000)]
    values[7_123], values[9_999] = 99.0, -99.0
    batches = [points(values[n : n + 900], first_step=n, sequence=n // 900 + 1) for n in range(0, 10_000, 900)]
    await fill(World(), database, *batches)
    for buckets in (1, 3, 10, 19, 500, 20_000):
        curve = await run_metrics.curve(database, W, "r-1", "loss", buckets=buckets)
        assert curve is not None and curve.total == 10_000
        assert len(curve.points) <= buckets
        assert (max(p.max for p in curve.points), min(p.min for p in curve.points)) == (99.0, -99.0)
        assert curve.points[-1].value == -99.0 and curve.points[-1].step == 9_999
        assert sum(point.count for point in curve.points) == 10_000
    exact = await run_metrics.curve(database, W, "r-1", "loss", buckets=10_000)
    assert exact is not None and [point.value for point in exact.points] == values


async def test_a_long_curve_that_came_out_of_order_is_drawn_in_order(database: Database) -> None:
    steps = list(range(5_000))
    random.Random(7).shuffle(steps)
    batches = [
        points([float(s) for s in steps[n : n + 500]], steps=steps[n : n + 500], sequence=n // 500 + 1) for n in range(0, 5_000, 500)
    ]
    await fill(World(), database, *batches)
    curve = await run_metrics.curve(database, W, "r-1", "loss", buckets=5_000)
    assert curve is not None and [point.step for point in curve.points] == list(range(5_000))


async def test_points_of_a_stale_attempt_stay_under_that_attempt(database: Database) -> None:
    await fill(World(), database, points([1.0, 2.0]), points([9.0], attempt=2), points([3.0], first_step=2, sequence=2))
    newest = await run_metrics.curve(database, W, "r-1", "loss")
    stale = await run_metrics.curve(database, W, "r-1", "loss", attempt=1)
    assert newest is not None and (newest.attempt, newest.total) == (2, 1)
    assert stale is not None and (stale.attempt, stale.total) == (1, 3)
    assert [(row.attempt, row.count) for row in await run_metrics.summaries(database, W, "r-1")] == [(2, 1)]
    assert await run_metrics.last_values(database, W, ["r-1", "r-2"]) == {"r-1": {"loss": 9.0}, "r-2": {}}


async def test_system_metrics_are_apart_from_the_script_s(database: Database) -> None:
    await fill(World(), database, points([1.0]), points([50.0], key="cpu", kind="system", source="1/system"))
    assert [row.key for row in await run_metrics.summaries(database, W, "r-1")] == ["loss"]
    assert [row.key for row in await run_metrics.summaries(database, W, "r-1", kind="system")] == ["cpu"]
    assert await run_metrics.curve(database, W, "r-1", "cpu") is None


async def test_metrics_of_another_workspace_are_not_there(database: Database) -> None:
    await fill(World(), database, points([1.0]), points([2.0], workspace=OTHER, run="r-9"))
    assert await run_metrics.curve(database, OTHER, "r-1", "loss") is None
    assert await run_metrics.summaries(database, OTHER, "r-1") == []
    assert await run_metrics.last_values(database, OTHER, ["r-1"]) == {"r-1": {}}


def test_a_batch_of_another_kind_touches_no_metric() -> None:
    other = MeasurementBatch(workspace=W, run="r", attempt=1, source="1/s", sequence=1, kind="log", body=b"")
    assert run_metrics.facts(Measured(other, NOON, Position("m", 0, 0))) == []

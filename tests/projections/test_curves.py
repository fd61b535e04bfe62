"""Curves: no spike is lost at any resolution; numbers that are none stay exactly what they are."""

from __future__ import annotations

import math
from array import array
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from projections.curves import CurvePoint, Series, extremes, merge, pack, resample, unpack_floats, unpack_integers

floats = st.floats(allow_nan=True, allow_infinity=True)
steps = st.integers(-(2**62), 2**62)
series = st.lists(st.tuples(steps, floats), min_size=1, max_size=300)


def made(points: list[tuple[int, float]]) -> Series:
    return Series(array("q", [s for s, _ in points]), array("q", [0] * len(points)), array("d", [v for _, v in points]))


def numbers(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


@given(series, st.integers(1, 400))
def test_the_least_and_the_greatest_of_a_curve_are_those_of_its_points(points: list[tuple[int, float]], buckets: int) -> None:
    curve = resample(made(points), buckets)
    there = numbers([value for _, value in points])
    assert len(curve) == min(buckets, len(points))
    assert numbers([point.min for point in curve]) == [] if not there else min(numbers([p.min for p in curve])) == min(there)
    assert numbers([point.max for point in curve]) == [] if not there else max(numbers([p.max for p in curve])) == max(there)
    assert sum(point.count for point in curve) == len(points)
    assert sum(point.nans for point in curve) == len(points) - len(there)


@given(series, st.integers(1, 400))
def test_each_bucket_ends_with_its_own_last_point(points: list[tuple[int, float]], buckets: int) -> None:
    curve = resample(made(points), buckets)
    lasts = [after - 1 for after in accumulate(point.count for point in curve)]
    assert [(point.step, repr(point.value)) for point in curve] == [(points[last][0], repr(points[last][1])) for last in lasts]


@given(series, st.integers(1, 50), st.integers(1, 50))
def test_merging_buckets_loses_no_more_than_drawing_fewer_at_once(points: list[tuple[int, float]], fine: int, coarse: int) -> None:
    merged = merge(resample(made(points), fine), coarse)
    there = numbers([value for _, value in points])
    assert len(merged) == min(fine, coarse, len(points))
    if there:
        assert min(numbers([point.min for point in merged])) == min(there)
        assert max(numbers([point.max for point in merged])) == max(there)
    assert sum(point.count for point in merged) == len(points)


@given(st.lists(floats), st.lists(steps))
def test_packed_columns_come_back_bit_for_bit(values: list[float], whole: list[int]) -> None:
    packed = pack("d", values)
    assert pack("d", unpack_floats(packed)) == packed
    assert list(map(repr, unpack_floats(packed))) == list(map(repr, values))
    assert list(unpack_integers(pack("q", whole))) == whole


def test_a_spike_between_two_quiet_points_stays() -> None:
    values = [1.0] * 10_000
    values[4_321] = 1e9
    curve = resample(made(list(enumerate(values))), 10)
    assert [point.max for point in curve].count(1e9) == 1
    assert {point.value for point in curve} == {1.0}


def test_a_bucket_of_nothing_but_nan_says_so() -> None:
    (point,) = resample(made([(1, math.nan), (2, math.nan)]), 1)
    assert math.isnan(point.value) and math.isnan(point.min) and math.isnan(point.max) and point.nans == 2


def test_infinities_are_greater_than_every_number_and_are_kept() -> None:
    assert extremes([1.0, math.inf, -math.inf, math.nan]) == (-math.inf, math.inf, 1)


def test_points_that_came_in_any_order_are_drawn_by_step() -> None:
    drawn = resample(made([(3, 30.0), (1, 10.0), (2, 20.0)]).ordered(), 500)
    assert drawn == [CurvePoint(step, 0, step * 10.0, step * 10.0, step * 10.0) for step in (1, 2, 3)]


def test_a_curve_without_points_is_empty() -> None:
    assert resample(Series(), 500) == []

"""Metrics of a run: their last, least and greatest values, and their curves."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from adapters.http import run_views
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.routing import Route
from core.errors import Invalid, NotFound
from foldline.wire.jobs import Curve, MetricSummary, Point
from foldline.wire.measurements import spell
from foldline.wire.shapes import Page
from projections import run_metrics, source_progress

BUCKETS_MAX = 10_000
ATTEMPT_MAX = 1_000_000


async def summaries(call: Call) -> Response:
    row = await run_views.load_row(call, call.path["run"])
    await call.wait_for_measurements("run_metrics")
    attempt = call.number("attempt", None, 1, ATTEMPT_MAX)
    found = await run_metrics.summaries(call.services.pool, call.home, row.run, attempt=attempt, kind=_kind(call))
    items = [
        MetricSummary(
            key=one.key, last=spell(one.last), min=None if one.min is None else spell(one.min),
            max=None if one.max is None else spell(one.max), last_step=one.last_step, count=one.count,
        )
        for one in found
    ]
    return call.page(items, None)


async def curve(call: Call) -> Response:
    key = call.text("key", 250)
    if key is None:
        raise Invalid("Say which metric, with `key` in the query.", field="key")
    buckets = call.number("buckets", 500, 1, BUCKETS_MAX) or 500
    attempt = call.number("attempt", None, 1, ATTEMPT_MAX)
    row = await run_views.load_row(call, call.path["run"])
    pool = call.services.pool
    await call.wait_for_measurements("run_metrics", "source_progress")
    found = await run_metrics.curve(pool, call.home, row.run, key, attempt=attempt, buckets=buckets, kind=_kind(call))
    if found is None:
        raise NotFound("metric", key)
    complete = row.final and await source_progress.complete(pool, call.home, row.run, row.source_ends)
    points = [
        Point(
            step=one.step, time=datetime.fromtimestamp(one.time_ms / 1000, UTC), value=spell(one.value), min=spell(one.min),
            max=spell(one.max),
        )
        for one in found.points
    ]
    return call.answer(Curve(key=key, attempt=found.attempt, points=points, total=found.total, complete=complete))


def _kind(call: Call) -> str:
    kind = call.text("kind", 10) or "points"
    if kind not in ("points", "system"):
        raise Invalid("`kind` must be points or system.", field="kind")
    return kind


_ONE = f"{W}/jobs/{{run}}/metrics"
ROUTES = (
    Route(method="GET", path=_ONE, handler=summaries, summary="Metrics of the run", answer=Page[MetricSummary], query=("attempt", "kind")),
    Route(method="GET", path=f"{_ONE}/curve", handler=curve, summary="One metric's curve, every spike kept", answer=Curve,
          query=("key", "buckets", "attempt", "kind"), expensive=True),
)

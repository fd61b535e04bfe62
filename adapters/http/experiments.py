"""Experiments: groups of runs."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response

from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.routing import Route
from core.experiments import ArchiveExperiment, RestoreExperiment, stream_of
from foldline.wire.shapes import Answer, Page
from projections import experiments as rows


class ExperimentShown(Answer):
    name: str
    runs: int
    created_at: datetime
    archived: bool
    last_run_at: datetime | None = None


async def listing(call: Call) -> Response:
    await call.wait("experiments")
    archived = call.flag("archived") if "archived" in call.query else False
    found = await rows.page(call.services.pool, call.home, archived=archived, limit=call.limit, cursor=call.cursor)
    items = [
        ExperimentShown(name=row.experiment, runs=row.runs, created_at=row.created_at, archived=row.archived, last_run_at=row.last_run_at)
        for row in found.items
    ]
    return call.page(items, found.next)


async def archive(call: Call) -> Response:
    name = call.path["experiment"]
    await call.execute(ArchiveExperiment(experiment=name), guard=stream_of(name))
    return call.done()


async def restore(call: Call) -> Response:
    name = call.path["experiment"]
    await call.execute(RestoreExperiment(experiment=name), guard=stream_of(name))
    return call.done()


ROUTES = (
    Route(method="GET", path=f"{W}/experiments", handler=listing, summary="Experiments", answer=Page[ExperimentShown],
          query=("limit", "cursor", "archived")),
    Route(method="POST", path=f"{W}/experiments/{{experiment}}/archive", handler=archive, summary="Hide it from lists", status=204),
    Route(method="POST", path=f"{W}/experiments/{{experiment}}/restore", handler=restore, summary="Show it again", status=204),
)

"""Makes the ASGI application out of the services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.responses import Response
from starlette.routing import Router as Lifespan
from starlette.types import Receive, Scope, Send

from adapters.http import (
    admin,
    agent,
    blobs,
    computes,
    docs,
    endpoints,
    environments,
    experiments,
    health,
    jobs,
    join,
    journal,
    logs,
    measurements,
    metrics,
    models,
    outputs,
    snapshots,
    users,
    workspaces,
)
from adapters.http.access import API
from adapters.http.call import Call
from adapters.http.live import Live
from adapters.http.openapi import describe
from adapters.http.routing import Edge, Route, Router
from adapters.http.services import Services

NOUNS = (
    health, users, workspaces, computes, environments, experiments, jobs, metrics, logs, outputs, blobs, snapshots, models, endpoints,
    journal, agent, measurements, join, admin,
)


class App:
    """The ASGI application. Its lifespan runs the two tasks that follow the logs for live readers."""

    def __init__(self, services: Services, router: Router, live: Live) -> None:
        self.router, self.live = router, live
        self._edge = Edge(services, router, live)
        self._lifespan = Lifespan(lifespan=self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._edge(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    @asynccontextmanager
    async def _running(self, _: object) -> AsyncIterator[None]:
        async with self.live.running():
            yield


def build_app(services: Services) -> App:
    """Raises: ValueError when a route has no line in the table of access, or a line no route."""
    routes = [route for noun in NOUNS for route in noun.ROUTES]
    described: dict[str, bytes] = {}

    async def openapi(_: Call) -> Response:
        return Response(described["json"], media_type="application/json")

    async def page(_: Call) -> Response:
        return Response(docs.PAGE, headers={"Content-Security-Policy": docs.POLICY}, media_type="text/html")

    routes += [
        Route(method="GET", path=f"{API}/openapi.json", handler=openapi, summary="This description", produces="application/json"),
        Route(method="GET", path=f"{API}/docs", handler=page, summary="This description as a page", produces="text/html"),
    ]
    router = Router(_ordered(routes))
    described["json"] = describe(router.routes, services.settings.version)
    return App(services, router, Live(services.log, services.measurements, services.settings.follower_events_max))


def _ordered(routes: Sequence[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (route.path, route.method))

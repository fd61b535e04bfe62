"""Paths -> handlers, and the one way that every request goes.

host -> method -> credential (401 before anything is parsed) -> origin -> path -> route -> access -> handler. Whatever a handler
raises leaves as problem+json. Plain ASGI: no framework between the socket and a hot handler.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from adapters.http import access, limits
from adapters.http.access import Who
from adapters.http.call import Call
from adapters.http.live import Live
from adapters.http.problems import Problem, answer_refusal, answer_unexpected
from adapters.http.services import Services
from adapters.http.tokens import Caller, Tokens
from core.errors import Refusal

Handler = Callable[[Call], Awaitable[Response | None]]
DRAIN_BYTES_MAX = 64 * 1024
DRAIN_SECONDS = 0.5
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{8,64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One documented thing that can be asked. `query` may occur once each, `repeated` often, nothing else at all."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    raw: str | None = None
    """The media type of a body that the handler reads itself; `*/*` takes any."""
    answer: Any = None
    status: int = 200
    produces: str = "application/json"
    query: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    expensive: bool = False
    held: bool = False
    """Stays open by design, so that it does not count as a request in flight."""


@dataclass(slots=True)
class _Place:
    """All methods of one path."""

    names: tuple[str, ...]
    routes: dict[str, tuple[Route, tuple[Who, ...]]] = field(default_factory=dict)


class Router:
    """The table of routes, checked against the table of access when it is made."""

    def __init__(self, routes: Iterable[Route], table: Mapping[tuple[str, str], tuple[Who, ...]] = access.TABLE) -> None:
        """Raises: ValueError when a route has no decision, or a decision no route."""
        self.routes: list[tuple[Route, tuple[Who, ...]]] = []
        self._places: dict[tuple[str, ...], _Place] = {}
        self._shapes: dict[int, list[tuple[str, ...]]] = {}
        for route in routes:
            who = table.get((route.method, route.path))
            if not who:
                raise ValueError(f"{route.method} {route.path} has no line in adapters/http/access.py: who may use it?")
            self.routes.append((route, who))
            self._add(route, who)
        missing = set(table) - {(route.method, route.path) for route, _ in self.routes}
        if missing:
            raise ValueError(f"lines of adapters/http/access.py without a route: {sorted(missing)}")

    def _add(self, route: Route, who: tuple[Who, ...]) -> None:
        parts = tuple(route.path.split("/")[1:])
        shape = tuple("{}" if part.startswith("{") else part for part in parts)
        if shape not in self._places:
            self._places[shape] = _Place(tuple(part[1:-1] if part.startswith("{") else "" for part in parts))
            self._shapes.setdefault(len(shape), []).append(shape)
            self._shapes[len(shape)].sort(key=lambda one: [part == "{}" for part in one])
        place = self._places[shape]
        if route.method in place.routes:
            raise ValueError(f"{route.method} {route.path} is there twice")
        place.routes[route.method] = (route, who)

    def find(self, method: str, segments: Sequence[str]) -> tuple[Route, tuple[Who, ...], dict[str, str]]:
        """Raises: Problem 404, 405."""
        for shape in self._shapes.get(len(segments), ()):
            if all(wanted in ("{}", given) for wanted, given in zip(shape, segments, strict=True)):
                place = self._places[shape]
                found = place.routes.get("GET" if method == "HEAD" else method)
                if found is None:
                    allowed = sorted({*place.routes, *(("HEAD",) if "GET" in place.routes else ())})
                    raise Problem(405, "method_not_allowed", "This method is not allowed here.", headers={"Allow": ", ".join(allowed)})
                return *found, {name: given for name, given in zip(place.names, segments, strict=True) if name}
        raise Problem(404, "not_found", "There is nothing under this path.")


class Edge:
    """The ASGI application for HTTP requests."""

    def __init__(self, services: Services, router: Router, live: Live) -> None:
        self._services, self._router, self._live = services, router, live
        self._tokens = Tokens(services.executor, services.vault, services.clock)
        self._fairness = limits.Fairness()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, list[bytes]] = {}
        request_id = self._services.clock.random(12).hex()
        wire = _Wire(receive, send, scope["method"] == "HEAD")
        where = scope["method"]
        try:
            headers = limits.headers_of(scope)
            given = headers.get(b"x-request-id", [])
            if len(given) == 1 and _REQUEST_ID.match(given[0]):
                request_id = given[0].decode()
            wire.request_id = request_id
            response = await self._answer(scope, wire, headers, request_id)
        except Refusal as refusal:
            response = answer_refusal(refusal)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if wire.started:
                raise
            response = answer_unexpected(error, request_id, where)
        if response is None:
            return
        if response.status_code >= 400 and not wire.complete:
            await _settle(wire, headers, response)
        await response(scope, wire.receive, wire.send)

    async def _answer(self, scope: Scope, wire: _Wire, headers: dict[bytes, list[bytes]], request_id: str) -> Response | None:
        method = scope["method"]
        settings = self._services.settings
        health = scope["path"] in ("/health", f"{access.API}/health")
        if not health:
            limits.check_host(headers, settings.hosts)
        limits.check_method(method)
        caller = await self._caller(scope, headers)
        limits.check_origin(scope, headers, settings.public_url)
        segments = limits.segments_of(scope)
        route, who, path = self._router.find(method, segments)
        admitted = await access.admit(self._services, caller, who, path)
        call = Call(
            services=self._services, caller=caller, headers=headers, path=path, segments=segments, method=method,
            query_bytes=scope["query_string"], wire=wire, request_id=request_id, route=route,
            workspace=admitted.workspace, workspace_state=admitted.state, role=admitted.role, scope=scope, live=self._live,
            recheck=lambda: self._recheck(scope, headers, who, path),
        )
        with ExitStack() as stack:
            if caller is not None and not route.held:
                stack.enter_context(self._fairness.hold(str(caller.actor), route.expensive))
            elif caller is not None:
                stack.enter_context(self._fairness.follow(str(caller.actor)))
            response = await route.handler(call)
            if response is not None and (route.expensive or route.held):
                await response(scope, wire.receive, wire.send)
                return None
        return response

    async def _caller(self, scope: Scope, headers: Mapping[bytes, list[bytes]]) -> Caller | None:
        """Who is calling; nobody is let through to public paths only."""
        given = headers.get(b"authorization", [])
        if not given and self._is_public(scope):
            return None
        return await self._tokens.caller(given)

    async def _recheck(self, scope: Scope, headers: Mapping[bytes, list[bytes]], who: tuple[Who, ...], path: Mapping[str, str]) -> None:
        await access.admit(self._services, await self._caller(scope, headers), who, path)

    def _is_public(self, scope: Scope) -> bool:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        return access.TABLE.get(("GET", raw.decode("latin-1"))) == ("public",) and scope["method"] in ("GET", "HEAD")


class _Wire:
    """receive and send with what everybody adds: the request id, no sniffing, no caching; and whether the body was read."""

    def __init__(self, receive: Receive, send: Send, head: bool) -> None:
        self._receive, self._send, self._head = receive, send, head
        self.request_id = ""
        self.complete = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            names = {name for name, _ in message["headers"]}
            extra = [(b"x-request-id", self.request_id.encode()), (b"x-content-type-options", b"nosniff")]
            if b"cache-control" not in names:
                extra.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *extra]}
        await self._send(message)


async def _settle(wire: _Wire, headers: Mapping[bytes, list[bytes]], response: Response) -> None:
    """Before a refusal: reads a little of a body that nobody wants, so that the answer arrives, then lets the connection end."""
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        return
    if b"expect" in headers:
        response.headers["Connection"] = "close"
        return
    read = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while not wire.complete and read < DRAIN_BYTES_MAX:
                read += len((await wire.receive()).get("body", b""))
    except TimeoutError:
        pass
    if not wire.complete:
        response.headers["Connection"] = "close"

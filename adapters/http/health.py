"""Health, who am I, the description of the API and its page."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from adapters.http.access import API
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.tokens import NodeCaller, RunCaller, UserCaller
from core.errors import Unauthenticated
from foldline.wire.shapes import Answer
from foldline.wire.workspaces import Me


class Health(Answer):
    """`status` is `ok` when the log can be asked."""

    status: str
    version: str
    log: str
    log_id: str
    sandbox: str = ""
    facts: dict[str, Any] = {}


async def health(call: Call) -> Response:
    await call.services.log.ends()
    settings = call.services.settings
    return call.answer(Health(
        status="ok", version=settings.version, log=settings.log_kind, log_id=call.services.log.id, sandbox=settings.sandbox,
        facts=dict(call.services.facts),
    ))


async def me(call: Call) -> Response:
    version = call.services.settings.version
    match call.caller:
        case UserCaller() as caller:
            person = await call.services.people.get(caller.user)
            return call.answer(Me(
                id=caller.user, kind="user", name=person.name if person else None, admin=caller.admin, server_version=version,
            ))
        case RunCaller() as caller:
            return call.answer(Me(id=caller.run, kind="run", server_version=version))
        case NodeCaller() as caller:
            return call.answer(Me(id=caller.node, kind="node", server_version=version))
        case _:
            raise Unauthenticated


ROUTES = (
    Route(method="GET", path="/health", handler=health, summary="Whether the server is well", answer=Health),
    Route(method="GET", path=f"{API}/health", handler=health, summary="Whether the server is well", answer=Health),
    Route(method="GET", path=f"{API}/me", handler=me, summary="Who the token belongs to", answer=Me),
)

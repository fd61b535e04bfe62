"""A machine of somebody's own joins a compute, with a token that works once."""

from __future__ import annotations

from starlette.responses import Response

from adapters.http.access import API, find_workspace
from adapters.http.agent import check_protocol
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.tokens import JoinCaller, node_token
from core import computes
from core.errors import Conflict, Unauthenticated
from core.ids import SYSTEM
from core.nodes import JoinNode, NodeFacts
from core.users import UseJoinToken
from foldline.wire.nodes import Joined, JoinWithToken


async def join(call: Call) -> Response:
    """The token is used up first: of two machines with one token, one joins."""
    check_protocol(call)
    wanted = await call.body(JoinWithToken)
    caller = call.caller
    if not isinstance(caller, JoinCaller):
        raise Unauthenticated
    services = call.services
    workspace, _ = await find_workspace(services, caller.workspace)
    state = await services.executor.state(workspace, computes.stream_of(caller.compute))
    if not isinstance(state, computes.Cluster):
        raise Conflict("The compute is gone; ask for a token of another one.", compute=caller.compute)
    node = f"{caller.compute[:240]}-{services.vault.derive('joined-node', caller.join)[:6]}"
    done = await call.execute(UseJoinToken(join=caller.join, sha256=caller.sha256, node=node, now=services.clock.now()), workspace=SYSTEM)
    if not done.recorded:
        raise Unauthenticated
    await call.execute(JoinNode(
        node=node, compute=caller.compute, slots=wanted.slots, facts=NodeFacts(**wanted.facts.model_dump()),
    ), workspace=workspace, part="join-node")
    services.desk.heard(workspace, node, ())
    return call.answer(Joined(node=node, workspace=workspace, compute=caller.compute, token=node_token(services.vault, workspace, node)))


ROUTES = (
    Route(method="POST", path=f"{API}/nodes/join", handler=join, summary="Join a compute with a join token", body=JoinWithToken,
          answer=Joined),
)

"""Computes, their nodes, and the tokens with which machines join."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.tokens import join_token, sha256_of
from core import computes as core_computes
from core.computes import CreateCompute, DeleteCompute, UpdateCompute, stream_of
from core.errors import Conflict, Invalid, NotFound
from core.ids import SYSTEM
from core.nodes import LoseNode
from core.users import CreateJoinToken
from foldline.wire.computes import Compute, ComputeCreate, ComputeUpdate, JoinToken, JoinTokenCreate, Node
from foldline.wire.shapes import Page
from projections import computes as rows
from projections import nodes, run_history

RESERVED_NAMES = frozenset({"local", "serverless"})


async def create(call: Call) -> Response:
    wanted = await call.body(ComputeCreate)
    if wanted.name in RESERVED_NAMES:
        raise Invalid(f"{wanted.name!r} has a meaning of its own in job files; choose another name.", field="name")
    await call.execute(CreateCompute(
        workspace=call.home, compute=wanted.name, provider=wanted.provider, min_nodes=wanted.min_instances, max_nodes=wanted.max_instances,
        idle_seconds=wanted.idle_time_before_scale_down, slots_per_node=wanted.slots_per_node, description=wanted.description,
    ))
    return await _shown(call, wanted.name)


async def listing(call: Call) -> Response:
    await call.wait("computes", "nodes")
    found = await rows.page(call.services.pool, call.home, limit=call.limit, cursor=call.cursor)
    return call.page([_of_view(view) for view in found.items], found.next)


async def show(call: Call) -> Response:
    await call.etag(stream_of(call.path["compute"]))
    return await _shown(call, call.path["compute"])


async def update(call: Call) -> Response:
    wanted, name = await call.body(ComputeUpdate), call.path["compute"]
    await call.execute(UpdateCompute(
        compute=name, min_nodes=wanted.min_instances, max_nodes=wanted.max_instances, idle_seconds=wanted.idle_time_before_scale_down,
    ), guard=stream_of(name))
    return await _shown(call, name)


async def delete(call: Call) -> Response:
    name = call.path["compute"]
    await call.wait_for_everything("run_history")
    active = await run_history.active(call.services.pool, call.home, name)
    await call.execute(DeleteCompute(compute=name, active=tuple(active)), guard=stream_of(name))
    return call.done()


async def nodes_of(call: Call) -> Response:
    name = call.path["compute"]
    await call.wait("nodes", "computes")
    if await rows.get(call.services.pool, call.home, name) is None:
        raise NotFound("compute", name)
    gone = call.flag("gone") or False
    found = await nodes.page(call.services.pool, call.home, name, gone=gone, limit=call.limit, cursor=call.cursor)
    items = [
        Node(
            id=row.node, compute=row.compute, status=row.status, slots=row.slots, runs=row.runs, reason=row.reason,
            facts=dict(row.facts), joined_at=row.joined_at,
        )
        for row in found.items
    ]
    return call.page(items, found.next)


async def forget_node(call: Call) -> Response:
    """A person says that the machine is gone: its runs are requeued or fail in the same commit."""
    node = call.path["node"]
    await call.execute(LoseNode(node=node, reason="a person said that the machine is gone (node forget)"))
    return call.done()


async def create_join_token(call: Call) -> Response:
    wanted, compute = await call.body(JoinTokenCreate), call.path["compute"]
    state = await call.services.executor.state(call.home, stream_of(compute))
    if not isinstance(state, core_computes.Cluster):
        raise NotFound("compute", compute)
    if state.provider != "joined":
        raise Conflict("Machines join computes that were made with provider `joined`; the nodes of this one are started by the server.")
    join, secret = f"j-{call.derive('join-id')[:12]}", call.derive("join-secret")
    whole = join_token(join, secret)
    expires_at = call.services.clock.now() + timedelta(seconds=wanted.expires_seconds)
    await call.execute(CreateJoinToken(
        join=join, workspace=call.home, compute=compute, sha256=sha256_of(whole), expires_at=expires_at,
    ), workspace=SYSTEM)
    return call.answer(JoinToken(token=whole, expires_at=expires_at))


async def _shown(call: Call, name: str) -> Response:
    await call.wait("computes", "nodes")
    view = await rows.get(call.services.pool, call.home, name)
    if view is None:
        raise NotFound("compute", name)
    return call.answer(_of_view(view))


def _of_view(view: rows.ComputeView) -> Compute:
    row = view.row
    return Compute(
        name=row.compute, provider=row.provider, status=view.status, min_instances=row.min_nodes, max_instances=row.max_nodes,
        idle_time_before_scale_down=row.idle_seconds, slots_per_node=row.slots_per_node, wanted=row.wanted, reason=row.reason,
        nodes=view.nodes, nodes_starting=view.starting, nodes_busy=view.busy, created_at=row.created_at, description=row.description,
    )


_ONE = f"{W}/computes/{{compute}}"
ROUTES = (
    Route(method="POST", path=f"{W}/computes", handler=create, summary="Make a cluster", body=ComputeCreate, answer=Compute, status=201),
    Route(method="GET", path=f"{W}/computes", handler=listing, summary="Computes", answer=Page[Compute], query=("limit", "cursor")),
    Route(method="GET", path=_ONE, handler=show, summary="One compute", answer=Compute),
    Route(method="PATCH", path=_ONE, handler=update, summary="Change its limits", body=ComputeUpdate, answer=Compute),
    Route(method="DELETE", path=_ONE, handler=delete, summary="Delete it; refused while runs are on it", status=204),
    Route(method="GET", path=f"{_ONE}/nodes", handler=nodes_of, summary="Its nodes", answer=Page[Node], query=("limit", "cursor", "gone")),
    Route(method="POST", path=f"{_ONE}/join-tokens", handler=create_join_token, summary="A token with which one machine joins, once",
          body=JoinTokenCreate, answer=JoinToken, status=201),
    Route(method="POST", path=f"{W}/nodes/{{node}}/forget", handler=forget_node, summary="Say that a machine is gone for good", status=204),
)

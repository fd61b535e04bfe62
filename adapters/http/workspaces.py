"""Workspaces and their members."""

from __future__ import annotations

from starlette.responses import Response

from adapters.http import positions
from adapters.http.access import API, W, find_workspace, is_workspace_id, user_named
from adapters.http.call import Call
from adapters.http.idempotency import part_of
from adapters.http.routing import Route
from core import users, workspaces
from core.computes import DeleteCompute
from core.endpoints import DeleteEndpoint
from core.errors import Invalid, NotFound, VersionConflict
from core.ids import SYSTEM, Stream, WorkspaceId
from core.ports import Context
from core.runs import CancelRun
from core.workspaces import (
    AddMember,
    CreateWorkspace,
    DeleteWorkspace,
    ReleaseWorkspaceName,
    RemoveMember,
    ReserveWorkspaceName,
    UpdateWorkspace,
)
from foldline.wire.shapes import Page
from foldline.wire.workspaces import Member, MemberPut, Workspace, WorkspaceCreate, WorkspaceUpdate
from projections import computes, endpoints, run_history
from projections import workspaces as rows

RESERVED_NAMES = frozenset({"system", "me"})


async def create(call: Call) -> Response:
    """The name is reserved in `system`, then the workspace is made; the repair at start ends what stopped in between."""
    wanted = await call.body(WorkspaceCreate)
    if wanted.name in RESERVED_NAMES or is_workspace_id(wanted.name):
        raise Invalid(f"{wanted.name!r} cannot be the name of a workspace; choose another.", field="name")
    workspace = WorkspaceId(f"ws-{call.derive('workspace-id')[:12]}")
    await call.execute(ReserveWorkspaceName(name=wanted.name, workspace=workspace), workspace=SYSTEM, part="reserve-name")
    await call.execute(CreateWorkspace(
        workspace=workspace, name=wanted.name, display_name=wanted.display_name, description=wanted.description, owner=call.user.user,
    ), workspace=workspace)
    _, state = await find_workspace(call.services, workspace)
    return call.answer(_of_state(state, call, role="owner"))


async def listing(call: Call) -> Response:
    await call.wait("workspaces")
    found = await rows.page(call.services.pool, member=call.user.user, limit=call.limit, cursor=call.cursor)
    return call.page([_of_row(row, call) for row in found.items], found.next)


async def show(call: Call) -> Response:
    await call.etag(workspaces.stream_of(call.home))
    return await _shown(call)


async def update(call: Call) -> Response:
    wanted = await call.body(WorkspaceUpdate)
    await call.execute(UpdateWorkspace(
        workspace=call.home, display_name=wanted.display_name, description=wanted.description, default_compute=wanted.default_compute,
    ), guard=workspaces.stream_of(call.home))
    return await _shown(call)


async def delete(call: Call) -> Response:
    """Refused while runs are active or endpoints exist. Its computes go first, so that no node is left; then its name is free again."""
    pool, home = call.services.pool, call.home
    await _check_version(call)
    await call.wait_for_everything("run_history", "endpoints", "computes")
    active = [f"run {run}" for run in await run_history.active(pool, home)]
    active += [f"endpoint {row.endpoint}" for row in (await endpoints.page(pool, home, limit=100)).items]
    if not active:
        await _delete_computes(call)
    await call.execute(DeleteWorkspace(workspace=home, active=tuple(active)))
    await _end_what_slipped_in(call)
    name = call.workspace_state.name if call.workspace_state else ""
    released = Context(actor=call.user.actor, command=part_of(call.command, "release-name"), correlation=call.request_id)
    await call.services.executor.execute(SYSTEM, ReleaseWorkspaceName(name=name, workspace=home), released)
    return call.done()


async def _end_what_slipped_in(call: Call) -> None:
    """Runs and endpoints made between the look and the deletion; nothing more is decided in a workspace that is gone."""
    await call.wait_for_everything("run_history", "endpoints")
    for run in await run_history.active(call.services.pool, call.home):
        await call.execute(CancelRun(run=run), part=f"cancel/{run}", closing=True)
    for row in (await endpoints.page(call.services.pool, call.home, limit=1000)).items:
        await call.execute(DeleteEndpoint(endpoint=row.endpoint), part=f"delete-endpoint/{row.endpoint}", closing=True)


async def _check_version(call: Call) -> None:
    """What If-Match says, before the first of several commits. Raises: VersionConflict."""
    stream = workspaces.stream_of(call.home)
    expected = (positions.expected_version(call.headers, stream) or {}).get(stream)
    actual = await call.services.executor.version(call.home, stream)
    if expected is not None and expected != actual:
        raise VersionConflict(stream, expected, actual)


async def _delete_computes(call: Call) -> None:
    cursor: str | None = None
    while True:
        found = await computes.page(call.services.pool, call.home, limit=1000, cursor=cursor)
        for view in found.items:
            if view.row.deleted_at is None:
                await call.execute(DeleteCompute(compute=view.row.compute), part=f"delete-compute/{view.row.compute}")
        if found.next is None:
            return
        cursor = found.next


async def members(call: Call) -> Response:
    state = call.workspace_state
    known = dict(state.members) if state else {}
    names = await call.services.people.names(known)
    return call.page([Member(user=user, name=names.get(user), role=role) for user, role in sorted(known.items())], None)


async def put_member(call: Call) -> Response:
    wanted = await call.body(MemberPut)
    user = await _person(call)
    await call.execute(AddMember(workspace=call.home, user=user, role=wanted.role), guard=workspaces.stream_of(call.home))
    names = await call.services.people.names([user])
    return call.answer(Member(user=user, name=names.get(user), role=wanted.role))


async def remove_member(call: Call) -> Response:
    user = await user_named(call.services, call.path["user"], call.user)
    if user is None:
        raise NotFound("user", call.path["user"])
    await call.execute(RemoveMember(workspace=call.home, user=user), guard=workspaces.stream_of(call.home))
    return call.done()


async def _person(call: Call) -> str:
    user = await user_named(call.services, call.path["user"], call.user)
    known = None if user is None else await call.services.executor.state(SYSTEM, Stream(f"user/{user}"))
    if user is None or not isinstance(known, users.Known):
        raise NotFound("user", call.path["user"])
    return user


async def _shown(call: Call) -> Response:
    await call.wait("workspaces")
    row = await rows.get(call.services.pool, call.home)
    if row is None:
        raise NotFound("workspace", call.path["workspace"])
    shown, state = _of_row(row, call), call.workspace_state
    if state is not None:  # what was checked to let the caller in, not what the read model has heard of
        shown.role = state.members.get(call.user.user)
    return call.answer(shown)


def _of_row(row: rows.WorkspaceRow, call: Call) -> Workspace:
    return Workspace(
        id=row.workspace, name=row.name, display_name=row.display_name, description=row.description, default_compute=row.default_compute,
        role=row.members.get(call.user.user), created_at=row.created_at, created_by=row.created_by,
    )


def _of_state(state: workspaces.Active, call: Call, role: str) -> Workspace:
    return Workspace(
        id=state.workspace, name=state.name, display_name=state.display_name, description=state.description,
        default_compute=state.default_compute, role=role, created_at=call.services.clock.now(), created_by=call.user.actor,
    )


ROUTES = (
    Route(method="POST", path=f"{API}/workspaces", handler=create, summary="Make a workspace; its maker owns it",
          body=WorkspaceCreate, answer=Workspace, status=201),
    Route(method="GET", path=f"{API}/workspaces", handler=listing, summary="Workspaces of which the caller is a member",
          answer=Page[Workspace], query=("limit", "cursor")),
    Route(method="GET", path=W, handler=show, summary="One workspace", answer=Workspace),
    Route(method="PATCH", path=W, handler=update, summary="Change its texts or its default compute", body=WorkspaceUpdate,
          answer=Workspace),
    Route(method="DELETE", path=W, handler=delete, summary="Delete it; refused while it has active runs or endpoints", status=204),
    Route(method="GET", path=f"{W}/members", handler=members, summary="Who may use it", answer=Page[Member]),
    Route(method="PUT", path=f"{W}/members/{{user}}", handler=put_member, summary="Add a member, or change the role",
          body=MemberPut, answer=Member),
    Route(method="DELETE", path=f"{W}/members/{{user}}", handler=remove_member, summary="Remove a member, at once", status=204),
)

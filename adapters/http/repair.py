"""At the start: names of workspaces that were reserved and never used, or never given back, are put right."""

from __future__ import annotations

import structlog

from adapters.http.services import Services
from core import workspaces
from core.ids import SYSTEM, ActorId, Position, Stream, WorkspaceId, derived_command, shard_of
from core.ports import Context
from core.workspaces import CreateWorkspace, ReleaseWorkspaceName
from projections import journal

PAGE_ROWS = 500
WAIT_SECONDS = 30.0

log = structlog.get_logger("foldline.http")


async def repair_workspaces(services: Services) -> int:
    """Finishes what was half made, releases the names of what is gone; returns how many it touched.

    Reads the journal, so it waits for it: call it once the read models run. Raises: Behind.
    """
    events = services.log
    shard = shard_of(SYSTEM, events.shards)
    newest = Position(events.id, shard, (await events.ends()).get(shard, 0) - 1)
    await services.progress.wait("journal", newest, workspace=SYSTEM, timeout_seconds=WAIT_SECONDS)
    touched, cursor = 0, None
    while True:
        found = await journal.page(services.pool, SYSTEM, event_type="workspace-name-reserved", limit=PAGE_ROWS, cursor=cursor)
        for row in found.items:
            touched += await _repair(services, str(row.event["name"]), WorkspaceId(str(row.event["workspace"])), ActorId(row.actor))
        if found.next is None:
            return touched
        cursor = found.next


async def _repair(services: Services, name: str, workspace: WorkspaceId, actor: ActorId) -> int:
    reserved = await services.executor.state(SYSTEM, Stream(f"name/{name}"))
    if reserved.workspace != workspace:
        return 0
    state = await services.executor.state(workspace, workspaces.stream_of(workspace))
    if isinstance(state, workspaces.Active):
        return 0
    identifier = derived_command("http/repair", f"workspace/{workspace}", 0, type(state).__name__)
    context = Context(actor=actor, command=identifier, correlation=identifier)
    kind, _, user = actor.partition("/")
    if isinstance(state, workspaces.NoWorkspace) and kind == "user":
        await services.executor.execute(workspace, CreateWorkspace(workspace=workspace, name=name, owner=user), context)
        log.info("http.workspace_finished", workspace=workspace)
    else:
        await services.executor.execute(SYSTEM, ReleaseWorkspaceName(name=name, workspace=workspace), context)
        log.info("http.workspace_name_released", workspace=workspace)
    return 1

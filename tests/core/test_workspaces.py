"""Workspaces and their names, given, when, then."""

from __future__ import annotations

from core import workspaces
from core.computes import ComputeCreated
from core.errors import AlreadyExists, Conflict, NotFound
from core.workspaces import (
    AddMember,
    CreateWorkspace,
    DeleteWorkspace,
    MemberAdded,
    MemberRemoved,
    ReleaseWorkspaceName,
    RemoveMember,
    ReserveWorkspaceName,
    UpdateWorkspace,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceNameReleased,
    WorkspaceNameReserved,
    WorkspaceUpdated,
)
from tests.core.spec import spec

W = "ws-1"
workspace = spec(workspaces, f"workspace/{W}")
name = spec(workspaces, "name/team")
created = WorkspaceCreated(workspace=W, name="team", owner="u-1")
reserved = WorkspaceNameReserved(name="team", workspace=W)
create = CreateWorkspace(workspace=W, name="team", owner="u-1")
active = workspace.given(created)


def test_a_name_belongs_to_one_workspace_until_it_is_released() -> None:
    taken = name.when(ReserveWorkspaceName(name="team", workspace=W)).then_once(reserved)
    taken.when(ReserveWorkspaceName(name="team", workspace="ws-2")).then_rejected(AlreadyExists, what="workspace", name="team")
    taken.when(ReleaseWorkspaceName(name="team", workspace="ws-2")).then_nothing()
    free = taken.when(ReleaseWorkspaceName(name="team", workspace=W)).then_once(WorkspaceNameReleased(name="team", workspace=W))
    free.when(ReserveWorkspaceName(name="team", workspace="ws-2")).then(WorkspaceNameReserved(name="team", workspace="ws-2"))


def test_whoever_makes_a_workspace_owns_it() -> None:
    after = workspace.when(create).then_once(created)
    assert after.state().members == {"u-1": "owner"}


def test_a_workspace_is_made_once() -> None:
    active.when(CreateWorkspace(workspace=W, name="other", owner="u-1")).then_rejected(AlreadyExists, name="other")
    active.given(WorkspaceDeleted(workspace=W)).when(create).then_rejected(AlreadyExists, name="team")


def test_only_what_changed_is_recorded_of_an_update() -> None:
    update = UpdateWorkspace(workspace=W, display_name="Team")
    active.when(update).then_once(WorkspaceUpdated(workspace=W, display_name="Team"))
    workspace.when(update).then_rejected(NotFound, what="workspace")


def test_a_default_compute_must_exist() -> None:
    update = UpdateWorkspace(workspace=W, default_compute="cpu")
    active.when(update).then_rejected(NotFound, what="compute", name="cpu")
    cpu = ComputeCreated(compute="cpu", min_nodes=0, max_nodes=1, idle_seconds=1)
    active.given(cpu, stream="compute/cpu").when(update).then_once(WorkspaceUpdated(workspace=W, default_compute="cpu"))


def test_adding_a_member_again_changes_the_role() -> None:
    reader = active.when(AddMember(workspace=W, user="u-2", role="reader")).then_once(MemberAdded(workspace=W, user="u-2", role="reader"))
    reader.when(AddMember(workspace=W, user="u-2", role="owner")).then_once(MemberAdded(workspace=W, user="u-2", role="owner"))


def test_a_member_is_removed_once() -> None:
    two = active.given(MemberAdded(workspace=W, user="u-2", role="owner"))
    two.when(RemoveMember(workspace=W, user="u-1")).then_once(MemberRemoved(workspace=W, user="u-1"))


def test_a_workspace_keeps_an_owner() -> None:
    active.when(RemoveMember(workspace=W, user="u-1")).then_rejected(Conflict, user="u-1")
    active.when(AddMember(workspace=W, user="u-1", role="reader")).then_rejected(Conflict, user="u-1")


def test_members_belong_to_a_workspace_that_is_there() -> None:
    workspace.when(AddMember(workspace=W, user="u-2", role="reader")).then_rejected(NotFound, what="workspace")
    workspace.when(RemoveMember(workspace=W, user="u-2")).then_rejected(NotFound, what="workspace")


def test_a_workspace_with_work_is_not_deleted() -> None:
    active.when(DeleteWorkspace(workspace=W, active=("amber",))).then_rejected(Conflict, active=["amber"])
    active.when(DeleteWorkspace(workspace=W)).then_once(WorkspaceDeleted(workspace=W))
    workspace.when(DeleteWorkspace(workspace=W)).then_rejected(NotFound, what="workspace")

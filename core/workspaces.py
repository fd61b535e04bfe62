"""A workspace: the centre that holds everything else. Stream `workspace/<id>`, in the workspace itself.

Its name is reserved in the workspace `system` first (stream `name/<name>`), so that a name means one workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from core.decider import Handler, Kind, one_stream
from core.errors import AlreadyExists, Conflict, NotFound
from core.events import Event
from core.ids import Stream

Role = Literal["reader", "contributor", "owner"]


# -- events ------------------------------------------------------------------------------------------------------------
class WorkspaceNameReserved(Event):
    """A name was taken for a workspace that is about to be made."""

    type: Literal["workspace-name-reserved"] = "workspace-name-reserved"
    name: str
    workspace: str


class WorkspaceNameReleased(Event):
    """The name is free again: its workspace was deleted, or never came to be."""

    type: Literal["workspace-name-released"] = "workspace-name-released"
    name: str
    workspace: str


class WorkspaceCreated(Event):
    """The workspace exists; whoever made it owns it."""

    type: Literal["workspace-created"] = "workspace-created"
    workspace: str
    name: str
    display_name: str | None = None
    description: str | None = None
    owner: str


class WorkspaceUpdated(Event):
    """Its texts or its default compute changed; only the fields that changed are there."""

    type: Literal["workspace-updated"] = "workspace-updated"
    workspace: str
    display_name: str | None = None
    description: str | None = None
    default_compute: str | None = None


class MemberAdded(Event):
    """A person (opaque id) may use the workspace in this role. Adding a member again changes the role."""

    type: Literal["member-added"] = "member-added"
    workspace: str
    user: str
    role: Role


class MemberRemoved(Event):
    """The person has no access any more."""

    type: Literal["member-removed"] = "member-removed"
    workspace: str
    user: str


class WorkspaceDeleted(Event):
    """The workspace is gone for everybody; its events stay."""

    type: Literal["workspace-deleted"] = "workspace-deleted"
    workspace: str


EVENTS = (WorkspaceCreated, WorkspaceUpdated, MemberAdded, MemberRemoved, WorkspaceDeleted)
NAME_EVENTS = (WorkspaceNameReserved, WorkspaceNameReleased)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoWorkspace:
    """Never made."""


@dataclass(frozen=True, slots=True)
class Active:
    workspace: str
    name: str
    display_name: str | None
    description: str | None
    default_compute: str | None
    members: dict[str, Role]


@dataclass(frozen=True, slots=True)
class Deleted:
    name: str


Workspace = NoWorkspace | Active | Deleted


@dataclass(frozen=True, slots=True)
class NameState:
    """Whom a name belongs to, or None."""

    workspace: str | None = None


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Workspace, event: Event) -> Workspace:
    match state, event:
        case NoWorkspace(), WorkspaceCreated():
            return Active(event.workspace, event.name, event.display_name, event.description, None, {event.owner: "owner"})
        case Active(), WorkspaceUpdated():
            return replace(
                state,
                display_name=event.display_name if event.display_name is not None else state.display_name,
                description=event.description if event.description is not None else state.description,
                default_compute=event.default_compute if event.default_compute is not None else state.default_compute,
            )
        case Active(), MemberAdded():
            return replace(state, members={**state.members, event.user: event.role})
        case Active(), MemberRemoved():
            return replace(state, members={user: role for user, role in state.members.items() if user != event.user})
        case Active(), WorkspaceDeleted():
            return Deleted(state.name)
        case _:
            return state


def evolve_name(state: NameState, event: Event) -> NameState:
    match event:
        case WorkspaceNameReserved():
            return NameState(event.workspace)
        case WorkspaceNameReleased():
            return NameState(None)
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWorkspaceName:
    name: str
    workspace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWorkspaceName:
    name: str
    workspace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWorkspace:
    workspace: str
    name: str
    display_name: str | None = None
    description: str | None = None
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWorkspace:
    workspace: str
    display_name: str | None = None
    description: str | None = None
    default_compute: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMember:
    workspace: str
    user: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember:
    workspace: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWorkspace:
    """`active` names what still runs or serves, as the caller saw it; the wish is refused while there is any."""

    workspace: str
    active: tuple[str, ...] = ()


# -- decide ------------------------------------------------------------------------------------------------------------
def reserve_name(state: NameState, command: ReserveWorkspaceName) -> Sequence[Event]:
    if state.workspace == command.workspace:
        return ()
    if state.workspace is not None:
        raise AlreadyExists("workspace", command.name)
    return (WorkspaceNameReserved(name=command.name, workspace=command.workspace),)


def release_name(state: NameState, command: ReleaseWorkspaceName) -> Sequence[Event]:
    if state.workspace != command.workspace:
        return ()
    return (WorkspaceNameReleased(name=command.name, workspace=command.workspace),)


def create(state: Workspace, command: CreateWorkspace) -> Sequence[Event]:
    match state:
        case NoWorkspace():
            return (WorkspaceCreated(
                workspace=command.workspace, name=command.name, display_name=command.display_name,
                description=command.description, owner=command.owner,
            ),)
        case Active():
            if state.name == command.name:
                return ()
            raise AlreadyExists("workspace", command.name)
        case Deleted():
            raise AlreadyExists("workspace", command.name)
        case _:
            assert_never(state)


def update(state: Workspace, command: UpdateWorkspace) -> Sequence[Event]:
    active = _active(state, command.workspace)
    changed = {
        field: wanted
        for field in ("display_name", "description", "default_compute")
        if (wanted := getattr(command, field)) is not None and wanted != getattr(active, field)
    }
    return (WorkspaceUpdated(workspace=command.workspace, **changed),) if changed else ()


def add_member(state: Workspace, command: AddMember) -> Sequence[Event]:
    active = _active(state, command.workspace)
    if active.members.get(command.user) == command.role:
        return ()
    if command.role != "owner":
        _keep_an_owner(active, command.user)
    return (MemberAdded(workspace=command.workspace, user=command.user, role=command.role),)


def remove_member(state: Workspace, command: RemoveMember) -> Sequence[Event]:
    active = _active(state, command.workspace)
    if command.user not in active.members:
        return ()
    _keep_an_owner(active, command.user)
    return (MemberRemoved(workspace=command.workspace, user=command.user),)


def delete(state: Workspace, command: DeleteWorkspace) -> Sequence[Event]:
    match state:
        case NoWorkspace():
            raise NotFound("workspace", command.workspace)
        case Deleted():
            return ()
        case Active():
            if command.active:
                raise Conflict(
                    f"The workspace still has work: {', '.join(command.active[:10])}. Cancel the runs and delete the endpoints first.",
                    active=list(command.active[:100]),
                )
            return (WorkspaceDeleted(workspace=command.workspace),)
        case _:
            assert_never(state)


def _active(state: Workspace, workspace: str) -> Active:
    if not isinstance(state, Active):
        raise NotFound("workspace", workspace)
    return state


def _keep_an_owner(state: Active, leaving: str) -> None:
    owners = {user for user, role in state.members.items() if role == "owner"}
    if owners == {leaving}:
        raise Conflict("A workspace keeps at least one owner; make somebody else an owner first.", user=leaving)


def stream_of(workspace: str) -> Stream:
    return Stream(f"workspace/{workspace}")


KIND = Kind("workspace", NoWorkspace(), evolve, EVENTS)
NAME_KIND = Kind("name", NameState(), evolve_name, NAME_EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(ReserveWorkspaceName, lambda c: Stream(f"name/{c.name}"), reserve_name),
    one_stream(ReleaseWorkspaceName, lambda c: Stream(f"name/{c.name}"), release_name),
    one_stream(CreateWorkspace, lambda c: stream_of(c.workspace), create),
    one_stream(AddMember, lambda c: stream_of(c.workspace), add_member),
    one_stream(RemoveMember, lambda c: stream_of(c.workspace), remove_member),
    one_stream(DeleteWorkspace, lambda c: stream_of(c.workspace), delete),
)

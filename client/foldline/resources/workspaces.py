"""Workspaces, their members and their journal."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, cast

from foldline.resources.collection import Collection, set_fields

if TYPE_CHECKING:
    from foldline.wire.jobs import Happening
    from foldline.wire.workspaces import Member, Role
    from foldline.wire.workspaces import Workspace as WorkspaceAnswer


class Workspaces(Collection):
    """The workspaces that the caller is a member of."""

    async def create(self, name: str, *, display_name: str | None = None, description: str | None = None) -> WorkspaceAnswer:
        body = set_fields(name=name, display_name=display_name, description=description)
        return cast("WorkspaceAnswer", await self._send("POST", "workspaces.Workspace", "workspaces", body=body))

    async def list(self) -> builtins.list[WorkspaceAnswer]:
        return await self._all("workspaces.Workspace", "workspaces")

    async def get(self, name: str) -> WorkspaceAnswer:
        return cast("WorkspaceAnswer", await self._get("workspaces.Workspace", "workspaces", name))

    async def update(
        self,
        name: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        default_compute: str | None = None,
    ) -> WorkspaceAnswer:
        """Changes what is given. Jobs that name no compute go to `default_compute`."""
        body = set_fields(display_name=display_name, description=description, default_compute=default_compute)
        return cast("WorkspaceAnswer", await self._send("PATCH", "workspaces.Workspace", "workspaces", name, body=body))

    async def delete(self, name: str) -> None:
        await self._do("DELETE", "workspaces", name)


class Members(Collection):
    """Who may do what in the workspace."""

    async def list(self) -> builtins.list[Member]:
        return await self._whole("workspaces.Member", "members")

    async def put(self, user: str, role: Role) -> Member:
        """Adds a member, or gives another role."""
        return cast("Member", await self._send("PUT", "workspaces.Member", "members", user, body={"role": role}))

    async def remove(self, user: str) -> None:
        await self._do("DELETE", "members", user)


class Journal(Collection):
    """What happened in the workspace: who, what, when, because of what. Newest first."""

    async def list(
        self,
        *,
        subject: str | None = None,
        type: str | None = None,  # noqa: A002 - the query's name
        actor: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> builtins.list[Happening]:
        params = set_fields(subject=subject, type=type, actor=actor, since=since, until=until)
        return await self._all("jobs.Happening", "journal", params=params, limit=limit)

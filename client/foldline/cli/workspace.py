"""`foldline workspace`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.online_endpoint import confirm
from foldline.cli.options import COMMON, Common, Name, OptionalName, Yes
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.session import note, server

app = App(name="workspace", help="Workspaces.")
COLUMNS: Columns = {
    "name": "name",
    "role": lambda w: w.get("role") or "-",
    "default compute": lambda w: w.get("default_compute") or "-",
    "id": "id",
    "created": lambda w: str(w["created_at"])[:19].replace("T", " "),
}


@app.command
async def create(name: Name, *, display_name: str | None = None, description: str | None = None, common: Common = COMMON) -> None:
    """Make a workspace, with you as its owner."""
    async with server() as client:
        made = plain(await client.workspaces.create(name, display_name=display_name, description=description))
        if wants_table(common) and not client.connection.target.workspace:
            note(f"Work in it with `foldline config set workspace={name}`.")
        show(made, common, COLUMNS)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List the workspaces that you are a member of."""
    async with server() as client:
        show(await client.workspaces.list(), common, COLUMNS)


@app.command(name="show")
async def show_(name: OptionalName = None, *, common: Common = COMMON) -> None:
    """Show a workspace, the configured one unless told."""
    async with server() as client:
        show(await client.workspaces.get(name or client.workspace(common.workspace).name), common)


@app.command
async def update(
    name: OptionalName = None,
    *,
    display_name: str | None = None,
    description: str | None = None,
    default_compute: Annotated[str | None, Parameter(help="Where jobs go that name no compute.")] = None,
    common: Common = COMMON,
) -> None:
    """Change a workspace's names or its default compute."""
    async with server() as client:
        chosen = name or client.workspace(common.workspace).name
        changed = await client.workspaces.update(
            chosen, display_name=display_name, description=description, default_compute=default_compute
        )
        show(changed, common, COLUMNS)


@app.command
async def delete(name: Name, *, yes: Yes = False, common: Common = COMMON) -> None:
    """Delete a workspace and all that it holds."""
    confirm(f"Delete workspace {name} and all that it holds?", yes=yes)
    async with server() as client:
        await client.workspaces.delete(name)
    note(f"Workspace {name} is deleted.")

"""`foldline user`: users of the installation, for administrators."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.online_endpoint import confirm
from foldline.cli.options import COMMON, Common, Flag, Yes
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.session import note, server

app = App(name="user", help="Users of the installation (administrators).")
COLUMNS: Columns = {"id": "id", "name": lambda user: user.get("name") or "-", "admin": "admin", "enabled": "enabled"}
User = Annotated[str, Parameter(name=["--user", "--name", "-n"], help="The user's name or id.")]


@app.command
async def create(user: User, *, mail: str | None = None, admin: Annotated[bool, Flag] = False, common: Common = COMMON) -> None:
    """Make a user; the first token is shown this once."""
    async with server() as client:
        made = plain(await client.users.create(user, mail=mail, admin=admin))
    if wants_table(common):
        note("The token is shown this once; its user logs in with `foldline login URL`.")
    show(made, common)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List the users."""
    async with server() as client:
        show(await client.users.list(), common, COLUMNS)


@app.command
async def disable(user: User) -> None:
    """Refuse all of a user's tokens from now on."""
    async with server() as client:
        await client.users.disable(user)
    note(f"{user} is disabled.")


@app.command
async def enable(user: User) -> None:
    """Take a disabled user back in."""
    async with server() as client:
        await client.users.enable(user)
    note(f"{user} is enabled.")


@app.command
async def delete(user: User, *, yes: Yes = False) -> None:
    """Delete a user: name and mail are erased, the log keeps an opaque id."""
    confirm(f"Delete user {user}?", yes=yes)
    async with server() as client:
        await client.users.delete(user)
    note(f"{user} is deleted.")

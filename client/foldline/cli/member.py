"""`foldline member`: roles in a workspace."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from foldline.cli.options import COMMON, Common
from foldline.cli.output import Columns, show
from foldline.cli.session import note, workspace

app = App(name="member", help="Who may do what in a workspace.")
COLUMNS: Columns = {"user": "user", "name": lambda member: member.get("name") or "-", "role": "role"}
User = Annotated[str, Parameter(name=["--user", "--name", "-n"], help="The user's name or id.")]


@app.command
async def add(user: User, *, role: Literal["reader", "contributor", "owner"], common: Common = COMMON) -> None:
    """Let a user in, or give another role."""
    async with workspace(common) as place:
        show(await place.members.put(user, role), common, COLUMNS)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List the members."""
    async with workspace(common) as place:
        show(await place.members.list(), common, COLUMNS)


@app.command
async def remove(user: User, *, common: Common = COMMON) -> None:
    """Take a user's access away."""
    async with workspace(common) as place:
        await place.members.remove(user)
    note(f"{user} is no member any more.")

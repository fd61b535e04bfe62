"""`foldline token`: tokens to log in with."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.durations import seconds_of
from foldline.cli.options import COMMON, Common
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.session import note, server

app = App(name="token", help="Tokens to log in with.")
COLUMNS: Columns = {
    "id": "id",
    "label": lambda token: token.get("label") or "-",
    "created": lambda token: str(token["created_at"])[:19].replace("T", " "),
    "expires": lambda token: str(token.get("expires_at") or "never")[:19].replace("T", " "),
}
User = Annotated[str, Parameter(name="--user", help="Whose; yourself unless you are an administrator.")]


@app.command
async def create(
    *,
    expires: Annotated[str | None, Parameter(help="How long it works, such as 12h or 30d; for ever unless told.")] = None,
    label: str | None = None,
    user: User = "me",
    common: Common = COMMON,
) -> None:
    """Make a token; it is shown this once."""
    async with server() as client:
        made = plain(await client.tokens.create(user=user, label=label, expires_seconds=seconds_of(expires) if expires else None))
    if wants_table(common):
        note("The secret is shown this once.")
    show(made, common)


@app.command(name="list")
async def list_(*, user: User = "me", common: Common = COMMON) -> None:
    """List tokens, without their secrets."""
    async with server() as client:
        show(await client.tokens.list(user=user), common, COLUMNS)


@app.command
async def revoke(token: Annotated[str, Parameter(name=["--id", "--name", "-n"], help="The token's id.")], *, user: User = "me") -> None:
    """End a token."""
    async with server() as client:
        await client.tokens.revoke(token, user=user)
    note(f"Token {token} is revoked.")

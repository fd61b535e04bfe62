"""`foldline journal`: what happened in a workspace."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from foldline.cli.job import STORY
from foldline.cli.options import COMMON, Common
from foldline.cli.output import show
from foldline.cli.session import workspace

app = App(name="journal", help="What happened in a workspace: who, what, when, because of what.")


@app.command(name="list")
async def list_(
    *,
    subject: Annotated[str | None, Parameter(help="Of what: run/NAME, model/NAME, ...")] = None,
    type_: Annotated[str | None, Parameter(name="--type", help="Only events of this type.")] = None,
    actor: Annotated[str | None, Parameter(help="By whom: user/ID, actor/ROLE, ...")] = None,
    since: Annotated[str | None, Parameter(help="From this time on (ISO 8601).")] = None,
    until: str | None = None,
    limit: Annotated[int, Parameter(name=["--max-results", "--limit"])] = 100,
    common: Common = COMMON,
) -> None:
    """List what happened, the newest first."""
    async with workspace(common) as place:
        lines = await place.journal.list(subject=subject, type=type_, actor=actor, since=since, until=until, limit=limit)
        show(lines, common, STORY)

"""`foldline experiment`: groups of runs."""

from __future__ import annotations

from cyclopts import App

from foldline.cli.options import COMMON, Common, Name
from foldline.cli.output import Columns, show
from foldline.cli.session import note, workspace

app = App(name="experiment", help="Groups of runs.")
COLUMNS: Columns = {
    "name": "name",
    "runs": "runs",
    "last run": lambda e: str(e.get("last_run_at") or "-")[:19].replace("T", " "),
    "archived": "archived",
}


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List experiments."""
    async with workspace(common) as place:
        show(await place.experiments.list(), common, COLUMNS)


@app.command
async def archive(name: Name, *, common: Common = COMMON) -> None:
    """Leave an experiment out of lists."""
    async with workspace(common) as place:
        await place.experiments.archive(name)
    note(f"Experiment {name} is archived.")


@app.command
async def restore(name: Name, *, common: Common = COMMON) -> None:
    """Bring an archived experiment back."""
    async with workspace(common) as place:
        await place.experiments.restore(name)
    note(f"Experiment {name} is back.")

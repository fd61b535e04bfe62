"""`foldline environment`: versioned environments."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from foldline.cli.options import COMMON, Common, File, Name, OptionalName, Overrides
from foldline.cli.output import Columns, show
from foldline.cli.session import warn, workspace
from foldline.problems import BadInput

app = App(name="environment", help="Versioned environments: Python packages and variables.")
COLUMNS: Columns = {
    "name": "name",
    "version": "version",
    "python": lambda e: e["python"] or "node's",
    "packages": lambda e: " ".join(e["packages"])[:60] or "-",
    "created": lambda e: str(e["created_at"])[:19].replace("T", " "),
}
Version = Annotated[str | None, Parameter(name=["--version", "-v"])]


@app.command
async def create(file: File, *, set_: Overrides = (), name: OptionalName = None, version: Version = None, common: Common = COMMON) -> None:
    """Register a version from an environment YAML; the same content again is the same version."""
    from foldline.jobfile.document import read_file
    from foldline.jobfile.overrides import apply
    from foldline.jobfile.resources import environment_file

    head, content = environment_file(apply(read_file(file), set_), file.resolve().parent)
    warn(content.warnings)
    chosen = name or head.get("name")
    if not chosen:
        raise BadInput("An environment needs --name, or a file with `name`.", code="usage")
    spec = {key: value for key, value in content.body.items() if key != "name"}
    async with workspace(common) as place:
        made = await place.environments.create(chosen, spec, version=version or head.get("version"), description=head.get("description"))
        show(made, common)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List environments."""
    async with workspace(common) as place:
        show(await place.environments.list(), common, COLUMNS)


@app.command(name="show")
async def show_(name: Name, *, version: Version = None, common: Common = COMMON) -> None:
    """Show a version, the latest unless told."""
    async with workspace(common) as place:
        show(await place.environments.get(name, version), common)

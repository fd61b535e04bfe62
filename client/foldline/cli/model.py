"""`foldline model`: the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.options import COMMON, Common, Name, OptionalFile, OptionalName, Overrides, Tags, pairs
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.progress import bar
from foldline.cli.session import note, workspace
from foldline.problems import BadInput

app = App(name="model", help="Register, tag, download and delete models.")
MODELS: Columns = {
    "name": "name",
    "latest": "latest_version",
    "versions": "versions",
    "tags": lambda model: _tags(model),
    "updated": lambda model: str(model["updated_at"])[:19].replace("T", " "),
}
VERSIONS: Columns = {
    "name": "name",
    "version": "version",
    "files": "files",
    "bytes": "bytes",
    "run": lambda model: model.get("source_run") or "-",
    "tags": lambda model: _tags(model),
    "deployed": lambda model: ", ".join(model.get("deployments") or []) or "-",
}
Version = Annotated[str, Parameter(name=["--version", "-v"], help="A number, or latest.")]


def _tags(model: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in (model.get("tags") or {}).items()) or "-"


@app.command
async def create(
    *,
    file: OptionalFile = None,
    set_: Overrides = (),
    name: OptionalName = None,
    path: Annotated[str | None, Parameter(name=["--path", "-p"])] = None,
    run: Annotated[
        str | None, Parameter(name=["--run", "--job-name"], help="The run that made it; --path is then a path of its files.")
    ] = None,
    version: Annotated[int | None, Parameter(name=["--version", "-v"])] = None,
    type_: Annotated[str | None, Parameter(name=["--type", "-t"])] = None,
    description: str | None = None,
    tag: Tags = (),
    common: Common = COMMON,
) -> None:
    """Register a model from a local path, from a run's files, or from a YAML file; a known name gets its next version."""
    from foldline.jobfile import resources
    from foldline.jobfile.document import Place, read_file
    from foldline.jobfile.overrides import apply

    fields = resources.model(apply(read_file(file), set_), file.resolve().parent) if file is not None else {}
    if run is not None:
        fields |= {"run": run, "run_path": path}
        fields.pop("path", None)
    elif path is not None:
        for key in ("run", "run_path", "path"):
            fields.pop(key, None)
        fields |= resources.model_source(path, Path.cwd(), Place("--path"))
    given = {"name": name, "version": version, "type": type_, "description": description}
    fields |= {key: value for key, value in given.items() if value is not None}
    fields["tags"] = {**fields.get("tags", {}), **pairs(tag)}
    if "name" not in fields:
        raise BadInput("A model needs --name, or a file with `name`.", code="usage")
    async with workspace(common) as place:
        with bar("Uploading model") as progress:
            made = plain(await place.models.register(**fields, progress=progress))
    if wants_table(common):
        note(f"Model {made['name']} version {made['version']}: {made['files']} files, {made['bytes']} bytes.")
    show(made, common, VERSIONS)


@app.command(name="list")
async def list_(*, name: OptionalName = None, tag: Tags = (), common: Common = COMMON) -> None:
    """List models; with --name that model's versions. --tag KEY=VALUE narrows."""
    async with workspace(common) as place:
        if name is not None:
            show(await place.models.versions(name, tags=pairs(tag)), common, VERSIONS)
        else:
            show(await place.models.list(tags=pairs(tag)), common, MODELS)


@app.command(name="show")
async def show_(name: Name, *, version: Version = "latest", common: Common = COMMON) -> None:
    """Show a version of a model, the latest unless told."""
    async with workspace(common) as place:
        show(await place.models.get(name, version), common)


@app.command
async def update(
    name: Name,
    *,
    version: Version = "latest",
    description: str | None = None,
    tag: Tags = (),
    remove_tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    common: Common = COMMON,
) -> None:
    """Change a version's description or tags."""
    change: dict[str, Any] = {"tags_set": pairs(tag), "tags_removed": list(remove_tag)}
    if description is not None:
        change["description"] = description
    async with workspace(common) as place:
        number = plain(await place.models.get(name, version))["version"]
        show(await place.models.update(name, number, change), common)


@app.command
async def download(
    name: Name,
    *,
    version: Version = "latest",
    download_path: Annotated[Path | None, Parameter(name=["--download-path", "-p"])] = None,
    common: Common = COMMON,
) -> None:
    """Download all files of a version, each checked by its hash."""
    target = download_path or Path(name)
    async with workspace(common) as place:
        with bar("Downloading") as progress:
            files = await place.models.download(name, version, target, progress=progress)
    note(f"{len(files)} files downloaded to {target}.")


@app.command
async def delete(name: Name, *, version: Annotated[int, Parameter(name=["--version", "-v"])], common: Common = COMMON) -> None:
    """Delete a version; refused, with the deployments, while one uses it."""
    async with workspace(common) as place:
        await place.models.delete(name, version)
    note(f"Model {name} version {version} is deleted.")

"""`foldline compute`: clusters of nodes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.options import COMMON, Common, Name, OptionalFile, OptionalName, Overrides
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.session import note, warn, workspace
from foldline.problems import BadInput

app = App(name="compute", help="Computes and their nodes.")
COMPUTES: Columns = {
    "name": "name",
    "provider": "provider",
    "status": "status",
    "min": "min_instances",
    "max": "max_instances",
    "wanted": "wanted",
    "nodes": "nodes",
    "busy": "nodes_busy",
    "why": lambda compute: compute.get("reason") or "-",
}
NODES: Columns = {
    "id": "id",
    "status": "status",
    "slots": "slots",
    "runs": lambda node: " ".join(node["runs"]) or "-",
    "why": lambda node: node.get("reason") or "-",
}
Minimum = Annotated[int | None, Parameter(name="--min-instances")]
Maximum = Annotated[int | None, Parameter(name="--max-instances")]
Idle = Annotated[float | None, Parameter(name="--idle-time-before-scale-down", help="Seconds.")]


@app.command
async def create(
    name: OptionalName = None,
    *,
    file: OptionalFile = None,
    set_: Overrides = (),
    min_instances: Minimum = None,
    max_instances: Maximum = None,
    idle_time_before_scale_down: Idle = None,
    slots_per_node: int | None = None,
    provider: Literal["local", "joined"] | None = None,
    type_: Annotated[str | None, Parameter(name=["--type", "-t"])] = None,
    description: str | None = None,
    common: Common = COMMON,
) -> None:
    """Make a cluster of nodes. Provider local: processes of the server's machine; joined: machines that you let in with a join token."""
    from foldline.jobfile.document import from_python, read_file
    from foldline.jobfile.overrides import apply
    from foldline.jobfile.resources import compute

    document = read_file(file) if file is not None else from_python({}, "compute")
    fields, warnings = compute(apply(document, set_))
    if type_ not in (None, "amlcompute", "AmlCompute"):
        fields, warnings = compute(from_python({"type": type_}, "--type"))
    warn(warnings)
    given: dict[str, Any] = {
        "name": name,
        "min_instances": min_instances,
        "max_instances": max_instances,
        "slots_per_node": slots_per_node,
        "provider": provider,
        "idle_time_before_scale_down": idle_time_before_scale_down,
        "description": description,
    }
    fields |= {key: value for key, value in given.items() if value is not None}
    if "name" not in fields:
        raise BadInput("A compute needs --name, or a file with `name`.", code="usage")
    async with workspace(common) as place:
        made = plain(await place.computes.create(**fields))
    if wants_table(common):
        note(f"Compute {made['name']}: {made['min_instances']} to {made['max_instances']} nodes.")
    show(made, common, COMPUTES)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List computes."""
    async with workspace(common) as place:
        show(await place.computes.list(), common, COMPUTES)


@app.command(name="show")
async def show_(name: Name, *, common: Common = COMMON) -> None:
    """Show a compute: how many nodes it wants, and why."""
    async with workspace(common) as place:
        show(await place.computes.get(name), common)


@app.command
async def update(
    name: Name,
    *,
    min_instances: Minimum = None,
    max_instances: Maximum = None,
    idle_time_before_scale_down: Idle = None,
    common: Common = COMMON,
) -> None:
    """Change a compute's limits."""
    given = {"min_instances": min_instances, "max_instances": max_instances, "idle_time_before_scale_down": idle_time_before_scale_down}
    async with workspace(common) as place:
        show(await place.computes.update(name, {key: value for key, value in given.items() if value is not None}), common)


@app.command
async def delete(name: Name, *, common: Common = COMMON) -> None:
    """Delete a compute; its nodes are let go."""
    async with workspace(common) as place:
        await place.computes.delete(name)
    note(f"Compute {name} is deleted.")


@app.command(alias="list-nodes")
async def nodes(name: Name, *, common: Common = COMMON) -> None:
    """List a compute's nodes."""
    async with workspace(common) as place:
        show(await place.computes.nodes(name), common, NODES)


@app.command(name="join-token")
async def join_token(
    name: Name, *, expires: Annotated[str, Parameter(help="How long it may be used, such as 30m, 2h, 1d.")] = "1h", common: Common = COMMON
) -> None:
    """Make a token with which one machine joins the compute, once; it is shown this once."""
    from foldline.cli.durations import seconds_of

    async with workspace(common) as place:
        made = plain(await place.computes.join_token(name, expires_seconds=seconds_of(expires)))
        url = place.client.connection.target.url
    if wants_table(common):
        note(f"On the machine: foldline node join {url} --token TOKEN   (usable once, until {made['expires_at']})")
    show(made, common, {"token": "token"})

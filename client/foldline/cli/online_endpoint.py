"""`foldline online-endpoint`: real-time endpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.options import COMMON, Common, Name, NoWait, OptionalFile, OptionalName, Overrides, Tags, Yes, pairs
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.session import note, workspace
from foldline.problems import BadInput

app = App(name="online-endpoint", help="Real-time endpoints: traffic, keys, scoring.")


def _traffic(endpoint: dict[str, Any]) -> str:
    return " ".join(f"{name}={share}" for name, share in endpoint["traffic"].items()) or "-"


ENDPOINTS: Columns = {
    "name": "name",
    "state": "provisioning_state",
    "traffic": _traffic,
    "deployments": lambda e: " ".join(d["name"] for d in e["deployments"]) or "-",
    "address": "scoring_uri",
}


@app.command
async def create(
    name: OptionalName = None,
    *,
    file: OptionalFile = None,
    set_: Overrides = (),
    auth_mode: str | None = None,
    description: str | None = None,
    tag: Tags = (),
    no_wait: NoWait = False,
    common: Common = COMMON,
) -> None:
    """Make an endpoint."""
    from foldline.jobfile.document import from_python, read_file
    from foldline.jobfile.overrides import apply
    from foldline.jobfile.resources import endpoint

    document = read_file(file) if file is not None else from_python({"auth_mode": auth_mode}, "--auth-mode")
    fields = endpoint(apply(document, set_))
    fields.pop("traffic", None)
    fields |= {key: value for key, value in (("name", name), ("description", description)) if value is not None}
    fields["tags"] = {**fields.get("tags", {}), **pairs(tag)}
    if "name" not in fields:
        raise BadInput("An endpoint needs --name, or a file with `name`.", code="usage")
    async with workspace(common) as place:
        made = plain(await place.online_endpoints.create(**fields))
    if wants_table(common):
        note(f"Endpoint {made['name']}: {made['scoring_uri']}")
    show(made, common, ENDPOINTS)


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List endpoints."""
    async with workspace(common) as place:
        show(await place.online_endpoints.list(), common, ENDPOINTS)


@app.command(name="show")
async def show_(name: Name, *, common: Common = COMMON) -> None:
    """Show an endpoint and its deployments."""
    async with workspace(common) as place:
        show(await place.online_endpoints.get(name), common)


@app.command
async def update(
    name: Name,
    *,
    traffic: Annotated[tuple[str, ...], Parameter(negative="", help='DEPLOYMENT=PERCENT; several as "blue=90 green=10".')] = (),
    common: Common = COMMON,
) -> None:
    """Share the traffic out between deployments."""
    shares = pairs(tuple(part for text in traffic for part in text.replace(",", " ").split()), "--traffic")
    if not shares or not all(share.isdecimal() for share in shares.values()):
        raise BadInput('--traffic must look like "blue=90 green=10".', code="usage")
    async with workspace(common) as place:
        show(await place.online_endpoints.update(name, traffic={key: int(share) for key, share in shares.items()}), common, ENDPOINTS)


@app.command
async def delete(name: Name, *, yes: Yes = False, no_wait: NoWait = False, common: Common = COMMON) -> None:
    """Delete an endpoint with its deployments and keys."""
    confirm(f"Delete endpoint {name} with all its deployments?", yes=yes)
    async with workspace(common) as place:
        await place.online_endpoints.delete(name)
    note(f"Endpoint {name} is deleted.")


@app.command
async def invoke(
    name: Name,
    *,
    request_file: Annotated[
        Path, Parameter(name=["--request-file", "-r"], allow_leading_hyphen=True, help="The request's body; - is standard input.")
    ],
    deployment_name: Annotated[str | None, Parameter(name=["--deployment-name", "-d"])] = None,
    common: Common = COMMON,
) -> None:
    """Score a file's content at the endpoint, with its key."""
    try:
        data = sys.stdin.buffer.read() if str(request_file) == "-" else request_file.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {request_file}.", code="no_file") from None
    async with workspace(common) as place:
        answer = await place.online_endpoints.invoke(name, data, deployment=deployment_name)
    try:
        parsed = json.loads(answer)
    except ValueError:
        sys.stdout.buffer.write(answer + b"\n")
        return
    if common.query or common.output not in (None, "table"):
        show(parsed, common)
    else:
        sys.stdout.write(json.dumps(parsed, ensure_ascii=False) + "\n")


@app.command(name="get-credentials")
async def get_credentials(name: Name, *, common: Common = COMMON) -> None:
    """Show the endpoint's keys."""
    async with workspace(common) as place:
        show(await place.online_endpoints.keys(name), common)


@app.command(name="regenerate-keys")
async def regenerate_keys(
    name: Name,
    *,
    key_type: Annotated[Literal["primary", "secondary"], Parameter(name="--key-type")] = "primary",
    common: Common = COMMON,
) -> None:
    """Make a new key; the old one stops working."""
    async with workspace(common) as place:
        show(await place.online_endpoints.regenerate_key(name, key_type), common)


def confirm(question: str, *, yes: bool) -> None:
    """Asks a person; scripts (no terminal) are taken at their word. Raises: BadInput when the answer is no."""
    if yes or not sys.stdin.isatty():
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("Nothing was done.", code="declined")

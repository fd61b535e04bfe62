"""`foldline online-deployment`: deployments behind an endpoint."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.online_endpoint import confirm
from foldline.cli.options import COMMON, Common, File, Flag, Name, NoWait, OptionalName, Overrides, Yes
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.progress import bar
from foldline.cli.session import note, warn, workspace

if TYPE_CHECKING:
    from foldline.client import Workspace
    from foldline.jobfile.deployment import DeploymentPlan

app = App(name="online-deployment", help="Deployments of models behind endpoints.")
DEPLOYMENTS: Columns = {
    "name": "name",
    "endpoint": "endpoint",
    "state": "provisioning_state",
    "revision": "revision",
    "model": lambda d: f"{d['model']}:{d['model_version']}",
    "replicas": lambda d: f"{d['replicas_ready']}/{d['instance_count']}",
    "message": lambda d: d.get("message") or "-",
}
Endpoint = Annotated[str, Parameter(name=["--endpoint-name", "--endpoint", "-e"], help="The endpoint.")]
OptionalEndpoint = Annotated[str | None, Parameter(name=["--endpoint-name", "--endpoint", "-e"], help="The endpoint.")]
AllTraffic = Annotated[bool, Parameter(name="--all-traffic", negative="", help="Give it all of the endpoint's traffic once it is ready.")]


@app.command
async def create(
    file: File,
    *,
    set_: Overrides = (),
    name: OptionalName = None,
    endpoint: OptionalEndpoint = None,
    all_traffic: AllTraffic = False,
    new_only: Annotated[bool, Flag] = False,
    no_wait: NoWait = False,
    common: Common = COMMON,
) -> int:
    """Deploy a model from a YAML file; a deployment of that name is rolled to a next revision (--new-only refuses that)."""
    plan = await asyncio.to_thread(_plan, file, set_, name, endpoint)
    return await _put(plan, all_traffic=all_traffic, create_only=new_only, no_wait=no_wait, common=common)


@app.command
async def update(
    file: File,
    *,
    set_: Overrides = (),
    name: OptionalName = None,
    endpoint: OptionalEndpoint = None,
    no_wait: NoWait = False,
    common: Common = COMMON,
) -> int:
    """Roll a deployment to the next revision, without a failed request."""
    plan = await asyncio.to_thread(_plan, file, set_, name, endpoint)
    async with workspace(common) as place:
        await place.online_deployments.get(plan.endpoint, plan.name)
    return await _put(plan, all_traffic=False, create_only=False, no_wait=no_wait, common=common)


@app.command(name="show")
async def show_(name: Name, *, endpoint: Endpoint, common: Common = COMMON) -> None:
    """Show a deployment."""
    async with workspace(common) as place:
        show(await place.online_deployments.get(endpoint, name), common)


@app.command(name="list")
async def list_(*, endpoint: Endpoint, common: Common = COMMON) -> None:
    """List an endpoint's deployments."""
    async with workspace(common) as place:
        show(await place.online_deployments.list(endpoint), common, DEPLOYMENTS)


@app.command
async def delete(name: Name, *, endpoint: Endpoint, yes: Yes = False, no_wait: NoWait = False, common: Common = COMMON) -> None:
    """Delete a deployment; its requests are answered to the end first."""
    confirm(f"Delete deployment {name} of endpoint {endpoint}?", yes=yes)
    async with workspace(common) as place:
        await place.online_deployments.delete(endpoint, name)
    note(f"Deployment {name} of endpoint {endpoint} is deleted.")


@app.command(name="get-logs")
async def get_logs(
    name: Name,
    *,
    endpoint: Endpoint,
    lines: Annotated[int, Parameter(name=["--lines", "-l"])] = 100,
    common: Common = COMMON,
) -> None:
    """Print the last lines that the deployment's workers wrote."""
    async with workspace(common) as place:
        found = await place.online_deployments.logs(endpoint, name, lines=lines)
    if wants_table(common):
        sys.stdout.write("".join(line.rstrip("\n") + "\n" for line in found))
    else:
        show(found, common)


def _plan(file: Any, set_: tuple[str, ...], name: str | None, endpoint: str | None) -> DeploymentPlan:
    from foldline.jobfile import deployment
    from foldline.jobfile.document import read_file
    from foldline.jobfile.overrides import apply

    return deployment.plan(apply(read_file(file), set_), file.resolve().parent, name=name, endpoint=endpoint)


async def _put(plan: DeploymentPlan, *, all_traffic: bool, create_only: bool, no_wait: bool, common: Common) -> int:
    warn(plan.warnings)
    async with workspace(common) as place:
        with bar("Uploading scoring code") as progress:
            made = await place.online_deployments.put(plan, all_traffic=all_traffic, create_only=create_only, progress=progress)
        if not no_wait:
            made = await _wait(place, plan)
        show(made, common, DEPLOYMENTS)
    deployment = plain(made)
    if deployment["provisioning_state"] != "failed":
        return 0
    for line in deployment.get("log_tail") or []:
        note(f"    {line}")
    note(f"foldline: deployment {plan.name} failed: {deployment.get('message') or 'see its log with get-logs'} [deployment_failed]")
    return 1


async def _wait(place: Workspace, plan: DeploymentPlan) -> Any:
    """Waits until the deployment is ready, and says what it waits for."""
    began, last = time.monotonic(), ""

    def tell(deployment: Any) -> None:
        nonlocal last
        state = plain(deployment)
        ready = f"{state['replicas_ready']} of {state['instance_count']} replicas ready"
        line = f"{state['provisioning_state']}: {ready} (revision {state['revision']})"
        if line != last:
            last = line
            note(f"{time.monotonic() - began:6.1f} s  {plan.endpoint}/{plan.name} {line}")

    try:
        return await place.online_deployments.wait(plan.endpoint, plan.name, tell)
    except asyncio.CancelledError:
        note(f"\nNo longer waiting; the deployment goes on. `foldline online-deployment show {plan.name} -e {plan.endpoint}` tells how.")
        raise

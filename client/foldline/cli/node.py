"""`foldline node`: machines of your own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.options import COMMON, Common, Name
from foldline.cli.output import Columns, show
from foldline.cli.session import note, workspace
from foldline.problems import NotAllowed

app = App(name="node", help="Let a machine of yours join a compute, or forget one that is gone.")
NODES: Columns = {
    "id": "id",
    "compute": "compute",
    "status": "status",
    "slots": "slots",
    "runs": lambda node: " ".join(node["runs"]) or "-",
    "why": lambda node: node.get("reason") or "-",
}


@app.command
def join(
    url: str,
    *,
    token: Annotated[str | None, Parameter(help="The join token; better give it by --token-file or on standard input.")] = None,
    token_file: Annotated[Path | None, Parameter(allow_leading_hyphen=True, help="A file that holds it; - is standard input.")] = None,
    ca_file: Annotated[Path | None, Parameter(help="The authority of the server's certificate.")] = None,
    directory: Annotated[Path | None, Parameter(help="Where runs, environments and the node's own token lie.")] = None,
    slots: Annotated[int, Parameter(help="How many runs at once.")] = 1,
    python: Annotated[str | None, Parameter(help="The interpreter of runs; else this machine's own.")] = None,
) -> int:
    """Let this machine join a compute, with a token of `foldline compute join-token`; runs the node agent until it is stopped.

    A machine that has joined goes on without a token.
    """
    from foldline.cli.login import read_token
    from foldline.configuration import normal_url
    from foldline.node import main

    folder = directory or _directory()
    joined = (folder / "agent.json").exists() and token is None and token_file is None
    secret = "" if joined else read_token(token, token_file, prompt="Join token: ")
    authority = str(ca_file.resolve()) if ca_file is not None else None
    try:
        return main.join(normal_url(url), secret, folder, slots=slots, ca_file=authority, python=python)
    except main.JoinFailed as error:
        raise NotAllowed(str(error), code="join_failed") from None


def _directory() -> Path:
    """Where runs can be: below /var/lib for root, whose home is closed to them."""
    return Path("/var/lib/foldline-node") if os.geteuid() == 0 else Path.home() / ".local" / "share" / "foldline-node"


@app.command(name="list")
async def list_(*, common: Common = COMMON) -> None:
    """List the nodes of all computes."""
    async with workspace(common) as place:
        nodes = [node for compute in plain(await place.computes.list()) for node in await place.computes.nodes(compute["name"])]
        show(nodes, common, NODES)


@app.command
async def forget(name: Name, *, common: Common = COMMON) -> None:
    """Say that a machine is gone for good: what ran there ends as failed, node_lost."""
    async with workspace(common) as place:
        await place.computes.forget_node(name)
    note(f"Node {name} is forgotten.")

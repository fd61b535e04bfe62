"""`connect`: the way in. Async first.

async with foldline.connect() as workspace:
    run = await workspace.jobs.submit("job.yml")
    async for line in run.logs():
        print(line)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Self, cast

from foldline.answers import Decoder, typed
from foldline.configuration import Target, resolve
from foldline.connection import Connection
from foldline.positions import Positions
from foldline.problems import BadInput
from foldline.resources.computes import Computes
from foldline.resources.endpoints import OnlineDeployments, OnlineEndpoints
from foldline.resources.environments import Environments, Experiments
from foldline.resources.models import Models
from foldline.resources.people import Tokens, Users
from foldline.resources.runs import Jobs
from foldline.resources.workspaces import Journal, Members, Workspaces

if TYPE_CHECKING:
    from foldline.wire.workspaces import Me
    from foldline.wire.workspaces import Workspace as WorkspaceAnswer


class Client:
    """One server. `client.workspace(name)` gives a workspace; the rest of it lies outside workspaces."""

    def __init__(
        self, target: Target, *, positions: Positions | None = None, decode: Decoder = typed, patience_seconds: float = 20.0
    ) -> None:
        self.connection = Connection(target, positions=positions, decode=decode, patience_seconds=patience_seconds)
        self.workspaces = Workspaces(self.connection)
        self.users = Users(self.connection)
        self.tokens = Tokens(self.connection)

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.connection.__aexit__(*exc)

    async def me(self) -> Me:
        """Who the token belongs to."""
        return cast("Me", self.connection.decode("workspaces.Me", await self.connection.call("GET", "me")))

    def workspace(self, name: str | None = None) -> Workspace:
        """A workspace by name or id. Raises: BadInput when none is named and none is configured."""
        chosen = name or self.connection.target.workspace
        if not chosen:
            sentence = (
                "No workspace is named: pass --workspace NAME, or run `foldline config set workspace=NAME`, or set FOLDLINE_WORKSPACE."
            )
            raise BadInput(sentence, code="no_workspace")
        return Workspace(self, chosen)


class Workspace:
    """One workspace, and all that it holds."""

    def __init__(self, client: Client, name: str) -> None:
        connection = client.connection
        self.client = client
        self.name = name
        self.jobs = Jobs(connection, name)
        self.models = Models(connection, name)
        self.computes = Computes(connection, "workspaces", name)
        self.environments = Environments(connection, "workspaces", name)
        self.experiments = Experiments(connection, "workspaces", name)
        self.online_endpoints = OnlineEndpoints(connection, "workspaces", name)
        self.online_deployments = OnlineDeployments(connection, name)
        self.members = Members(connection, "workspaces", name)
        self.journal = Journal(connection, "workspaces", name)

    async def get(self) -> WorkspaceAnswer:
        """What the server says of it."""
        return await self.client.workspaces.get(self.name)


def connect(url: str | None = None, workspace: str | None = None, token: str | None = None) -> AbstractAsyncContextManager[Workspace]:
    """Opens a workspace; what is not given comes from FOLDLINE_URL, FOLDLINE_WORKSPACE, FOLDLINE_TOKEN, then from `foldline login`.

    Raises: BadInput when no server or no workspace is known.
    """
    return _connected(resolve(url, workspace, token))


@asynccontextmanager
async def _connected(target: Target) -> AsyncIterator[Workspace]:
    async with Client(target) as client:
        yield client.workspace()

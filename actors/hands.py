"""The hands of the roles that reach outside: each call is made once, by port, with the shard's epoch. Nothing here decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from actors.deployer import ApplyRoutes, ReplicasListed, RoutesApplied, StartReplica, StopReplica, WantedRoute
from actors.desk import Desk
from actors.node import Listed, NodeStarted, NodeStopped, StartNode, StopNode
from actors.role import Call, Look
from actors.watchdog import SignsOfLife
from core.ids import WorkspaceId
from core.ports import Backend, Clock, Gateway, NodeOrder, Nodes, ReplicaOrder, ReplicaStatus, Route, Serving, Vault


class NodeHands:
    """Starts and stops nodes. `token_of(workspace, node)` makes the node's own token."""

    def __init__(self, nodes: Nodes, clock: Clock, token_of: Callable[[WorkspaceId, str], str], *, look_seconds: float = 2.0) -> None:
        self.look_seconds = look_seconds
        self._nodes, self._clock, self._token_of = nodes, clock, token_of

    async def look(self) -> Look:
        at, found = self._clock.now(), dict[WorkspaceId, set[str]]()
        for workspace, node in await self._nodes.list():
            found.setdefault(workspace, set()).add(node)
        return Look({workspace: Listed(frozenset(nodes), at) for workspace, nodes in found.items()}, Listed(frozenset(), at))

    async def changed(self) -> None:
        await asyncio.Event().wait()

    def foresee(self, wishes: Sequence[tuple[WorkspaceId, Call]]) -> None:
        return

    async def perform(self, workspace: WorkspaceId, action: object, epoch: int) -> Sequence[object]:
        match action:
            case StartNode(node, compute, slots):
                order = NodeOrder(workspace=workspace, compute=compute, node=node, epoch=epoch, settings={"slots": str(slots)})
                await self._nodes.start(order, self._token_of(workspace, node))
                return (NodeStarted(node, self._clock.now()),)
            case StopNode(node):
                await self._nodes.stop(workspace, node, epoch)
                return (NodeStopped(node),)
            case _:
                raise TypeError(action)


class WatchdogHands:
    """Reads the desk's signs of life."""

    def __init__(self, desk: Desk, clock: Clock, *, lease_seconds: float) -> None:
        self.look_seconds = min(1.0, lease_seconds / 8)
        self._desk, self._clock = desk, clock

    async def look(self) -> Look:
        at = self._clock.now()
        signs = {
            workspace: SignsOfLife(
                frozenset(one.node for one in heard),
                frozenset((attempt.run, attempt.attempt) for one in heard for attempt in one.attempts),
                at,
            )
            for workspace, heard in self._desk.take_heard().items()
        }
        return Look(signs, SignsOfLife(frozenset(), frozenset(), at))

    async def changed(self) -> None:
        await asyncio.Event().wait()

    def foresee(self, wishes: Sequence[tuple[WorkspaceId, Call]]) -> None:
        return

    async def perform(self, workspace: WorkspaceId, action: object, epoch: int) -> Sequence[object]:
        raise TypeError(action)


class DeployerHands:
    """Starts and stops replicas, and gives the gateway the routes of all workspaces of this server, with their keys."""

    def __init__(self, serving: Serving, gateway: Gateway, vault: Vault, *, look_seconds: float = 1.0) -> None:
        self.look_seconds = look_seconds
        self._serving, self._gateway, self._vault = serving, gateway, vault
        self._wanted: dict[WorkspaceId, tuple[WantedRoute, ...]] = {}
        self._keys: dict[tuple[WorkspaceId, str], str] = {}
        self._one_at_a_time = asyncio.Lock()
        self._applied: list[Route] | None = None

    async def look(self) -> Look:
        found: dict[WorkspaceId, list[ReplicaStatus]] = {}
        for status in await self._serving.list():
            found.setdefault(status.workspace, []).append(status)
        by_workspace = {workspace: ReplicasListed(tuple(replicas)) for workspace, replicas in found.items()}
        return Look(by_workspace, ReplicasListed(()))

    async def changed(self) -> None:
        await self._serving.changed()

    def foresee(self, wishes: Sequence[tuple[WorkspaceId, Call]]) -> None:
        """The gateway gets all routes at once: those of a workspace never go out without the others that are known by now."""
        self._wanted.update((workspace, call.action.routes) for workspace, call in wishes if isinstance(call.action, ApplyRoutes))

    async def perform(self, workspace: WorkspaceId, action: object, epoch: int) -> Sequence[object]:
        match action:
            case StartReplica():
                await self._serving.start(_order(workspace, action, epoch))
                return ()
            case StopReplica(replica, drain_seconds):
                await self._serving.stop(workspace, replica, epoch, drain_seconds)
                return ()
            case ApplyRoutes(routes):
                self._wanted[workspace] = routes
                async with self._one_at_a_time:
                    await self._apply()
                return (RoutesApplied(routes),)
            case _:
                raise TypeError(action)

    async def _apply(self) -> None:
        routes = [await self._resolve(workspace, route) for workspace, wanted in self._wanted.items() for route in wanted]
        if routes != self._applied:
            self._applied = None
            await self._gateway.apply(routes)
            self._applied = routes

    async def _resolve(self, workspace: WorkspaceId, route: WantedRoute) -> Route:
        keys = [await self._key(workspace, reference) for reference in route.key_references]
        return Route(
            workspace=workspace, workspace_name=route.workspace_name, endpoint=route.endpoint,
            keys=tuple(key for key in keys if key is not None), timeout_seconds=route.timeout_seconds,
            backends=tuple(Backend(deployment=one.deployment, weight=one.weight, addresses=one.addresses) for one in route.backends),
        )

    async def _key(self, workspace: WorkspaceId, reference: str) -> str | None:
        """A key by its reference, which always means the same key. None when the vault has none: then nobody has it."""
        known = self._keys.get((workspace, reference))
        if known is None:
            secret = await self._vault.get(workspace, reference)
            if secret is None:
                return None
            known = self._keys[workspace, reference] = secret.decode()
        return known


def _order(workspace: WorkspaceId, wanted: StartReplica, epoch: int) -> ReplicaOrder:
    spec = wanted.spec
    return ReplicaOrder(
        workspace=workspace, endpoint=wanted.endpoint, deployment=wanted.deployment, revision=wanted.revision, replica=wanted.replica,
        epoch=epoch, model=spec.model, model_version=spec.model_version, model_manifest=spec.model_manifest, code_manifest=spec.code,
        scoring_script=spec.scoring_script, environment_key=spec.environment.key, python=spec.environment.python,
        packages=spec.environment.packages, environment_variables={**spec.environment.variables, **spec.environment_variables},
        settings={
            "request_timeout_ms": str(spec.request_timeout_ms),
            "max_concurrent_requests_per_instance": str(spec.max_concurrent_requests_per_instance),
        },
    )

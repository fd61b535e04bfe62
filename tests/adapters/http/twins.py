"""In-memory twins of the ports behind which other processes run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.ids import WorkspaceId
from core.ports import ReplicaOrder, ReplicaStatus, Route


class MemoryServing:
    """Implements core.ports.Serving without processes."""

    def __init__(self) -> None:
        self.orders: dict[tuple[WorkspaceId, str], ReplicaOrder] = {}
        self._changed = asyncio.Event()

    async def start(self, order: ReplicaOrder) -> None:
        self.orders[order.workspace, order.replica] = order
        self._changed.set()

    async def stop(self, workspace: WorkspaceId, replica: str, epoch: int, drain_seconds: float) -> None:
        self.orders.pop((workspace, replica), None)
        self._changed.set()

    async def list(self) -> Sequence[ReplicaStatus]:
        return [
            ReplicaStatus(order.workspace, order.endpoint, order.deployment, order.revision, order.replica, "ready", "", "/nowhere")
            for order in self.orders.values()
        ]

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def logs(self, workspace: WorkspaceId, endpoint: str, deployment: str, lines_max: int) -> Sequence[str]:
        return ["init() done", f"serving {endpoint}/{deployment}"][:lines_max]


class MemoryGateway:
    """Implements core.ports.Gateway without a proxy."""

    def __init__(self) -> None:
        self.routes: tuple[Route, ...] = ()

    async def apply(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)

    def scoring_uri(self, workspace_name: str, endpoint: str) -> str:
        return f"http://127.0.0.1:1/endpoints/{workspace_name}/{endpoint}/score"

"""Computes and their nodes."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from foldline.resources.collection import Collection, set_fields

if TYPE_CHECKING:
    from foldline.wire.computes import Compute, ComputeUpdate, JoinToken, Node


class Computes(Collection):
    """The workspace's computes."""

    async def create(self, name: str, **settings: Any) -> Compute:
        """`settings`: provider, min_instances, max_instances, idle_time_before_scale_down (seconds), slots_per_node, description."""
        return cast("Compute", await self._send("POST", "computes.Compute", "computes", body={"name": name, **set_fields(**settings)}))

    async def list(self) -> builtins.list[Compute]:
        return await self._all("computes.Compute", "computes")

    async def get(self, name: str) -> Compute:
        return cast("Compute", await self._get("computes.Compute", "computes", name))

    async def update(self, name: str, change: ComputeUpdate | Mapping[str, Any]) -> Compute:
        return cast("Compute", await self._send("PATCH", "computes.Compute", "computes", name, body=change))

    async def delete(self, name: str) -> None:
        await self._do("DELETE", "computes", name)

    async def nodes(self, name: str) -> builtins.list[Node]:
        return await self._all("computes.Node", "computes", name, "nodes")

    async def join_token(self, name: str, *, expires_seconds: float = 3600.0) -> JoinToken:
        """A token with which one machine joins the compute, once."""
        body = {"expires_seconds": expires_seconds}
        return cast("JoinToken", await self._send("POST", "computes.JoinToken", "computes", name, "join-tokens", body=body))

    async def forget_node(self, node: str) -> None:
        """The machine is gone for good: what ran there ends as failed, `node_lost`."""
        await self._do("POST", "nodes", node, "forget")

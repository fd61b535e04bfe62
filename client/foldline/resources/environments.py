"""Environments and experiments."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, cast

from foldline.resources.collection import Collection, set_fields

if TYPE_CHECKING:
    from foldline.wire.jobs import EnvironmentInline
    from foldline.wire.models import Environment


class Environments(Collection):
    """The workspace's environments, in versions that never change."""

    async def create(
        self,
        name: str,
        spec: EnvironmentInline | dict[str, Any],
        *,
        version: str | None = None,
        description: str | None = None,
    ) -> Environment:
        """Registers a version; without `version` the next number, or the newest version when it has the same content."""
        content = spec if isinstance(spec, dict) else spec.model_dump(mode="json", exclude_none=True)
        body = {"spec": content, **set_fields(name=name, version=version, description=description)}
        return cast("Environment", await self._send("POST", "models.Environment", "environments", body=body))

    async def list(self) -> builtins.list[Environment]:
        return await self._all("models.Environment", "environments")

    async def get(self, name: str, version: str | None = None) -> Environment:
        return cast("Environment", await self._get("models.Environment", "environments", name, params=set_fields(version=version)))


class Experiments(Collection):
    """Groups of runs."""

    async def list(self) -> builtins.list[dict[str, Any]]:
        from foldline.resources.collection import items

        return [item async for item in items(self._connection, self._path("experiments"))]

    async def archive(self, name: str) -> None:
        await self._do("POST", "experiments", name, "archive")

    async def restore(self, name: str) -> None:
        await self._do("POST", "experiments", name, "restore")

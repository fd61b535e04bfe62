"""The model registry."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from foldline.answers import plain
from foldline.connection import Connection
from foldline.problems import BadInput
from foldline.resources.collection import Collection, set_fields
from foldline.transfers import Progress, RemoteFile, fetch_folder, store_folder

if TYPE_CHECKING:
    from foldline.wire.models import Model, ModelUpdate, ModelVersion

LATEST = "latest"


class Models(Collection):
    """Models by name and version. Registering a name again makes its next version."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        super().__init__(connection, "workspaces", workspace)
        self._workspace = workspace

    async def register(
        self,
        name: str,
        path: str | Path | None = None,
        *,
        run: str | None = None,
        run_path: str | None = None,
        version: int | None = None,
        type: str = "custom_model",  # noqa: A002 - the field's name
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> ModelVersion:
        """Registers a local file or folder (`path`), or what a run kept at `run_path`.

        Raises: BadInput when it is neither or both; FoldlineError.
        """
        if (path is None) == (run is None):
            raise BadInput("A model comes from a local path or from a run: name one of them.", code="bad_model_source")
        given = set_fields(name=name, version=version, description=description, run=run, path=run_path)
        body = {**given, "type": type, "tags": dict(tags or {})}
        if path is not None:
            body["manifest"] = await self._upload(Path(path), progress)
        return cast("ModelVersion", await self._send("POST", "models.ModelVersion", "models", body=body))

    async def _upload(self, path: Path, progress: Progress | None) -> str:
        from foldline.snapshots import model_folder

        return await store_folder(self._connection, self._workspace, await asyncio.to_thread(model_folder, path), progress)

    async def list(self, *, name: str | None = None, tags: Mapping[str, str] | None = None) -> builtins.list[Model]:
        params = {**set_fields(name=name), "tag": [f"{k}={v}" for k, v in (tags or {}).items()]}
        return await self._all("models.Model", "models", params=params)

    async def versions(self, name: str, *, tags: Mapping[str, str] | None = None) -> builtins.list[ModelVersion]:
        params = {"tag": [f"{k}={v}" for k, v in (tags or {}).items()]}
        return await self._all("models.ModelVersion", "models", name, "versions", params=params)

    async def get(self, name: str, version: int | str = LATEST) -> ModelVersion:
        return cast("ModelVersion", await self._get("models.ModelVersion", "models", name, "versions", str(version)))

    async def update(self, name: str, version: int | str, change: ModelUpdate | Mapping[str, Any]) -> ModelVersion:
        answer = await self._send("PATCH", "models.ModelVersion", "models", name, "versions", str(version), body=change)
        return cast("ModelVersion", answer)

    async def delete(self, name: str, version: int | str) -> None:
        """Raises: Conflict (`model_in_use`, with the deployments) while an active deployment uses the version."""
        await self._do("DELETE", "models", name, "versions", str(version))

    async def download(
        self,
        name: str,
        version: int | str = LATEST,
        destination: str | Path | None = None,
        *,
        progress: Progress | None = None,
    ) -> builtins.list[Path]:
        """All files of a version into `destination` (else a folder named after the model), each checked by its hash."""
        answer = plain(await self.get(name, version))
        at = ("models", name, "versions", str(answer["version"]), "files")
        listed = plain(await self._all("jobs.OutputFile", *at))
        files = [RemoteFile(file["path"], file["bytes"], file["sha256"]) for file in listed]
        return await fetch_folder(self._connection, self._path(*at, "content"), files, Path(destination or name), progress)

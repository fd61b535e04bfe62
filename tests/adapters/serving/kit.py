"""A pool and a gateway over a folder, with real content, for tests that start replicas."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from adapters.blobs.files import FileBlobs
from adapters.gateway import EnvoyGateway
from adapters.serving import ServingPool
from core.ids import WorkspaceId
from core.ports import Backend, ReplicaOrder, ReplicaStatus, Route
from foldline.node.environments import BuilderIdentity, EnvironmentCache
from foldline.node.sandbox import BUILDER_UID, Sandbox

WORKSPACE = WorkspaceId("ws-0123456789ab")
KEYS = ("primary-key-of-32-characters-0001", "secondary-key-of-32-characters-02")
DEADLINE_SECONDS = 60.0
ECHO = """
import json, os
def init():
    global version
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights", "version.txt")) as file:
        version = file.read()
def run(raw_data):
    return {"version": version, "pid": os.getpid(), "echo": raw_data}
"""


@dataclass
class Kit:
    """`folder` outlives the pool and the gateway opened over it."""

    folder: Path
    blobs: FileBlobs
    environments: EnvironmentCache
    sandbox: Sandbox

    def unopened(self, start_limit_seconds: float = 60.0) -> tuple[EnvoyGateway, ServingPool]:
        gateway = EnvoyGateway(self.folder / "gateway", port=0)
        return gateway, ServingPool(
            self.folder / "serving", blobs=self.blobs, environments=self.environments, sandbox=self.sandbox,
            gateway_gid=gateway.user.gid if gateway.user.own else None, start_limit_seconds=start_limit_seconds,
        )

    @asynccontextmanager
    async def opened(self, *, start_limit_seconds: float = 60.0) -> AsyncIterator[Opened]:
        gateway, pool = self.unopened(start_limit_seconds)
        async with gateway, pool:
            yield Opened(self, gateway, pool)

    async def stored(self, files: Mapping[str, str]) -> str:
        """Stores a folder; its manifest's digest."""
        lines = []
        for path, text in sorted(files.items()):
            lines.append(f"{await self.blobs.put_bytes(WORKSPACE, text.encode())} {len(text.encode())} - {path}\n")
        return await self.blobs.put_bytes(WORKSPACE, "".join(lines).encode())

    async def order(
        self, replica: str, script: str = ECHO, *, version: str = "1", deployment: str = "blue", **fields: object,
    ) -> ReplicaOrder:
        """An order whose model says `version`. `fields` replace those of the order."""
        order = ReplicaOrder(
            workspace=WORKSPACE, endpoint="digits", deployment=deployment, revision=int(version), replica=replica, epoch=1, model="digits",
            model_version=int(version), model_manifest=await self.stored({"weights/version.txt": version}),
            code_manifest=await self.stored({"score.py": script}), scoring_script="score.py",
            environment_key=hashlib.sha256(b"").hexdigest(), python="", packages=(), environment_variables={}, settings={},
        )
        return replace(order, **fields)  # type: ignore[arg-type]  # the tests name real fields


@dataclass
class Opened:
    kit: Kit
    gateway: EnvoyGateway
    pool: ServingPool

    async def run(self, *orders: ReplicaOrder) -> list[ReplicaStatus]:
        """Starts replicas; returns once each is ready or has failed."""
        for order in orders:
            await self.pool.start(order)
        return [await self.until(order.replica, lambda status: status.phase in ("ready", "failed")) for order in orders]

    async def until(self, replica: str, wanted: Callable[[ReplicaStatus], bool]) -> ReplicaStatus:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                status = await self.status(replica)
                if status is not None and wanted(status):
                    return status
                await self.pool.changed()

    async def status(self, replica: str) -> ReplicaStatus | None:
        return next((status for status in await self.pool.list() if status.replica == replica), None)

    def pid(self, replica: str) -> int | None:
        """The supervising process's."""
        return int((self.kit.folder / "serving" / WORKSPACE / "digits" / replica / "control" / "process").read_text().split()[0])

    def client(self, key: str | None = KEYS[0]) -> httpx2.AsyncClient:
        base = self.gateway.scoring_uri("team", "digits").removesuffix("score")
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
        return httpx2.AsyncClient(base_url=base, headers=headers, timeout=20, trust_env=False, limits=limits)


def route(*backends: tuple[str, int, list[str]], keys: tuple[str, ...] = KEYS, timeout_seconds: float = 20.0) -> Route:
    return Route(
        workspace=WORKSPACE, workspace_name="team", endpoint="digits", keys=keys, timeout_seconds=timeout_seconds,
        backends=tuple(Backend(deployment=name, weight=weight, addresses=tuple(addresses)) for name, weight, addresses in backends),
    )


def worker_pid(supervisor: int) -> int:
    """The scoring process itself: the innermost descendant of the supervising process."""
    pid = supervisor
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


def kit_over(folder: Path, cache: Path) -> Kit:
    folder.chmod(0o755)
    sandbox = Sandbox.probe()
    environments = EnvironmentCache(cache, builder=BuilderIdentity(BUILDER_UID if os.geteuid() == 0 else os.geteuid(), sandbox))
    return Kit(folder, FileBlobs(folder / "blobs"), environments, sandbox)

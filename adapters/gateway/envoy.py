"""`core.ports.Gateway` on Envoy: routes become files, and a call returns once Envoy says that it has taken them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from adapters.gateway import admin, tls
from adapters.gateway.config import (
    ROUTE_CONFIG,
    Files,
    Json,
    bootstrap,
    clusters_of,
    clusters_response,
    named,
    routes_response,
    secrets_response,
)
from adapters.gateway.process import EnvoyProcess, GatewayUser
from core.errors import Unavailable
from core.ports import Route

BODY_BYTES_MAX = 16 * 1024 * 1024
TAKEN_SECONDS = 10.0
SOCKET_PATH_MAX = 107

log = structlog.get_logger(__name__)


class EnvoyGateway:
    """An `async with` over it has Envoy serving what its folder holds; leaving it lets Envoy go on, `shut_down` ends it."""

    def __init__(
        self, directory: Path, *, host: str = "127.0.0.1", port: int = 8322, user: GatewayUser | None = None, concurrency: int = 1,
        body_bytes_max: int = BODY_BYTES_MAX, certificate: Path | None = None, key: Path | None = None,
    ) -> None:
        """`port` 0 takes a free one, and the same again after a restart. With `certificate` and `key` (PEM files) it speaks TLS,
        without them only on loopback: else `async with` raises Invalid."""
        self.user = user or GatewayUser.for_this_process()
        self._files = Files(directory.absolute())
        self._host, self._port, self._body_bytes_max = host, port, body_bytes_max
        self._tls = (certificate, key) if certificate is not None and key is not None else None
        self._applying = asyncio.Lock()
        self._envoy = EnvoyProcess(self._files, self.user, concurrency=concurrency)
        self._stack = contextlib.AsyncExitStack()

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int | None:
        return self._envoy.pid

    async def __aenter__(self) -> Self:
        """Raises: Unavailable when Envoy does not start, with the reason; Invalid when it must not listen so."""
        self._lay_out()
        await self._envoy.begin()
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        keeper = tasks.create_task(self._envoy.keep(), name="gateway-keeper")
        self._stack.callback(keeper.cancel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def shut_down(self) -> None:
        """Ends Envoy, or, before `async with`, the one that an earlier server has left: no endpoint answers any more."""
        await self._envoy.stop()

    def scoring_uri(self, workspace_name: str, endpoint: str) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{tls.named(self._host)}:{self._port}/endpoints/{quote(workspace_name)}/{quote(endpoint)}/score"

    async def apply(self, routes: Sequence[Route]) -> None:
        """Makes exactly these routes served; returns once Envoy has taken them. Nothing is written when nothing changes.

        What is new is there before it is pointed at, and what is old goes after nothing points at it.
        Raises: Unavailable when Envoy refuses it or does not answer; what was served before goes on.
        """
        async with self._applying:
            table, clusters = routes_response(routes), clusters_response(routes)
            both = clusters_of({**named(_read(self._files.clusters)), **named(clusters)})
            started = time.perf_counter()
            written = await self._give(self._files.clusters, both, "cluster_manager.cds")
            written |= await self._give(self._files.routes, table, f"http.{ROUTE_CONFIG}.rds.{ROUTE_CONFIG}")
            written |= await self._give(self._files.clusters, clusters, "cluster_manager.cds")
            if written:
                log.info("gateway.applied", routes=len(routes), seconds=round(time.perf_counter() - started, 4))

    async def _give(self, file: Path, response: Json, subject: str) -> bool:
        """Whether there was anything to write; returns once Envoy serves the file's version."""
        version = str(response["version_info"])
        old = _read(file)
        known = old.get("version_info") == version
        before = await self._taken(subject)
        if known and before is not None and before.version == version:
            return False
        if not known:
            self._write(file, response)
        deadline = time.monotonic() + TAKEN_SECONDS
        wait_seconds = 0.001
        while True:
            now = await self._taken(subject)
            if now is not None and now.version == version:
                return True
            if now is not None and before is not None and now.rejected > before.rejected:
                self._write(file, old)
                raise Unavailable(f"Envoy refused its new configuration: {' '.join(self._envoy.log_tail(3))}")
            if time.monotonic() > deadline:
                raise Unavailable(f"Envoy did not take its new configuration within {TAKEN_SECONDS:g} s.")
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(0.05, wait_seconds * 2)

    async def _taken(self, subject: str) -> admin.Taken | None:
        try:
            return await admin.taken(self._files.admin, subject)
        except (OSError, TimeoutError, ValueError):
            return None

    def _lay_out(self) -> None:
        """Makes the folders and files that Envoy reads at its start; what was served before the restart stays."""
        folder, address = self._files.folder, tls.listening(self._host, self._tls is not None)
        certified = None if self._tls is None else secrets_response(*tls.pair(*self._tls))
        if len(os.fsencode(self._files.admin)) > SOCKET_PATH_MAX:
            raise Unavailable(f"The data folder's path is too long for a Unix socket below it: {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        watched = (self._files.routes, self._files.clusters, self._files.secrets)
        for inner in (self._files.bootstrap.parent, *(file.parent for file in watched)):
            inner.mkdir(exist_ok=True)
            self.user.give(inner, 0o700)
        self._port = self._port or self._free_port(address)
        fixed = bootstrap(self._files, host=address, port=self._port, body_bytes_max=self._body_bytes_max, tls=certified is not None)
        self._write(self._files.bootstrap, fixed)
        if certified is not None and _read(self._files.secrets) != certified:
            self._write(self._files.secrets, certified)
        for file, empty in ((self._files.clusters, clusters_response(())), (self._files.routes, routes_response(()))):
            if not _read(file):
                self._write(file, empty)

    def _free_port(self, address: str) -> int:
        kept = self._files.folder / "port"
        with contextlib.suppress(OSError, ValueError):
            return int(kept.read_text())
        with socket.create_server((address, 0)) as probe:
            port = int(probe.getsockname()[1])
        kept.write_text(str(port))
        return port

    def _write(self, file: Path, content: Json) -> None:
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as output:
            json.dump(content, output)
        self.user.give(new, 0o600)
        new.replace(file)


def _read(file: Path) -> Json:
    try:
        content: Json = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content

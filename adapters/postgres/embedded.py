"""The embedded Postgres 18: started beside the server, adopted when it outlived one, started again when it dies.

It listens on a Unix socket only, and knows our own user only (`peer` with a map). It lives in a session of its own, so that a
Ctrl-C reaches the server first, which stops it last.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import asyncpg
import structlog

from adapters.postgres import postmaster
from adapters.postgres.background import Background
from adapters.postgres.cluster import DATABASE, Cluster, PostgresFailed, make_folders, prepare, run_as

log = structlog.get_logger()

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "io_method": "sync",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "idle_in_transaction_session_timeout": "60s",
}
LOG_BYTES_MAX = 16 * 1024 * 1024
POLL_SECONDS = 0.01
RESTART_SECONDS = 0.5
CREATE_DATABASE = f"CREATE DATABASE {DATABASE}"


class PostgresServer:
    """`async with PostgresServer(folder) as server:` connect to `server.dsn`. One process per folder at a time.

    When Postgres dies in the meantime it is started again; when that fails, the block is cancelled with PostgresFailed.
    """

    def __init__(
        self, directory: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None,
        start_limit_seconds: float = 60.0, stop_limit_seconds: float = 10.0, restarts_max: int = 5,
    ) -> None:
        self._directory = directory.absolute()
        self._fsync = fsync
        self._settings = {**SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._start_limit_seconds, self._stop_limit_seconds = start_limit_seconds, stop_limit_seconds
        self._restarts_max = restarts_max
        self._cluster: Cluster | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._lock: int | None = None
        self._background = Background()

    @property
    def dsn(self) -> str:
        """Where to connect; holds no password, since the socket knows who we are."""
        return self._prepared.dsn

    @property
    def pid(self) -> int:
        """The postmaster's process now."""
        if self._pid is None:
            raise PostgresFailed("Postgres is not running.")
        return self._pid

    async def __aenter__(self) -> PostgresServer:
        make_folders(self._directory)
        self._take_lock()
        try:
            self._cluster = await asyncio.to_thread(prepare, self._directory, fsync=self._fsync)
            await self._start()
            await self._ensure_database()
        except BaseException:
            await asyncio.shield(self._stop())
            raise
        await self._background.open()
        self._background.start(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._background.close(kind, error, trace)
        finally:
            await asyncio.shield(self._stop())

    @property
    def _prepared(self) -> Cluster:
        if self._cluster is None:
            raise PostgresFailed("Postgres has not been started.")
        return self._cluster

    def _take_lock(self) -> None:
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise PostgresFailed(
                f"Another Foldline server uses {self._directory}; stop it, or set FOLDLINE_DATA to another folder."
            ) from None

    async def _start(self) -> None:
        """Adopts the Postgres that runs on our data, or starts one; returns when it takes connections."""
        began = time.monotonic()
        data = self._prepared.data
        running = postmaster.find(data)
        try:
            async with asyncio.timeout(self._start_limit_seconds):
                if running is None:
                    await self._clear_remains(data)
                    self._spawn()
                else:
                    self._pid, self._child = running.pid, None
                await self._wait_until_ready(data)
        except TimeoutError as late:
            raise PostgresFailed(f"Postgres was not ready after {self._start_limit_seconds:.0f} s; see {self._prepared.log}.") from late
        log.info("postgres.ready", pid=self._pid, adopted=running is not None, seconds=round(time.monotonic() - began, 3))

    async def _clear_remains(self, data: Path) -> None:
        sockets = self._prepared.sockets
        if not postmaster.stale_files(data, sockets):
            return
        while postmaster.left_over(data):  # noqa: ASYNC110  # processes that are not our children tell nobody of their end
            await asyncio.sleep(POLL_SECONDS)
        postmaster.remove_stale_files(data, sockets)

    def _spawn(self) -> None:
        cluster = self._prepared
        if cluster.log.exists() and cluster.log.stat().st_size > LOG_BYTES_MAX:
            cluster.log.replace(cluster.log.with_suffix(".log.1"))
        arguments = [f"--{name}={value}" for name, value in self._settings.items()]
        output = os.open(cluster.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        options: dict[str, Any] = {**run_as(cluster.owner), "stdout": output, "stderr": output, "start_new_session": True}
        command = cluster.command("postgres", "-D", str(cluster.data), f"--unix_socket_directories={cluster.sockets}", *arguments)
        try:
            self._child = subprocess.Popen(command, **options)
        finally:
            os.close(output)
        self._pid = self._child.pid

    async def _wait_until_ready(self, data: Path) -> None:
        while True:
            running = postmaster.find(data)
            if running is not None and running.ready and running.pid == self._pid:
                return
            ended = self._child.poll() is not None if self._child is not None else running is None
            if ended:
                tail = self._prepared.log.read_text(errors="replace")[-2000:] if self._prepared.log.exists() else ""
                raise PostgresFailed(f"Postgres ended while it started; the end of {self._prepared.log}:\n{tail}")
            await asyncio.sleep(POLL_SECONDS)

    async def _ensure_database(self) -> None:
        try:
            connection = await asyncpg.connect(self.dsn)
        except asyncpg.InvalidCatalogNameError:
            connection = await asyncpg.connect(self._prepared.address("postgres"))
            await connection.execute(CREATE_DATABASE)
        await connection.close()

    async def _watch(self) -> None:
        """Starts Postgres again whenever it dies; gives up when it keeps dying."""
        recent: list[float] = []
        while True:
            await postmaster.exited(self.pid)
            code = self._child.wait() if self._child is not None else None
            now = time.monotonic()
            recent = [*(at for at in recent if now - at < 60), now]
            log.error("postgres.died", pid=self._pid, code=code, in_last_minute=len(recent))
            if len(recent) > self._restarts_max:
                raise PostgresFailed(f"Postgres died {len(recent)} times within a minute; see {self._prepared.log}.")
            try:
                await self._start()
            except PostgresFailed as error:
                log.error("postgres.not_started_again", problem=str(error)[:500])
                await asyncio.sleep(RESTART_SECONDS)  # then it is found ended, and counts as one more death

    async def _stop(self) -> None:
        if self._pid is not None:
            await postmaster.stop(self._pid, fast_seconds=self._stop_limit_seconds, immediate_seconds=5.0)
            if self._child is not None:
                self._child.wait()
            log.info("postgres.stopped", pid=self._pid)
            self._pid = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

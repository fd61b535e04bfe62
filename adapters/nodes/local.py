"""Local nodes: each is an agent process on this machine, in a session of its own, that outlives the server.

`<directory>/<node>/` (0711: scripts pass through it to what is theirs) holds the agent's config.json (0600, with its token), its
process (process.json: pid and start time, so that a pid that was given to somebody else is never taken for it) and what it runs. An
agent that died is simply started again in the same folder: it adopts the scripts that went on without it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from core.errors import Conflict
from core.ids import WorkspaceId
from core.ports import NodeOrder
from foldline.node import main as agent

log = structlog.get_logger()

AGENT_LOG_BYTES_MAX = 8 * 1024 * 1024
CONFIG, PROCESS, ORDER, AGENT_LOG = "config.json", "process.json", "order.json", "agent.log"


class LocalNodes:
    """Implements core.ports.Nodes with processes of this machine."""

    def __init__(
        self, directory: Path, *, server_url: str, cache: Path, environment: Mapping[str, str], ca_file: Path | None = None,
        python: str = sys.executable, stop_seconds: float = 3.0, settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`environment` is all that an agent gets to see of the server's; `settings` are further entries of its config."""
        self._directory, self._environment, self._python, self._stop_seconds = directory, dict(environment), python, stop_seconds
        self._config: dict[str, Any] = {"server": server_url, "cache": str(cache), **(settings or {})}
        if ca_file is not None:
            self._config["ca_file"] = str(ca_file)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def start(self, order: NodeOrder, token: str) -> None:
        """Raises: Conflict when a newer owner gave an order for the node, or the name belongs to another workspace."""
        async with self._locks.setdefault(order.node, asyncio.Lock()):
            await asyncio.to_thread(self._start, order, token)

    async def stop(self, workspace: WorkspaceId, node: str, epoch: int) -> None:
        """Ends the agent and all that it runs, and removes its folder. Raises: Conflict for an older epoch."""
        async with self._locks.setdefault(node, asyncio.Lock()):
            await asyncio.to_thread(self._stop, workspace, node, epoch)
        self._locks.pop(node, None)

    async def list(self) -> Sequence[tuple[WorkspaceId, str]]:
        """Nodes whose agent lives and talks to this server's address."""
        return await asyncio.to_thread(self._list)

    def _start(self, order: NodeOrder, token: str) -> None:
        home = self._directory / order.node
        self._check_epoch(home, order.workspace, order.node, order.epoch)
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        home.mkdir(mode=0o711, exist_ok=True)
        config = {**self._config, "token": token, "directory": str(home), "slots": int(order.settings.get("slots", "1"))}
        running = self._process(home)
        if running is not None and _read(home / CONFIG) == config:
            return
        if running is not None:
            self._end_agent(running)
        order_facts = {"workspace": order.workspace, "compute": order.compute, "node": order.node, "epoch": order.epoch}
        _write(home / ORDER, order_facts)
        _write(home / CONFIG, config)
        self._spawn(order.node, home)
        log.info("node.agent_started", workspace=order.workspace, node=order.node, pid=self._children[order.node].pid)

    def _spawn(self, node: str, home: Path) -> None:
        written = home / AGENT_LOG
        if written.exists() and written.stat().st_size > AGENT_LOG_BYTES_MAX:
            written.replace(written.with_suffix(".log.1"))
        with open(os.open(written, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as output:
            child = subprocess.Popen(
                [self._python, "-m", "foldline.node", "--config", str(home / CONFIG)], cwd=home, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )
        self._children[node] = child
        _write(home / PROCESS, {"pid": child.pid, "started": started_at(child.pid)})

    def _stop(self, workspace: WorkspaceId, node: str, epoch: int) -> None:
        home = self._directory / node
        if not home.exists():
            return
        self._check_epoch(home, workspace, node, epoch)
        running = self._process(home)
        if running is not None:
            self._end_agent(running)
        agent.end(home)
        child = self._children.pop(node, None)
        if child is not None:
            child.wait(timeout=self._stop_seconds)
        shutil.rmtree(home, ignore_errors=True)
        log.info("node.agent_stopped", workspace=workspace, node=node)

    def _end_agent(self, pid: int) -> None:
        """TERM and, if that does not help in time, KILL. What it runs goes on."""
        started = started_at(pid)
        for number, seconds in ((signal.SIGTERM, self._stop_seconds), (signal.SIGKILL, self._stop_seconds)):
            if started is None or started_at(pid) != started:
                return
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            until = time.monotonic() + seconds
            while started_at(pid) == started and time.monotonic() < until:
                for child in self._children.values():
                    child.poll()
                time.sleep(0.02)

    def _list(self) -> Sequence[tuple[WorkspaceId, str]]:
        found: list[tuple[WorkspaceId, str]] = []
        for child in list(self._children.values()):
            child.poll()
        if not self._directory.exists():
            return found
        for home in sorted(self._directory.iterdir()):
            order, config = _read(home / ORDER), _read(home / CONFIG)
            ours = order is not None and config is not None and config.get("server") == self._config["server"]
            if order is not None and ours and self._process(home) is not None:
                found.append((WorkspaceId(order["workspace"]), home.name))
        return found

    def _process(self, home: Path) -> int | None:
        """The pid of the node's agent while it lives."""
        known = _read(home / PROCESS)
        if known is not None and known.get("started") is not None and started_at(int(known["pid"])) == known["started"]:
            return int(known["pid"])
        return None

    def _check_epoch(self, home: Path, workspace: WorkspaceId, node: str, epoch: int) -> None:
        order = _read(home / ORDER)
        if order is None:
            return
        if order["workspace"] != workspace:
            raise Conflict(f"The node {node!r} on this machine belongs to another workspace.", node=node)
        if int(order["epoch"]) > epoch:
            raise Conflict(f"A newer owner (epoch {order['epoch']}) has ordered the node {node!r}.", node=node, epoch=order["epoch"])


def started_at(pid: int) -> str | None:
    """When the process began, in the kernel's ticks since boot: with the pid its name for good. None when it is dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, readable by the server's user only."""
    beside = path.with_suffix(".new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(content, file)
    beside.replace(path)

"""Whole servers, started as their users start them, with timers at 1/20 of the defaults."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tools import server_process

SCALE = 1 / 20
QUICK = {
    "FOLDLINE_HEARTBEAT_SECONDS": str(2 * SCALE), "FOLDLINE_LEASE_SECONDS": str(15 * SCALE), "FOLDLINE_TICK_SECONDS": str(1 * SCALE),
    "FOLDLINE_CANCEL_GRACE_SECONDS": str(10 * SCALE), "FOLDLINE_UNREACHABLE_LIMIT_SECONDS": str(86_400 * SCALE),
    "FOLDLINE_DRAIN_SECONDS": str(10 * SCALE),
}


@dataclass
class Installation:
    """A data folder with a server on it, and the CLI as its admin."""

    data: Path
    log: str
    ports: dict[str, str]
    server: server_process.Server

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "FOLDLINE_URL": self.server.url, "FOLDLINE_TOKEN": self.server.token_file.read_text().strip(),
            "FOLDLINE_CONFIG": str(self.data / "cli.json"), "FOLDLINE_WORKSPACE": "lab",
        }

    def cli(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        argv = [str(server_process.BIN / "foldline"), *arguments]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"`foldline {' '.join(arguments)}` ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "-o", "json").stdout)

    def show(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("job", "show", "--name", run)
        return found

    def wait(self, what: str, condition: Callable[[], Any], limit_seconds: float = 60) -> Any:
        """Asks until the condition holds; a server that is away meanwhile is waited for."""
        deadline = time.monotonic() + limit_seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
                if last:
                    return last
            except (AssertionError, ValueError) as error:
                last = error
            time.sleep(0.1)
        raise AssertionError(f"waited {limit_seconds} s in vain for {what}; last: {last}\n{self.tail()}")

    def wait_status(self, run: str, *statuses: str, limit_seconds: float = 60) -> dict[str, Any]:
        found: dict[str, Any] = self.wait(
            f"{run} to be {' or '.join(statuses)}",
            lambda: (shown := self.show(run))["status"] in statuses and shown,
            limit_seconds,
        )
        return found

    def start(self) -> None:
        self.server = server_process.start(self.log, self.data, environment={**QUICK, **self.ports})

    def kill_server(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        os.waitpid(self.server.pid, 0)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this installation whose command line has all the words."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def tail(self) -> str:
        path = self.data / "server.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-20:]) if path.exists() else ""

    def close(self) -> None:
        server_process.down(self.server)


def free_ports() -> dict[str, str]:
    """Two ports that nobody listens on now, below those that the system gives to callers."""
    found: list[str] = []
    for port in random.sample(range(20_000, 32_000), 500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(str(port))
        if len(found) == 2:
            break
    return {"FOLDLINE_PORT": found[0], "FOLDLINE_GATEWAY_PORT": found[1]}


def install(log: str) -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="foldline-system-"))
    folder.chmod(0o755)
    ports = free_ports()
    server = server_process.start(log, folder / "data", environment={**QUICK, **ports})
    installation = Installation(folder / "data", log, ports, server)
    try:
        installation.cli("workspace", "create", "lab")
        installation.cli("compute", "create", "--name", "pool", "--max-instances", "2", "--idle-time-before-scale-down", "600")
        yield installation
    finally:
        installation.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Installation]:
    """One installation on the embedded default for the tests of a module."""
    yield from install("postgres")


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a job file with its script; returns its path."""

    def write(script: str, **fields: Any) -> Path:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / "main.py").write_text(script)
        document = {
            "command": "python main.py", "code": "src", "environment": {"image": "python"}, "compute": "azureml:pool",
            "experiment_name": "crashes", **fields,
        }
        path = tmp_path / "job.yml"
        path.write_text(json.dumps(document))
        return path

    return write

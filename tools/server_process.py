"""Starts `foldline-server up` (and, for LOG=kafka, a broker of its own) in the background, and finds it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """A running server: where it answers and where its admin token lies."""

    url: str
    pid: int
    data: Path
    log: str

    @property
    def token_file(self) -> Path:
        return self.data / "secrets" / "admin-token"


def data_folder(log: str) -> Path:
    """One folder per kind of log, so that both demos keep their own data."""
    given = os.environ.get("FOLDLINE_DATA")
    if given:
        return Path(given)
    root = Path("/var/lib/foldline") if os.geteuid() == 0 else Path.home() / ".local" / "share" / "foldline"
    return root / log


def running(data: Path) -> Server | None:
    """The server that was started on this folder, when it answers."""
    try:
        said = json.loads((data / "server.json").read_text())
    except (OSError, ValueError):
        return None
    server = Server(said["url"], said["pid"], data, said["log"])
    return server if healthy(server.url) else None


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def start(
    log: str, data: Path, *, limit_seconds: float = 90.0, environment: dict[str, str] | None = None, serve: bool = False,
) -> Server:
    """Starts a server on `data` and returns once it is healthy. With `serve` the environment names its Kafka and Postgres.

    Raises: SystemExit with what the server said.
    """
    data.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **(environment or {}), "FOLDLINE_DATA": str(data)}
    if log == "kafka" and not serve:
        variables.update(_broker(data))
    said = data / "server.log"
    with said.open("ab") as output:
        process = subprocess.Popen(
            [str(BIN / "foldline-server"), *(("serve",) if serve else ("up", "--log", log))],
            cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        server = running(data)
        if server is not None and server.pid == process.pid:
            return server
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = "\n".join(said.read_text(errors="replace").splitlines()[-15:])
    raise SystemExit(f"The server did not start. The end of {said}:\n{tail}")


def stop(server: Server, limit_seconds: float = 30.0) -> None:
    """Stops the server's process alone, in order; nodes, runs and endpoints go on."""
    _end(server.pid, limit_seconds)


def down(server: Server, limit_seconds: float = 30.0) -> None:
    """Stops the server, what outlives it, and a broker that was started for it."""
    subprocess.run([str(BIN / "foldline-server"), "down", "--data", str(server.data)], check=False)
    _end(server.pid, limit_seconds)
    broker = server.data / "broker.pid"
    if broker.exists():
        _end(int(broker.read_text()), limit_seconds)
        broker.unlink(missing_ok=True)


def _end(pid: int, limit_seconds: float) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            if not Path(f"/proc/{pid}").exists():
                return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def _broker(data: Path) -> dict[str, str]:
    """A real Apache Kafka broker beside the server, with SASL; its address and credentials as settings."""
    from tools.kafka import broker

    return broker.start_detached(data / "kafka", data / "broker.pid")

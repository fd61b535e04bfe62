"""The command `foldline-server`: up (one process tree with its own Postgres), serve (one of n on Kafka and Postgres), down, settings."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import structlog

from adapters.settings import Settings, SettingsError, read_settings

SERVER_FILE, LOCK_FILE = "server.json", "server.lock"
STOP_SECONDS = 30.0
GC_THRESHOLDS = (50_000, 20, 50)
"""The heap is mostly long-lived (streams, tails, rows): with the defaults a replay takes 69 us an event instead of 49 (bench/replay.py)."""

app = cyclopts.App(name="foldline-server", help="Foldline's server. Settings are variables FOLDLINE_*: `foldline-server settings`.")


@app.command
def up(*, log: Literal["postgres", "kafka"] | None = None, data: Path | None = None, listen: str | None = None) -> int:
    """Runs a server with an embedded Postgres, local nodes and the gateway, until Ctrl-C. What it started runs on; see `down`.

    Parameters
    ----------
    log
        Where events go: the embedded Postgres, or Apache Kafka (FOLDLINE_KAFKA).
    data
        The data folder.
    listen
        ADDRESS or ADDRESS:PORT; anything but loopback needs TLS.
    """
    return _serve(_settings(log=log, data=data, listen=listen))


@app.command
def serve(*, data: Path | None = None, listen: str | None = None) -> int:
    """Runs one of n equal servers on an external Postgres (FOLDLINE_DATABASE_URL) and Apache Kafka (FOLDLINE_KAFKA)."""
    settings = _settings(data=data, listen=listen)
    if not settings.database_url or settings.log != "kafka":
        print("`serve` needs FOLDLINE_DATABASE_URL and FOLDLINE_LOG=kafka; `foldline-server up` brings its own Postgres.", file=sys.stderr)
        return 2
    return _serve(settings)


@app.command
def down(*, data: Path | None = None) -> int:
    """Stops the server of this data folder, and what outlives it: nodes with what they run, replicas, the gateway."""
    return asyncio.run(_stop_all(_settings(data=data)))


@app.command
def settings() -> int:
    """Lists every setting with its value now."""
    now = _settings()
    for item in fields(Settings):
        print(f"FOLDLINE_{item.name.upper():<36} {getattr(now, item.name)}")
    return 0


def main() -> None:
    """The entry point; bad settings end it with a sentence."""
    try:
        sys.exit(app())
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _settings(
    *, log: str | None = None, data: Path | None = None, listen: Annotated[str | None, "ADDRESS[:PORT]"] = None,
) -> Settings:
    host, _, port = listen.rpartition(":") if listen and ":" in listen else (listen, "", "")
    return read_settings(log=log, data=data.absolute() if data else None, host=host or None, port=int(port) if port else None)


def _serve(settings: Settings) -> int:
    import uvloop

    from adapters.telemetry import configure_logging

    configure_logging(settings.log_level, settings.log_format)
    settings.data.mkdir(parents=True, exist_ok=True)
    with (settings.data / LOCK_FILE).open("a") as lock:
        if not _locked(lock.fileno()):
            print(f"Another server runs on {settings.data}; stop it (`foldline-server down`) or use another folder.", file=sys.stderr)
            return 2
        uvloop.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    from adapters.bootstrap import open_server
    from adapters.http.admin import ensure_admin
    from adapters.http.app import build_app
    from adapters.http.repair import repair_workspaces
    from adapters.http.server import http_server
    from adapters.telemetry.loop_watchdog import LoopWatchdog

    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with open_server(settings) as services:
        await ensure_admin(services, settings.secrets)
        front = http_server(
            build_app(services), host=settings.host, port=settings.port, certificate=settings.tls_certificate, key=settings.tls_key,
        )
        async with front, asyncio.TaskGroup() as group:
            repairing = group.create_task(repair_workspaces(services), name="repair")
            _announce(settings)
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            with LoopWatchdog(asyncio.get_running_loop()):
                await told.wait()
            repairing.cancel()


def _announce(settings: Settings) -> None:
    """Writes down where this server is, and says how to use it."""
    from adapters.bootstrap import agent_url

    file = settings.data / SERVER_FILE
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"url": settings.url, "agents": agent_url(settings), "pid": os.getpid(), "log": settings.log}))
    fresh.replace(file)
    structlog.get_logger().info("server.ready", url=settings.url, log=settings.log, data=str(settings.data))
    if sys.stdout.isatty():
        token = settings.secrets / "admin-token"
        print(f"Foldline at {settings.url}. Log in: foldline login {settings.url} --token-file {token}", flush=True)


async def _stop_all(settings: Settings) -> int:
    from adapters.bootstrap import outside

    try:
        server = json.loads((settings.data / SERVER_FILE).read_text())
    except (OSError, ValueError):
        print(f"No server has run on {settings.data}.", file=sys.stderr)
        return 2
    with suppress(ProcessLookupError):
        await asyncio.to_thread(_stop_process, int(server["pid"]), settings.data)
    await outside(settings, agents=server["agents"]).stop()
    return 0


def _stop_process(pid: int, data: Path) -> None:
    """Ends the server of this folder, when there is one: it holds the folder's lock."""
    with (data / LOCK_FILE).open("a") as lock:
        deadline = time.monotonic() + STOP_SECONDS
        told = False
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            elif not told:
                os.kill(pid, signal.SIGTERM)
                told = True
            time.sleep(0.05)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()

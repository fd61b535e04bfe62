"""The process of the embedded Postgres: found by its pid file, told apart from a stranger, waited for, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

PID_FILE = "postmaster.pid"
STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running Postgres on the data folder that was asked about."""

    pid: int
    ready: bool


def find(data: Path) -> Postmaster | None:
    """The Postgres that runs on `data`, or None. A pid file that names another program's process counts as none."""
    try:
        lines = (data / PID_FILE).read_text().splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    if not works_in(pid, data):
        return None
    return Postmaster(pid, len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready")


def works_in(pid: int, data: Path) -> bool:
    """Whether the process lives and has `data` as its working folder, as every Postgres process on it has."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data.resolve()
    except (psutil.Error, OSError):
        return False


def left_over(data: Path) -> list[int]:
    """Processes that still work in `data`: after a kill of the postmaster its children take a moment to end."""
    return [pid for pid in psutil.pids() if works_in(pid, data)]


def stale_files(data: Path, sockets: Path) -> list[Path]:
    """What a Postgres that did not end in order has left: its pid file, its socket and that one's lock."""
    return [path for path in (data / PID_FILE, *sockets.glob(".s.PGSQL.*")) if path.exists() or path.is_socket()]


def remove_stale_files(data: Path, sockets: Path) -> None:
    """Postgres itself refuses to start while a pid in such a file is there, though it be a stranger's or nobody has reaped it yet."""
    for path in stale_files(data, sockets):
        path.unlink(missing_ok=True)


async def exited(pid: int) -> None:
    """Returns when the process has ended; it need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def stop(pid: int, *, fast_seconds: float, immediate_seconds: float) -> None:
    """Ends Postgres: in order first, then at once, then by force."""
    for number, limit in ((signal.SIGINT, fast_seconds), (signal.SIGQUIT, immediate_seconds), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await exited(pid)
            return

"""Processes that outlive the server: named for good by pid and start time, watched by a pidfd whether they are our children or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Process:
    """One process, ours or adopted."""

    pid: int
    started: str
    """Clock ticks since boot at its start: with the pid it names the process for good."""
    _child: subprocess.Popen[bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        return start_of(self.pid) == self.started

    async def ended(self) -> None:
        """Returns once it is gone; no polling."""
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            if self.alive:
                await gone.wait()
                if self._child is not None:
                    self._child.poll()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.ended()
        except TimeoutError:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """Signals it unless it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start(
    argv: Sequence[str], *, output: IO[bytes] | int, environment: Mapping[str, str], folder: Path,
    stdin: int = subprocess.DEVNULL, uid: int | None = None, gid: int | None = None, session: bool = True,
) -> Process:
    """Starts a process that does not end with us. Raises: OSError."""
    child = subprocess.Popen(
        argv, stdin=stdin, stdout=output, stderr=output, cwd=folder, env=dict(environment), start_new_session=session,
        user=uid, group=gid, extra_groups=[] if uid is not None else None, umask=0o077,
    )
    return Process(child.pid, start_of(child.pid), child)


def adopted(pid: int, started: str) -> Process | None:
    """The process if it is still that one."""
    process = Process(pid, started)
    return process if started and process.alive else None


def start_of(pid: int) -> str:
    """When the process started; '' when there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()

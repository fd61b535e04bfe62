"""The agent's side of the supervising processes: the warm parent that forks them, their files, and waiting for their end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from foldline.node import supervise

READ_MAX = 1 << 16
HALT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Exit:
    """What a supervising process left: the status (negative: bwrap or the script died of that signal) and why it ended."""

    status: int
    cause: str
    """exited | stopped | time_limit | lease | vanished"""
    started: float
    ended: float
    set_up: bool


class Launcher:
    """Keeps one warm parent; when the agent dies the parent ends and what it forked goes on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = self._answers = -1
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._got = b""

    def start(self) -> None:
        """Starts the warm parent, so that the first run does not wait for it."""
        orders, self._orders = os.pipe2(os.O_CLOEXEC)
        self._answers, answers = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._answers, False)
        script = Path(supervise.__file__)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(orders), str(answers)], pass_fds=(orders, answers), env={}, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )
        os.close(orders)
        os.close(answers)
        asyncio.get_running_loop().add_reader(self._answers, self._answered)

    async def launch(self, order: bytes) -> int:
        """Has a supervising process forked; its pid. It may find that another one has the attempt, and end."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self.start()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        view = memoryview(order)
        while view:
            view = view[os.write(self._orders, view) :]
        return await answer

    def close(self) -> None:
        if self._process is None:
            return
        asyncio.get_running_loop().remove_reader(self._answers)
        os.close(self._orders)
        os.close(self._answers)
        self._process.wait()
        self._process = None
        self._lost()

    def _answered(self) -> None:
        try:
            data = os.read(self._answers, READ_MAX)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._answers)
            self._lost()
            return
        *lines, self._got = (self._got + data).split(b"\n")
        for line in lines:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(int(line))

    def _lost(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(ConnectionError("the warm parent of supervising processes ended"))


class Supervised:
    """One supervising process, by the files of its control folder."""

    def __init__(self, control: Path) -> None:
        self.control = control

    def process(self) -> int | None:
        """Its pid while it lives."""
        try:
            pid, started = (self.control / "process").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if supervise.start_time(int(pid)) == started else None

    @property
    def claimed(self) -> bool:
        """Whether the script was ever started: then it never is again."""
        return (self.control / "process").exists()

    async def ended(self) -> Exit:
        """Waits for the end, however long."""
        pid = self.process()
        if pid is not None:
            await _gone(pid)
        return self.exit()

    def exit(self) -> Exit:
        """What it left; `vanished` when it was killed before it could."""
        try:
            status, cause, started, ended, set_up = (self.control / "exit").read_text().split()
        except (OSError, ValueError):
            return Exit(-signal.SIGKILL, "vanished", 0.0, 0.0, True)
        return Exit(int(status), cause, float(started), float(ended), set_up == "1")

    def stop(self, grace_seconds: float) -> None:
        """TERM, grace, KILL for the script, done by the supervising process."""
        (self.control / "stop").write_text(f"{grace_seconds}\n")
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """At once, without an exit; bubblewrap dies with its parent and takes the script along.

        Halted first: killed between its fork and bubblewrap's request to die with it, it would leave the script behind.
        """
        pid = self.process()
        if pid is None:
            return
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + HALT_SECONDS
        while supervise.state(pid) not in ("T", "") and time.monotonic() < deadline:
            time.sleep(0.0005)
        members = supervise.descendants(pid)
        self._signal(signal.SIGKILL)
        for member in members:
            supervise.kill(member, signal.SIGKILL)

    def renew(self, until_monotonic: float) -> None:
        """Moves the deadline at which the supervising process ends a run that another node may take."""
        making = self.control / "lease.new"
        making.write_text(f"{until_monotonic}\n")
        making.rename(self.control / "lease")

    def _signal(self, number: int) -> None:
        pid = self.process()
        if pid is not None:
            supervise.kill(pid, number)


async def _gone(pid: int) -> None:
    """Returns when the process has ended, child of ours or not."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(file, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(file)
        os.close(file)

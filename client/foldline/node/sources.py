"""The files of one attempt that are sent while they grow: points, system metrics, the script's log, the log of its environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from foldline.node import beneath, cgroups, points, supervise
from foldline.node.folder import AttemptFolder
from foldline.node.launcher import Supervised
from foldline.node.preparation import Node
from foldline.node.reports import Reports
from foldline.node.spool import Shipper
from foldline.node.system_metrics import Sampler

LOG_BYTES_MAX = 1 << 20
LOG_NAME = "user_logs/std_log.txt"
BUILD_LOG_NAME = "system_logs/environment.txt"


class Sources:
    """Opens them, and holds their descriptors and watches until `close`."""

    def __init__(self, node: Node, folder: AttemptFolder, reports: Reports) -> None:
        self._node, self._folder, self._reports = node, folder, reports
        self._files: list[int] = []
        self._watched: list[int] = []

    def open(self) -> tuple[list[Shipper], tuple[Shipper, Shipper, Shipper]]:
        """All of them, and of these the script's points, the system's points and the log."""
        control, spool = self._folder.control, self._folder.run / "spool" / "points.jsonl"
        (control / "system.jsonl").touch(mode=0o600)
        script = self._points("points", self._spool())
        system = self._points("system", self._opened(control / "system.jsonl"))
        log = self._log("std_log", LOG_NAME, control / "std_log.txt")
        self._follow(spool, script)
        self._follow(control / "system.jsonl", system)
        self._follow(control / "std_log.txt", log)
        made = [script, system, log]
        if (control / "environment.log").exists():
            made.append(self.build_log())
        return made, (script, system, log)

    def build_log(self) -> Shipper:
        return self._log("environment", BUILD_LOG_NAME, self._folder.control / "environment.log")

    def sampler(self, supervised: Supervised, started: float) -> Sampler:
        procs = self._folder.cgroups
        spool = os.open(self._folder.control / "system.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._files.append(spool)

        def processes() -> Sequence[int]:
            pid = supervised.process()
            return cgroups.processes(procs) or (sorted(supervise.descendants(pid)) if pid else [])

        return Sampler(
            spool, str(self._folder.path), processes, lambda: cgroups.memory_used(procs), started=started,
            interval_seconds=self._node.settings.sample_seconds,
        )

    def close(self) -> None:
        while self._watched:
            self._node.watch.remove(self._watched.pop())
        while self._files:
            os.close(self._files.pop())

    def _spool(self) -> int:
        """The script's spool; it may have taken it away, or put a link in its place."""
        root = beneath.open_root(self._folder.run)
        try:
            spool, _ = beneath.open_file(root, "spool/points.jsonl")
        except (beneath.Refused, OSError):
            return self._opened(Path("/dev/null"))
        finally:
            os.close(root)
        self._files.append(spool)
        return spool

    def _opened(self, path: Path) -> int:
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._files.append(file)
        return file

    def _points(self, name: str, file: int) -> Shipper:
        source = f"{self._reports.attempt}/{name}"

        async def send(sequence: int, _: int, data: bytes) -> bytes | None:
            return await self._reports.points(source, name, sequence, data, self._complain)

        return Shipper(
            source, file, self._folder.control / f"{name}.state", cut=points.cut, send=send, read_max=points.READ_MAX,
            line_max=points.LINE_BYTES_MAX, pace_seconds=self._node.settings.pace_seconds,
        )

    def _log(self, name: str, log_name: str, path: Path) -> Shipper:
        source = f"{self._reports.attempt}/{name}"

        async def send(sequence: int, offset: int, data: bytes) -> bytes | None:
            return await self._reports.log(source, log_name, sequence, offset, data)

        return Shipper(
            source, self._opened(path), self._folder.control / f"{name}.state", cut=len, send=send, read_max=LOG_BYTES_MAX,
            pace_seconds=self._node.settings.pace_seconds,
        )

    def _follow(self, path: Path, shipper: Shipper) -> None:
        self._watched.append(self._node.watch.add(path, shipper.wake.set))
        shipper.wake.set()

    def _complain(self, sentence: str) -> None:
        """Into the run's own log, where its author looks."""
        file = os.open(self._folder.control / "std_log.txt", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(file, f"[foldline: {sentence}]\n".encode())
        finally:
            os.close(file)

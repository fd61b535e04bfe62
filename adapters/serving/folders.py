"""Where everything of the pool lies, and what is written down about a replica so that it can be adopted.

    .content/<workspace>/<digest>/      models and code, shared by replicas
    .foldline/<hash>/foldline/          the package that workers import
    .sockets/<12 hex>/worker            a replica's socket; its folder lets in the worker's uid and the gateway's group only
    .logs/…                             the last logs of replicas that are gone
    <workspace>/<endpoint>/<replica>/   order.json, start, control/ (process, exit, log: ours only), work/ and tmp/ (the worker's)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.serving.outliving import Process, adopted
from core.ids import WorkspaceId
from core.ports import ReplicaOrder

LOG_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ReplicaFolder:
    root: Path
    workspace: WorkspaceId
    endpoint: str
    replica: str

    @property
    def path(self) -> Path:
        return self.root / self.workspace / self.endpoint / self.replica

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"

    @property
    def start(self) -> Path:
        """What the worker's shell does first: its variables, then the worker."""
        return self.path / "start"

    @property
    def socket(self) -> Path:
        """Short, since a Unix socket's path has 107 bytes at most."""
        name = hashlib.sha256(f"{self.workspace}/{self.endpoint}/{self.replica}".encode()).hexdigest()[:12]
        return self.root / ".sockets" / name / "worker"

    def record(self, order: ReplicaOrder, uid: int) -> None:
        content = {"order": {**dataclasses.asdict(order), "packages": list(order.packages)}, "uid": uid}
        new = self.path / "order.new"
        new.touch(0o600)
        new.write_text(json.dumps(content))
        new.replace(self.path / "order.json")

    def process(self) -> Process | None:
        """The replica's supervising process, if it is still there."""
        try:
            pid, started = (self.control / "process").read_text().split()
        except (OSError, ValueError):
            return None
        return adopted(int(pid), started)

    def exit_status(self) -> int | None:
        """What the worker ended with, once it has; None when nobody was left to write it down."""
        try:
            return int((self.control / "exit").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def log_lines(self, lines_max: int) -> list[str]:
        return tail([self.control / "std_log.1.txt", self.control / "std_log.txt"], lines_max)

    def write_log(self, line: str) -> None:
        """A line of ours, before the worker has begun."""
        descriptor = os.open(self.control / "std_log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a") as log:
            log.write(line.rstrip("\n") + "\n")


def recorded(root: Path) -> list[tuple[ReplicaFolder, ReplicaOrder, int]]:
    """The replicas that an earlier server has left, with their orders and uids; what cannot be read is left alone."""
    found: list[tuple[ReplicaFolder, ReplicaOrder, int]] = []
    for place in sorted(root.glob("[!.]*/[!.]*/[!.]*/order.json")):
        try:
            content: dict[str, Any] = json.loads(place.read_text())
            order = ReplicaOrder(**{**content["order"], "packages": tuple(content["order"]["packages"])})
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append((ReplicaFolder(root, order.workspace, order.endpoint, order.replica), order, int(content["uid"])))
    return found


def tail(files: list[Path], lines_max: int) -> list[str]:
    lines: list[str] = []
    for file in files:
        try:
            with file.open("rb") as log:
                log.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
                lines += log.read().decode(errors="replace").splitlines()
        except OSError:
            continue
    return lines[-lines_max:] if lines_max > 0 else []

"""The folder of one attempt on the node.

    assignment.json   what is to be executed, with the run's token: the agent's alone
    control/          the supervising process's files, the states of the sources, `order` (once the script may start): the agent's alone
    run/              the script's: code/ home/ tmp/ spool/ named-outputs/ environment/ start
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldline.node import supervise

NAME_MAX = 180
PARTS = ("code", "home", "tmp", "spool", "named-outputs")


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    path: Path

    @classmethod
    def of(cls, runs: Path, run: str, attempt: int) -> AttemptFolder:
        short = run if len(run) <= NAME_MAX else f"{run[:NAME_MAX]}-{hashlib.sha256(run.encode()).hexdigest()[:16]}"
        return cls(runs / f"{short}.{attempt}")

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def cgroup(self) -> str:
        """A name that no other attempt of this machine has."""
        return f"{hashlib.sha256(str(self.path).encode()).hexdigest()[:12]}-{self.path.name}"[:200]

    @property
    def cgroups(self) -> list[str]:
        """The `cgroup.procs` files that the script was put into, as its order has them."""
        try:
            return supervise.decode((self.control / "order").read_bytes()[8:]).get("cgroups", [])
        except OSError:
            return []

    def accept(self, assignment: dict[str, Any], slot: int) -> None:
        """Writes the assignment down before anything of it happens."""
        self.control.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o711)
        self.control.chmod(0o700)
        write_private(self.path / "assignment.json", json.dumps({"slot": slot, "assignment": assignment}).encode())

    def assignment(self) -> tuple[int, dict[str, Any]] | None:
        """The slot and the assignment, or None when it was never accepted whole."""
        try:
            found = json.loads((self.path / "assignment.json").read_text())
            return int(found["slot"]), dict(found["assignment"])
        except (OSError, ValueError, KeyError):
            return None

    def lay_out(self) -> None:
        """Empty folders for the script; what an interrupted preparation left is gone."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(mode=0o755)
        for part in PARTS:
            (self.run / part).mkdir(mode=0o755)
        for part in ("outputs", "logs"):
            (self.run / "code" / part).mkdir(mode=0o755, exist_ok=True)
        (self.run / "spool" / "points.jsonl").touch(mode=0o600)

    def discard(self) -> None:
        """All of it goes; first out of sight, so that no half of it is ever adopted."""
        trash = self.path.parent.parent / "trash" / uuid.uuid4().hex
        trash.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            self.path.rename(trash)
        except FileNotFoundError:
            return
        shutil.rmtree(trash, ignore_errors=True)


def all_in(runs: Path) -> Iterator[AttemptFolder]:
    """Every attempt that is on this node."""
    try:
        names = sorted(path for path in runs.iterdir() if path.is_dir())
    except OSError:
        return
    for path in names:
        yield AttemptFolder(path)


def write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, for the agent's eyes only."""
    making = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    file = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as target:
        target.write(content)
    making.rename(path)

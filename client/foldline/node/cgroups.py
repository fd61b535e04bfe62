"""Limits on a script's processes and memory by cgroup: version 1 where its controllers are mounted, version 2 where those are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path("/sys/fs/cgroup")
PARENT = "foldline"
LIMITS = {1: {"pids": "pids.max", "memory": "memory.limit_in_bytes"}, 2: {"pids": "pids.max", "memory": "memory.max"}}


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Which limits can be set here. `parents` are the folders below which a run gets its own."""

    version: Literal[0, 1, 2]
    parents: dict[str, Path]

    @classmethod
    def probe(cls) -> Cgroups:
        """Tries both versions by making the parent folders. Never raises."""
        if os.getuid() != 0:
            return cls(0, {})
        first = {name: path for name in ("pids", "memory") if (path := _first(name)) is not None}
        if first:
            return cls(1, first)
        second = _second()
        return cls(2, second) if second else cls(0, {})

    @property
    def text(self) -> str:
        """Which limits are in force."""
        return f"{' and '.join(sorted(self.parents))} limited by cgroup v{self.version}" if self.parents else "no cgroup limits"

    def make(self, name: str, *, pids_max: int, memory_bytes: int) -> list[str]:
        """The files that a process writes itself into, to be under the limits."""
        wanted = {"pids": pids_max, "memory": memory_bytes}
        procs: list[str] = []
        for controller, parent in self.parents.items():
            folder = parent / name
            folder.mkdir(exist_ok=True)
            (folder / LIMITS[self.version][controller]).write_text(str(wanted[controller]))
            procs.append(str(folder / "cgroup.procs"))
        if self.version == 2 and "memory" in self.parents:
            _try_write(self.parents["memory"] / name / "memory.swap.max", "0")
        return list(dict.fromkeys(procs))

    def remove(self, name: str) -> None:
        """Lets the folders of `make(name)` go; a process still in them keeps them, and the next `remove` takes them."""
        remove([str(parent / name / "cgroup.procs") for parent in set(self.parents.values())])


def out_of_memory(procs: Sequence[str]) -> bool:
    """Whether the kernel killed a process for memory in the group that `make` gave these files of.

    These functions take the files and not a name: an agent started elsewhere may have other parents than the one that made them.
    """
    for name in ("memory.oom_control", "memory.events"):
        for folder in _folders(procs):
            try:
                words = dict(line.split() for line in (folder / name).read_text().splitlines())
            except (OSError, ValueError):
                continue
            return int(words.get("oom_kill", "0")) > 0
    return False


def memory_used(procs: Sequence[str]) -> int | None:
    """Bytes, page cache included; None where memory is not counted."""
    for name in ("memory.usage_in_bytes", "memory.current"):
        for folder in _folders(procs):
            try:
                return int((folder / name).read_text())
            except (OSError, ValueError):
                continue
    return None


def processes(procs: Sequence[str]) -> list[int]:
    """The pids in the group."""
    for file in procs:
        try:
            return [int(line) for line in Path(file).read_text().split()]
        except (OSError, ValueError):
            continue
    return []


def remove(procs: Sequence[str]) -> None:
    """Lets the group go, unless a process is still in it."""
    for folder in _folders(procs):
        try:
            folder.rmdir()
        except OSError:
            pass


def _folders(procs: Sequence[str]) -> list[Path]:
    return [Path(file).parent for file in procs]


def _first(controller: str) -> Path | None:
    """Below the agent's own cgroup when that is visible, so that limits set around us go on to hold."""
    home = ROOT / controller
    if not (home / "cgroup.procs").exists():
        return None
    own = ""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = path.lstrip("/")
    for base in (home / own, home):
        if base.name == PARENT or PARENT in base.relative_to(home).parts:
            base = home  # an agent started inside a run's cgroup would nest for ever
        try:
            (base / PARENT).mkdir(exist_ok=True)
            trial = base / PARENT / f"probe-{os.getpid()}"
            trial.mkdir()
            trial.rmdir()
        except OSError:
            continue
        return base / PARENT
    return None


def _second() -> dict[str, Path]:
    if not (ROOT / "cgroup.controllers").exists():
        return {}
    try:
        (ROOT / PARENT).mkdir(exist_ok=True)
        for folder in (ROOT, ROOT / PARENT):
            _try_write(folder / "cgroup.subtree_control", "+pids")
            _try_write(folder / "cgroup.subtree_control", "+memory")
        there = (ROOT / PARENT / "cgroup.subtree_control").read_text().split()
    except OSError:
        return {}
    return {name: ROOT / PARENT for name in ("pids", "memory") if name in there}


def _try_write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:
        pass

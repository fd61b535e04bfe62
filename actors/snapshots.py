"""Where actors keep their states between two starts. A cache: what is missing or unreadable is folded again from the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An actor's states of one shard, as JSON, with the next offset to hear."""

    next_offset: int
    content: bytes


class Snapshots(Protocol):
    """Kept by (log, shard, role). A version that is asked for and not there is None."""

    async def load(self, log: str, shard: int, role: str, version: int) -> Snapshot | None: ...

    async def save(self, log: str, shard: int, role: str, version: int, snapshot: Snapshot) -> None:
        """Replaces what was there, whatever its version; one that is further on in the same version is kept."""
        ...


class NoSnapshots:
    """Keeps nothing: every start folds from the beginning."""

    async def load(self, log: str, shard: int, role: str, version: int) -> Snapshot | None:
        return None

    async def save(self, log: str, shard: int, role: str, version: int, snapshot: Snapshot) -> None:
        return

"""The in-memory twin of the actors' snapshots."""

from __future__ import annotations

from actors.snapshots import Snapshot


class MemorySnapshots:
    """Implements actors.snapshots.Snapshots."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, str], tuple[int, Snapshot]] = {}

    async def load(self, log: str, shard: int, role: str, version: int) -> Snapshot | None:
        kept = self._kept.get((log, shard, role))
        return kept[1] if kept is not None and kept[0] == version else None

    async def save(self, log: str, shard: int, role: str, version: int, snapshot: Snapshot) -> None:
        kept = self._kept.get((log, shard, role))
        if kept is None or kept[0] != version or kept[1].next_offset < snapshot.next_offset:
            self._kept[log, shard, role] = (version, snapshot)

"""Actors' snapshots in the table `actor_snapshot`."""

from __future__ import annotations

import zstandard

from actors.snapshots import Snapshot
from adapters.postgres.pool import Database

CONTENT_BYTES_MAX = 256 * 1024 * 1024

LOAD = """
SELECT next_offset, content FROM actor_snapshot WHERE log = $1 AND shard = $2 AND role = $3 AND version = $4
"""
SAVE = """
INSERT INTO actor_snapshot (log, shard, role, version, next_offset, content) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (log, shard, role) DO UPDATE
SET version = excluded.version, next_offset = excluded.next_offset, content = excluded.content, saved_at = now()
WHERE actor_snapshot.version <> excluded.version OR actor_snapshot.next_offset < excluded.next_offset
"""


class PostgresSnapshots:
    """Implements actors.snapshots.Snapshots."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, log: str, shard: int, role: str, version: int) -> Snapshot | None:
        row = await self._database.fetchrow(LOAD, log, shard, role, version)
        if row is None:
            return None
        return Snapshot(row["next_offset"], zstandard.ZstdDecompressor().decompress(row["content"], max_output_size=CONTENT_BYTES_MAX))

    async def save(self, log: str, shard: int, role: str, version: int, snapshot: Snapshot) -> None:
        content = zstandard.ZstdCompressor(level=3).compress(snapshot.content)
        await self._database.execute(SAVE, log, shard, role, version, snapshot.next_offset, content)

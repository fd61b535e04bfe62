"""Which server writes which shard: the lease table in Postgres, by the database's clock.

Leases only choose; the fence of the producer protects. Without a renewal for one term (Postgres away) a server goes on
appending, but `epoch` answers None, so that its actors make no call to the outside until the lease is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.postgres.pool import Database

TERM_SECONDS = 5.0
RENEW_SECONDS = 1.0

# A free shard, one whose lease ran out, and what an earlier process of this very server left behind.
TAKE = """
INSERT INTO shard_lease (topic, shard, owner, url, epoch, until)
SELECT $1, shard, $3, $4, 1, clock_timestamp() + make_interval(secs => $5) FROM generate_series(0, $2 - 1) AS shard
WHERE NOT shard = ANY($6::int[])
ON CONFLICT (topic, shard) DO UPDATE
SET owner = excluded.owner, url = excluded.url, until = excluded.until, epoch = shard_lease.epoch + 1
WHERE shard_lease.until < clock_timestamp() OR shard_lease.owner = excluded.owner
RETURNING shard, epoch
"""
# $5 seconds from now on: a term, or none to give the leases back. Rows are locked in the order in which TAKE locks them.
HOLD = """
WITH held AS (
    SELECT lease.shard FROM shard_lease AS lease JOIN unnest($3::int[], $4::bigint[]) AS mine (shard, epoch) USING (shard, epoch)
    WHERE lease.topic = $1 AND lease.owner = $2 ORDER BY lease.shard FOR UPDATE OF lease
)
UPDATE shard_lease AS lease SET until = clock_timestamp() + make_interval(secs => $5)
FROM held WHERE lease.topic = $1 AND lease.shard = held.shard
RETURNING lease.shard
"""
DIRECTORY = "SELECT shard, owner, url, epoch FROM shard_lease WHERE topic = $1 AND until > clock_timestamp()"


@dataclass(frozen=True, slots=True)
class Lease:
    """Who writes a shard now, and where that server is reached."""

    owner: str
    url: str
    epoch: int


class Leases:
    """The leases of one server. `server` is stable over its restarts: a restarted server takes its own shards at once."""

    def __init__(self, database: Database, topic: str, shards: int, *, server: str, url: str) -> None:
        self._database, self._topic, self._shards = database, topic, shards
        self._server, self._url = server, url
        self._held: dict[int, int] = {}
        self._valid_until = 0.0
        self._turn = asyncio.Lock()

    @property
    def held(self) -> Mapping[int, int]:
        """Shard to epoch, as of the last answer of Postgres."""
        return self._held

    def epoch(self, shard: int) -> int | None:
        """The epoch under which the shard is held, or None, also when no renewal was answered for one term."""
        if asyncio.get_running_loop().time() >= self._valid_until:
            return None
        return self._held.get(shard)

    async def take(self) -> Mapping[int, int]:
        """Takes every shard that nobody holds; those that were taken now, with their epochs. Raises: Postgres errors."""
        async with self._turn:
            asked = asyncio.get_running_loop().time()
            rows = await self._database.fetch(TAKE, self._topic, self._shards, self._server, self._url, TERM_SECONDS, list(self._held))
            taken = {row["shard"]: row["epoch"] for row in rows}
            if taken and not self._held:
                self._valid_until = asked + TERM_SECONDS
            self._held.update(taken)
            return taken

    async def renew(self) -> set[int]:
        """Lengthens what is held; the shards that were lost to another owner. Raises: Postgres errors."""
        async with self._turn:
            asked, mine = asyncio.get_running_loop().time(), dict(self._held)
            rows = await self._database.fetch(HOLD, self._topic, self._server, list(mine), list(mine.values()), TERM_SECONDS)
            lost = set(mine) - {row["shard"] for row in rows}
            for shard in lost:
                del self._held[shard]
            self._valid_until = asked + TERM_SECONDS
            return lost

    async def release(self) -> None:
        """Gives all of it back, so that another server need not wait for a term. Raises: Postgres errors."""
        async with self._turn:
            mine, self._held = self._held, {}
            await self._database.fetch(HOLD, self._topic, self._server, list(mine), list(mine.values()), 0.0)

    async def directory(self) -> Mapping[int, Lease]:
        """The owner of each shard that has one now: where a request is forwarded to. Raises: Postgres errors."""
        rows = await self._database.fetch(DIRECTORY, self._topic)
        return {row["shard"]: Lease(row["owner"], row["url"], row["epoch"]) for row in rows}

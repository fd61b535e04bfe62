"""The Postgres log under the contract, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest

from adapters.postgres.log import PostgresLog
from adapters.postgres.pool import Database
from adapters.postgres.records import parse_attributes, spell_attributes
from core.envelope import Sealed
from tests.contract.event_log import EventLogContract, Log
from tests.contract.settable_clock import SettableClock

RAW = "SELECT position, attributes, value FROM event WHERE shard = $1 ORDER BY position"
PLANT = """
WITH moved AS (UPDATE shard SET head = head + 1 WHERE log = 'postgres' AND shard = $1 RETURNING head - 1 AS at)
INSERT INTO event (shard, position, last, workspace, stream, version, sequence, attributes, value)
SELECT $1, at, at, $2, $3, $4, $5, $6, $7 FROM moved"""


class PostgresHarness:
    def __init__(self, dsn: str, shards: int, tail_max: int = 5_000) -> None:
        self.clock = SettableClock()
        self._dsn, self._shards, self._tail_max = dsn, shards, tail_max
        self._open: dict[int, AsyncExitStack] = {}

    async def open(self) -> PostgresLog:
        stack = AsyncExitStack()
        database = await stack.enter_async_context(Database(self._dsn, connections_max=4))
        log = await stack.enter_async_context(PostgresLog(database, self.clock, shards=self._shards, tail_max=self._tail_max))
        self._open[id(log)] = stack
        return log

    async def close(self, log: Log) -> None:
        await self._open.pop(id(log)).aclose()

    async def close_all(self) -> None:
        for stack in reversed(list(self._open.values())):
            await stack.aclose()

    async def plant(self, log: Log, shard: int, sealed: Sealed) -> PostgresLog:
        await self.close(log)
        known = sealed.attributes
        async with Database(self._dsn) as database:
            await database.execute(
                PLANT, shard, known["partitionkey"], known["subject"], int(known["streamversion"]), int(known["sequence"]),
                spell_attributes(known), sealed.value,
            )
        return await self.open()

    async def raw(self, log: Log, shard: int) -> Sequence[tuple[int, Mapping[str, str], bytes]]:
        async with Database(self._dsn) as database:
            return [(row["position"], parse_attributes(row["attributes"]), row["value"]) for row in await database.fetch(RAW, shard)]


class TestPostgresLog(EventLogContract):
    @pytest.fixture
    async def harness(self, dsn: str) -> AsyncIterator[PostgresHarness]:
        harness = PostgresHarness(dsn, shards=4)
        yield harness
        await harness.close_all()


class TestPostgresLogWithoutTail(EventLogContract):
    """One shard, and followers read nearly everything from the table, as after a restart."""

    @pytest.fixture
    async def harness(self, dsn: str) -> AsyncIterator[PostgresHarness]:
        harness = PostgresHarness(dsn, shards=1, tail_max=0)
        yield harness
        await harness.close_all()

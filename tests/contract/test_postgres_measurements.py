"""The Postgres log of measurements under the contract, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from adapters.postgres.measurements import PostgresMeasurements
from adapters.postgres.pool import Database
from core.ports import Measurements
from tests.contract.measurements import MeasurementsContract
from tests.contract.settable_clock import SettableClock


class PostgresHarness:
    def __init__(self, dsn: str, shards: int) -> None:
        self.clock = SettableClock()
        self._dsn, self._shards = dsn, shards
        self._open: dict[int, AsyncExitStack] = {}

    async def open(self) -> PostgresMeasurements:
        stack = AsyncExitStack()
        database = await stack.enter_async_context(Database(self._dsn, connections_max=4))
        measurements = await stack.enter_async_context(PostgresMeasurements(database, self.clock, shards=self._shards))
        self._open[id(measurements)] = stack
        return measurements

    async def close(self, measurements: Measurements) -> None:
        await self._open.pop(id(measurements)).aclose()

    async def close_all(self) -> None:
        for stack in reversed(list(self._open.values())):
            await stack.aclose()


@pytest.mark.parametrize("shards", [1, 3])
class TestPostgresMeasurements(MeasurementsContract):
    @pytest.fixture
    async def harness(self, dsn: str, shards: int) -> AsyncIterator[PostgresHarness]:
        harness = PostgresHarness(dsn, shards)
        yield harness
        await harness.close_all()

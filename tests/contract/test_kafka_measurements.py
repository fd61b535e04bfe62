"""The log of measurements on a real Kafka broker under the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from adapters.kafka.connection import Connection
from adapters.kafka.measurements import KafkaMeasurements
from adapters.kafka.setup import Topics
from core.ports import Measurements
from tests.contract.kafka_fixtures import connection, kafka, topics
from tests.contract.measurements import MeasurementsContract
from tests.contract.settable_clock import SettableClock

__all__ = ["connection", "kafka", "topics"]
pytestmark = pytest.mark.kafka


class KafkaMeasurementsHarness:
    def __init__(self, connection: Connection, topics: Topics) -> None:
        self.clock = SettableClock()
        self._connection, self._topics = connection, topics
        self._open: dict[int, AsyncExitStack] = {}

    async def open(self) -> KafkaMeasurements:
        stack = AsyncExitStack()
        measurements = await stack.enter_async_context(KafkaMeasurements(self._connection, self._topics.measurements))
        self._open[id(measurements)] = stack
        return measurements

    async def close(self, measurements: Measurements) -> None:
        await self._open.pop(id(measurements)).aclose()

    async def close_all(self) -> None:
        while self._open:
            await self._open.popitem()[1].aclose()


class TestKafkaMeasurements(MeasurementsContract):
    @pytest.fixture
    async def harness(self, connection: Connection, topics: Topics) -> AsyncIterator[KafkaMeasurementsHarness]:
        harness = KafkaMeasurementsHarness(connection, topics)
        yield harness
        await harness.close_all()

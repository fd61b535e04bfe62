"""The memory twin of the measurements log under the contract. One process, so one twin is every server's."""

from __future__ import annotations

import pytest

from adapters.memory.measurements import MemoryMeasurements
from core.ports import Measurements
from tests.contract.measurements import MeasurementsContract
from tests.contract.settable_clock import SettableClock


class MemoryHarness:
    def __init__(self, shards: int) -> None:
        self.clock = SettableClock()
        self._twin = MemoryMeasurements(self.clock, shards=shards)

    async def open(self) -> Measurements:
        return self._twin

    async def close(self, measurements: Measurements) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("shards", [1, 3])
class TestMemoryMeasurements(MeasurementsContract):
    @pytest.fixture
    def harness(self, shards: int) -> MemoryHarness:
        return MemoryHarness(shards)

"""The memory twin under the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from adapters.memory.log import MemoryLog, MemoryStore
from core.envelope import Sealed
from tests.contract.event_log import EventLogContract, Log
from tests.contract.planting import plant_in_memory
from tests.contract.settable_clock import SettableClock


class MemoryHarness:
    def __init__(self, shards: int) -> None:
        self.clock = SettableClock()
        self.store = MemoryStore(shards=shards)

    async def open(self) -> MemoryLog:
        return MemoryLog(self.clock, self.store)

    async def close(self, log: Log) -> None:
        """Nothing is held."""

    async def plant(self, log: Log, shard: int, sealed: Sealed) -> MemoryLog:
        plant_in_memory(self.store, shard, sealed)
        return await self.open()

    async def raw(self, log: Log, shard: int) -> Sequence[tuple[int, Mapping[str, str], bytes]]:
        assert isinstance(log, MemoryLog)
        return log.raw(shard)


@pytest.mark.parametrize("shards", [1, 4])
class TestMemoryLog(EventLogContract):
    @pytest.fixture
    def harness(self, shards: int) -> MemoryHarness:
        return MemoryHarness(shards)

"""The in-memory twin of the measurements log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from adapters.following import Bell, Entry, Tail, follow
from core.ids import Position, WorkspaceId, shard_of
from core.ports import Clock, Measured, MeasuredBatch, MeasurementBatch


class MemoryMeasurements:
    """Implements core.ports.Measurements. Keeps everything."""

    def __init__(self, clock: Clock, *, shards: int = 1, log_id: str = "memory-measurements") -> None:
        self._clock, self._id = clock, log_id
        self._tails: dict[int, Tail[Measured]] = {n: Tail(0, entries_max=1 << 62, bytes_max=1 << 62) for n in range(shards)}
        self._bell = Bell()

    @property
    def id(self) -> str:
        return self._id

    @property
    def shards(self) -> int:
        return len(self._tails)

    async def append(self, batch: MeasurementBatch) -> Position:
        shard = shard_of(WorkspaceId(batch.run), len(self._tails))
        tail = self._tails[shard]
        position = Position(self._id, shard, tail.end)
        tail.extend([Entry(tail.end, tail.end, Measured(batch, self._clock.now(), position), len(batch.body))])
        self._bell.ring()
        return position

    async def ends(self) -> Mapping[int, int]:
        return {shard: tail.end for shard, tail in self._tails.items()}

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[MeasuredBatch]:
        until = None if follow else {shard: tail.end for shard, tail in self._tails.items()}
        return self._batches(dict(start), batch_max, until)

    async def _batches(
        self, start: Mapping[int, int], batch_max: int, until: Mapping[int, int] | None,
    ) -> AsyncGenerator[MeasuredBatch, None]:
        batches = follow(self._tails, self._bell, _never_read, start, batch_max, until)
        try:
            async for shard, items, next_offset in batches:
                yield MeasuredBatch(shard, tuple(items), next_offset)
        finally:
            await batches.aclose()


async def _never_read(shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[Measured], int]:
    raise AssertionError(f"the memory log keeps everything in its tail; asked for {shard}:{offset}..{end} ({batch_max})")

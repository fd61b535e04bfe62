"""The two logs behind one shape, so that one runner serves read models of both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from core.ports import EventLog, Measured, Measurements
from projections.readmodel import Item, Topic


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive items of one shard; it never ends inside a commit."""

    shard: int
    items: Sequence[Item]
    next_offset: int


class Source:
    """A log as the runner reads it."""

    def __init__(self, topic: Topic, log: EventLog | Measurements) -> None:
        self.topic, self._log = topic, log

    @property
    def id(self) -> str:
        return self._log.id

    @property
    def shards(self) -> int:
        return self._log.shards

    async def ends(self) -> Mapping[int, int]:
        return await self._log.ends()

    async def slices(self, start: Mapping[int, int], *, batch_max: int, follow: bool = True) -> AsyncGenerator[Slice, None]:
        """From the given next offsets of *all* shards; a shard that is not named begins at 0."""
        whole = {shard: start.get(shard, 0) for shard in range(self.shards)}
        batches = self._log.subscribe(whole, batch_max=batch_max, follow=follow)
        try:
            async for batch in batches:
                items: Sequence[Item] = batch.recorded if hasattr(batch, "recorded") else batch.measured
                yield Slice(batch.shard, items, batch.next_offset)
        finally:
            if isinstance(batches, AsyncGenerator):
                with contextlib.suppress(RuntimeError):
                    await batches.aclose()


def workspace_of(item: Item) -> str:
    return item.batch.workspace if isinstance(item, Measured) else item.workspace


def name_of(item: Item) -> str:
    """Names the item for a person who looks for it in the log."""
    if isinstance(item, Measured):
        return f"{item.batch.run} {item.batch.kind} {item.batch.source} #{item.batch.sequence}"
    return f"{item.event.type} {item.id}"

"""The two logs behind one shape, so that one runner serves read models of both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from core.events import Event, Unreadable
from core.ports import EventLog, Measured, MeasuredBatch, Measurements
from projections.readmodel import Item, ReadModel, Topic


@dataclass(frozen=True)
class Slice:
    """Consecutive items of one shard; it never ends inside a commit."""

    shard: int
    items: Sequence[Item]
    next_offset: int

    @cached_property
    def _kinds(self) -> Sequence[type[Event] | None]:
        return [None if isinstance(item, Measured) else type(item.event) for item in self.items]

    def heard_by(self, model: ReadModel[Any]) -> Sequence[Item]:
        """Those of the items that can touch a row of the model at all: an event that cannot be read may be meant for any."""
        hears = model.hears
        if hears is None:
            return self.items
        return [item for item, kind in zip(self.items, self._kinds, strict=True) if kind in hears or kind is Unreadable]


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
                items: Sequence[Item] = batch.measured if isinstance(batch, MeasuredBatch) else batch.recorded
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

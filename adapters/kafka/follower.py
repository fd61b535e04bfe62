"""A subscription: shards that this server writes come from memory right after the commit, all else by consuming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

import structlog

from adapters.following import Bell
from adapters.kafka.errors import BROKERS_AWAY
from adapters.kafka.feed import Feed
from adapters.kafka.knowledge import readable
from adapters.kafka.reader import Fetched, Reader
from adapters.kafka.tail import commits
from core.events import Recorded
from core.ports import Batch

Feeds = Callable[[int], Feed | None]
OpenReader = Callable[[Mapping[int, int]], Reader]
MIXED_WAIT_SECONDS = 0.05
"""How long one looks at foreign shards before own ones are looked at again."""
REMOTE_WAIT_SECONDS = 5.0
AWAY_SECONDS = 0.5

log = structlog.get_logger()


class Follower:
    """One subscription: where it is in each shard, and a reader while some of them are not in memory."""

    def __init__(
        self, log: str, feeds: Feeds, bell: Bell, open_reader: OpenReader, start: Mapping[int, int], batch_max: int,
        until: Mapping[int, int] | None,
    ) -> None:
        self._log_id, self._feeds, self._bell, self._open_reader = log, feeds, bell, open_reader
        self._offsets, self._batch_max = dict(start), batch_max
        self._until = until
        self._read: dict[int, int] = {}
        """Where the reader is, markers included."""

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The batches, until `until` is reached or for ever."""
        woken = self._bell.join()
        try:
            while True:
                woken.clear()
                moved = False
                for shard in self._local():
                    feed = self._feeds(shard)
                    while feed is not None and (found := self._near(feed, shard)):
                        moved = True
                        yield self._batch(shard, found)
                remote = self._remote()
                if remote:
                    try:
                        async for batch in self._consume(remote):
                            yield batch
                    except BROKERS_AWAY as error:
                        log.warning("kafka.brokers_away", shards=sorted(remote), error=repr(error))
                        await asyncio.sleep(AWAY_SECONDS)
                elif moved:
                    continue
                elif self._until is not None:
                    return
                else:
                    await woken.wait()
        finally:
            self._bell.leave(woken)

    def _local(self) -> list[int]:
        return [shard for shard, offset in self._offsets.items() if (feed := self._feeds(shard)) is not None and feed.holds(offset)]

    def _remote(self) -> dict[int, int]:
        local = set(self._local())
        return {shard: offset for shard, offset in self._offsets.items() if shard not in local and not self._reached(shard)}

    def _reached(self, shard: int) -> bool:
        return self._until is not None and max(self._offsets[shard], self._read.get(shard, 0)) >= self._until[shard]

    def _near(self, feed: Feed, shard: int) -> tuple[Recorded, ...]:
        until = None if self._until is None else self._until[shard]
        return feed.since(self._offsets[shard], until, self._batch_max)

    def _batch(self, shard: int, recorded: tuple[Recorded, ...]) -> Batch:
        self._offsets[shard] = recorded[-1].position.offset + 1
        return Batch(shard, recorded, self._offsets[shard])

    async def _consume(self, remote: Mapping[int, int]) -> AsyncGenerator[Batch, None]:
        """Reads these shards until none of them is left to be read, or another one has to be."""
        passed: set[int] = set()
        async with self._open_reader(remote) as reader:
            while (left := set(self._remote())) and left <= set(remote) - passed:
                mixed = len(left) < len(self._offsets)
                for fetched in await reader.fetch(MIXED_WAIT_SECONDS if mixed else REMOTE_WAIT_SECONDS):
                    if fetched.partition not in self._remote():
                        passed.add(fetched.partition)  # had from memory by now; this reader cannot go back to it
                        continue
                    for recorded in self._cut(fetched):
                        yield self._batch(fetched.partition, recorded)
                self._read.update((shard, offset) for shard, offset in (await reader.positions()).items() if shard not in passed)
                for shard in self._local():
                    feed = self._feeds(shard)
                    while feed is not None and (found := self._near(feed, shard)):
                        yield self._batch(shard, found)

    def _cut(self, fetched: Fetched) -> list[tuple[Recorded, ...]]:
        """Whole commits, about `batch_max` events together, none at or over `until`."""
        until = None if self._until is None else self._until[fetched.partition]
        entries = readable(self._log_id, (record for record in fetched.records if until is None or record.offset < until))
        batches: list[list[Recorded]] = []
        for _, commit in commits(entries):
            if batches and len(batches[-1]) + len(commit) <= self._batch_max:
                batches[-1].extend(commit)
            else:
                batches.append(list(commit))
        return [tuple(batch) for batch in batches]


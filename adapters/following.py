"""Following a log: the newest records of each shard in memory, a bell that wakes followers, and older ones by range reads.

Shared by the logs that keep gapless offsets (memory and Postgres). A commit becomes visible here only once it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ENTRIES_MAX = 5_000
TAIL_BYTES_MAX = 16 * 1024 * 1024

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Item]):
    """One record at its offset; `last` is the offset of its commit's last record."""

    offset: int
    last: int
    item: Item
    size: int


class Bell:
    """Wakes every follower that waits."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        for event in self._waiting:
            event.set()

    def join(self) -> asyncio.Event:
        event = asyncio.Event()
        self._waiting.add(event)
        return event

    def leave(self, event: asyncio.Event) -> None:
        self._waiting.discard(event)


class Tail(Generic[Item]):
    """The newest durable records of one shard: offsets `start` to `end`, without holes."""

    def __init__(self, end: int, *, entries_max: int = ENTRIES_MAX, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self.start = self.end = end
        self._entries: list[Entry[Item]] = []
        self._size = 0
        self._entries_max, self._bytes_max = entries_max, bytes_max

    def extend(self, entries: Sequence[Entry[Item]]) -> None:
        """Adds whole commits that follow `end`; the oldest half goes when the limits are reached."""
        if not entries:
            return
        if entries[0].offset != self.end:
            raise ValueError(f"the tail ends at {self.end}, not at {entries[0].offset}")
        self._entries.extend(entries)
        self._size += sum(entry.size for entry in entries)
        self.end = entries[-1].offset + 1
        if len(self._entries) > self._entries_max or self._size > self._bytes_max:
            self._drop_half()

    def advance(self, end: int) -> None:
        """Says that the shard is durable up to `end`, without its records: they are read where they are stored."""
        if end > self.end:
            self._entries.clear()
            self._size = 0
            self.start = self.end = end

    def since(self, offset: int, end: int, batch_max: int) -> tuple[Sequence[Item], int]:
        """Items from `offset` and before `end`, about `batch_max` of them, no commit split; and the next offset."""
        first = offset - self.start
        final = min(first + batch_max, end - self.start)
        return whole_commits(self._entries[first:final], lambda last: self._entries[final : last + 1 - self.start])

    def _drop_half(self) -> None:
        keep = len(self._entries) // 2
        gone = self._entries[:-keep] if keep else self._entries
        self._size -= sum(entry.size for entry in gone)
        self._entries = self._entries[len(gone) :]
        self.start = self._entries[0].offset if self._entries else self.end


def whole_commits(entries: Sequence[Entry[Item]], rest: Callable[[int], Sequence[Entry[Item]]]) -> tuple[Sequence[Item], int]:
    """The items of `entries` and the next offset, the last commit completed or left for the next batch.

    `rest(last)` gives the records after `entries` up to offset `last`; it is asked only when one commit is the whole batch.
    """
    final = entries[-1]
    if final.last > final.offset:
        whole = [entry for entry in entries if entry.last != final.last]
        entries = whole or [*entries, *rest(final.last)]
    return [entry.item for entry in entries], entries[-1].offset + 1


Read = Callable[[int, int, int, int], Awaitable[tuple[Sequence[Item], int]]]
"""read(shard, offset, end, batch_max): durable items from `offset`, no commit split, and the next offset."""


async def follow(
    tails: Mapping[int, Tail[Item]],
    bell: Bell,
    read: Read[Item],
    start: Mapping[int, int],
    batch_max: int,
    until: Mapping[int, int] | None,
) -> AsyncGenerator[tuple[int, Sequence[Item], int], None]:
    """Batches of the shards in `start`, in turn; ends when `until` is reached, or never. Starts over `end` wait for it."""
    following = dict(start)
    woken = bell.join()
    try:
        while True:
            woken.clear()
            moved = False
            for shard in following:
                offset, tail = following[shard], tails[shard]
                end = tail.end if until is None else min(tail.end, until[shard])
                if offset >= end:
                    continue
                if offset >= tail.start:
                    items, following[shard] = tail.since(offset, end, batch_max)
                else:
                    items, following[shard] = await read(shard, offset, end, batch_max)
                moved = True
                if items:
                    yield shard, items, following[shard]
            if moved:
                continue
            if until is not None:
                return
            await woken.wait()
    finally:
        bell.leave(woken)

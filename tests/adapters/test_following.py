"""Following a log: what the tail keeps, when records are read where they are stored, and that no commit is split."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from adapters.following import Bell, Entry, Tail, follow, whole_commits


def entries(*sizes: int, start: int = 0) -> list[Entry[int]]:
    """Commits of the given sizes, one after the other; each item is its own offset."""
    made: list[Entry[int]] = []
    for size in sizes:
        first = start + len(made)
        made += [Entry(first + n, first + size - 1, first + n, 1) for n in range(size)]
    return made


class Store:
    """Everything that was ever written, as a database has it; counts how often it is asked."""

    def __init__(self, written: Sequence[Entry[int]]) -> None:
        self.written, self.asked = written, 0

    async def read(self, shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[int], int]:
        self.asked += 1
        found = self.written[offset : min(end, offset + batch_max)]
        return whole_commits(found, lambda last: self.written[found[-1].offset + 1 : last + 1])


async def collect(batches: AsyncIterator[tuple[int, Sequence[int], int]]) -> list[tuple[list[int], int]]:
    return [(list(items), next_offset) async for _, items, next_offset in batches]


@pytest.mark.parametrize("batch_max", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("kept", [0, 1, 3, 5, 100])
async def test_every_record_comes_once_and_no_commit_is_split(batch_max: int, kept: int) -> None:
    written = entries(1, 3, 1, 5, 2, 1, 1)
    tail: Tail[int] = Tail(0, entries_max=kept)
    for entry in written:
        if entry.offset == entry.last:
            tail.extend([one for one in written if one.last == entry.last])
    batches = await collect(follow({0: tail}, Bell(), Store(written).read, {0: 0}, batch_max, {0: tail.end}))
    assert [item for items, _ in batches for item in items] == list(range(14))
    lasts = {entry.last for entry in written}
    assert all(items[-1] in lasts and next_offset == items[-1] + 1 for items, next_offset in batches)


async def test_what_the_tail_holds_is_never_read_from_the_store() -> None:
    written = entries(*[1] * 10)
    tail: Tail[int] = Tail(0)
    tail.extend(written)
    store = Store(written)
    await collect(follow({0: tail}, Bell(), store.read, {0: 0}, 3, {0: 10}))
    assert store.asked == 0


async def test_the_older_half_goes_when_there_are_too_many_or_they_are_too_large() -> None:
    many: Tail[int] = Tail(0, entries_max=10)
    many.extend(entries(*[1] * 11))
    assert (many.start, many.end) == (6, 11)
    large: Tail[int] = Tail(0, bytes_max=10)
    large.extend(entries(*[1] * 11))
    assert (large.start, large.end) == (6, 11)
    large.extend(entries(*[1] * 5, start=11))
    assert (large.start, large.end) == (6, 16)


async def test_an_end_told_from_elsewhere_empties_the_tail_and_never_goes_back() -> None:
    tail: Tail[int] = Tail(0)
    tail.extend(entries(1, 1))
    tail.advance(1)
    assert (tail.start, tail.end) == (0, 2)
    tail.advance(5)
    assert (tail.start, tail.end) == (5, 5)
    with pytest.raises(ValueError, match="ends at 5"):
        tail.extend(entries(1, start=9))


async def test_a_follower_wakes_when_the_bell_rings_and_not_before() -> None:
    tail: Tail[int] = Tail(0)
    bell = Bell()
    batches = follow({0: tail}, bell, Store(()).read, {0: 0}, 10, None)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(anext(batches))
        await asyncio.sleep(0)
        tail.extend(entries(2))
        await asyncio.sleep(0)
        assert not waiting.done()
        bell.ring()
    assert waiting.result() == (0, [0, 1], 2)
    await batches.aclose()


async def test_shards_take_turns() -> None:
    tails: dict[int, Tail[int]] = {0: Tail(0), 1: Tail(0)}
    for tail in tails.values():
        tail.extend(entries(*[1] * 4))
    batches = follow(tails, Bell(), Store(()).read, {0: 0, 1: 0}, 2, {0: 4, 1: 4})
    assert [shard async for shard, _, _ in batches] == [0, 1, 0, 1]

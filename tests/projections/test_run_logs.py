"""Logs and sources: chunks by their place, sent again or not; completeness by sequence and digest."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from core.ids import Position
from core.ports import Measured
from core.runs import SourceEnd
from foldline.wire.measurements import NO_DIGEST, chain_digest
from projections import run_logs, source_progress
from projections.database import Database
from projections.run_logs import LogRow
from projections.source_progress import SourceRow
from tests.projections.batches import log_lines, points
from tests.projections.running import caught_up, running
from tests.projections.world import NOON, OTHER, W, World

STD_LOG = "user_logs/std_log.txt"


async def fill(world: World, database: Database) -> None:
    async with running(database, world, models=[run_logs.MODEL, source_progress.MODEL], batch_max=2) as (_, progress):
        await caught_up(world, progress)


async def test_a_log_is_read_from_any_place(database: Database) -> None:
    world, text = World(), b"".join(b"line %d\n" % number for number in range(100))
    for number, start in enumerate(range(0, len(text), 77), 1):
        await world.measurements.append(log_lines(text[start : start + 77], start, sequence=number))
    await fill(world, database)
    assert await run_logs.length(database, W, "r-1", 1, STD_LOG) == len(text)
    for offset, bytes_max in ((0, 1 << 20), (76, 3), (77, 77), (300, 500), (len(text) - 1, 10)):
        piece = await run_logs.read(database, W, "r-1", 1, STD_LOG, offset, bytes_max)
        assert (piece.offset, piece.data, piece.total) == (offset, text[offset : offset + bytes_max], len(text))
    end = await run_logs.read(database, W, "r-1", 1, STD_LOG, len(text))
    assert (end.data, end.total) == (b"", len(text))
    assert [(row.name, row.size, row.missing) for row in await run_logs.names(database, W, "r-1")] == [(STD_LOG, len(text), 0)]


async def test_chunks_sent_again_or_overlapping_change_no_byte(database: Database) -> None:
    world = World()
    for number, (start, content) in enumerate([(0, b"abc"), (0, b"abc"), (3, b"def"), (3, b"defgh"), (2, b"cdefghij")], 1):
        await world.measurements.append(log_lines(content, start, sequence=number))
    await fill(world, database)
    assert (await run_logs.read(database, W, "r-1", 1, STD_LOG)).data == b"abcdefghij"


async def test_missing_bytes_are_counted_and_read_past(database: Database) -> None:
    world = World()
    await world.measurements.append(log_lines(b"abc", 0))
    await world.measurements.append(log_lines(b"xyz", 10, sequence=2))
    await fill(world, database)
    first = await run_logs.read(database, W, "r-1", 1, STD_LOG)
    second = await run_logs.read(database, W, "r-1", 1, STD_LOG, 3)
    assert (first.data, second.offset, second.data, second.total) == (b"abc", 10, b"xyz", 13)
    assert [row.missing for row in await run_logs.names(database, W, "r-1")] == [7]


async def test_attempts_and_workspaces_are_apart(database: Database) -> None:
    world = World()
    await world.measurements.append(log_lines(b"first", 0))
    await world.measurements.append(log_lines(b"second", 0, attempt=2))
    await world.measurements.append(log_lines(b"other", 0, workspace=OTHER))
    await fill(world, database)
    assert (await run_logs.read(database, W, "r-1", 1, STD_LOG)).data == b"first"
    assert (await run_logs.read(database, W, "r-1", 2, STD_LOG)).data == b"second"
    assert (await run_logs.read(database, OTHER, "r-1", 1, STD_LOG)).data == b"other"
    assert (await run_logs.read(database, OTHER, "r-1", 2, STD_LOG)).total == 0
    assert [row.attempt for row in await run_logs.names(database, W, "r-1")] == [1, 2]
    assert [row.attempt for row in await run_logs.names(database, W, "r-1", 2)] == [2]


async def test_the_size_is_found_where_the_sender_did_not_say_it(database: Database) -> None:
    batch = log_lines(b"twelve bytes", 0)
    assert run_logs.fold(None, type(batch)(**{name: getattr(batch, name) for name in batch.__slots__} | {"log_bytes": None})).size == 12


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.randoms())
def test_the_length_is_that_of_what_came_whatever_came_twice(sizes: list[int], chance: object) -> None:
    batches, start = [], 0
    for number, size in enumerate(sizes, 1):
        batches.append(log_lines(b"x" * size, start, sequence=number))
        start += size
    row: LogRow | None = None
    for place, batch in enumerate(batches):
        for again in (*batches[: place + 1], batch):
            row = run_logs.fold(row, again)
    assert row is not None and (row.size, row.missing) == (start, 0)


async def test_curves_are_complete_once_every_source_has_arrived_with_its_digest(database: Database) -> None:
    world, batches = World(), [points([1.0], sequence=1), points([2.0], first_step=1, sequence=2)]
    digest = NO_DIGEST
    for batch in batches:
        digest = chain_digest(digest, batch.sha256)
    ended = (SourceEnd(source="1/spool", last_sequence=2, digest=digest), SourceEnd(source="1/quiet", last_sequence=0, digest=NO_DIGEST))
    await world.measurements.append(batches[0])
    await fill(world, database)
    assert not await source_progress.complete(database, W, "r-1", ended)
    await world.measurements.append(batches[1])
    await world.measurements.append(batches[0])
    await fill(world, database)
    assert await source_progress.complete(database, W, "r-1", ended)
    assert not await source_progress.complete(database, OTHER, "r-1", ended)
    wrong = SourceEnd(source="1/spool", last_sequence=2, digest="0" * 64)
    assert not await source_progress.complete(database, W, "r-1", (wrong,))


def test_a_gap_in_a_source_is_flagged() -> None:
    row: SourceRow | None = None
    for offset, sequence in enumerate((1, 2, 5, 4)):
        row = source_progress.fold(row, Measured(points([1.0], sequence=sequence), NOON, Position("m", 0, offset)))
    assert row is not None and (row.last_sequence, row.missing, row.position) == (5, 2, "m:0:2")


def test_the_digest_of_a_source_is_chained_over_what_was_posted() -> None:
    first, second = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
    one = hashlib.sha256((NO_DIGEST + first).encode()).hexdigest()
    assert chain_digest(chain_digest(NO_DIGEST, first), second) == hashlib.sha256((one + second).encode()).hexdigest()

"""However the log is cut into batches, the rows are the same: the property, on a real Postgres."""

from __future__ import annotations

import random

from bench.histories import life, setting
from projections.catalogue import READ_MODELS
from projections.database import Database
from projections.topics import Slice, Source
from projections.writer import Writer
from tests.projections.batches import log_lines, points
from tests.projections.running import digests
from tests.projections.world import W, World


async def slices_of(source: Source) -> list[Slice]:
    """The log, one commit a slice."""
    return [piece async for piece in source.slices({}, batch_max=1, follow=False)]


async def test_any_split_into_batches_gives_the_same_rows(database: Database) -> None:
    """Cut at random, and each slice given again now and then, as after a crash."""
    world = World()
    await world.play(setting(W, 2, 2))
    for number in range(6):
        await world.play(life(W, number, 2, 2))
        await world.measurements.append(points([number + n / 7 for n in range(300)], first_step=300 * number, sequence=number + 1))
        await world.measurements.append(log_lines(b"0123456789", number * 10, sequence=number + 1))
    sources = {"events": Source("events", world.log), "measurements": Source("measurements", world.measurements)}
    commits = {topic: await slices_of(source) for topic, source in sources.items()}
    found = set[str]()
    for seed in range(12):
        chance = random.Random(seed)
        for model in READ_MODELS:
            writer = Writer(model, sources[model.topic].id, 1)
            await writer.prepare(database, fresh=True)
            for piece in _cut(commits[model.topic], chance):
                await writer.apply(database, piece)
                if chance.random() < 0.1:
                    await writer.apply(database, piece)
                if chance.random() < 0.1:
                    writer = Writer(model, sources[model.topic].id, 1)
                    await writer.prepare(database)
        found.add(str(await digests(database)))
    assert len(found) == 1


def _cut(commits: list[Slice], chance: random.Random) -> list[Slice]:
    """The same items in slices of 1 to 40 commits."""
    cut, start = list[Slice](), 0
    while start < len(commits):
        group = commits[start : start + chance.choice((1, 2, 7, 40))]
        start += len(group)
        cut.append(Slice(0, [item for piece in group for item in piece.items], group[-1].next_offset))
    return cut

"""A runner on the small world, for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from core.ids import Position
from projections.catalogue import READ_MODELS
from projections.database import Database
from projections.digests import digest
from projections.progress import Progress
from projections.readmodel import ReadModel
from projections.runner import Runner
from projections.writer import Writer
from tests.projections.world import World

PATIENCE_SECONDS = 30.0


@asynccontextmanager
async def running(
    database: Database, world: World, *, models: Sequence[ReadModel[Any]] = READ_MODELS, batch_max: int = 50,
) -> AsyncGenerator[tuple[Runner, Progress], None]:
    progress = Progress()
    runner = Runner(database, world.log, world.measurements, progress, models=models, batch_max=batch_max)
    task = asyncio.create_task(runner.run())
    while not set(progress.models()) >= {model.name for model in models}:
        await asyncio.sleep(0)
        assert not task.done(), task.exception()
    try:
        yield runner, progress
    finally:
        task.cancel()
        await asyncio.wait({task})


async def caught_up(world: World, progress: Progress) -> None:
    """Returns once every read model holds everything that both logs hold."""
    ends = {world.log.id: await world.log.ends(), world.measurements.id: await world.measurements.ends()}
    for log_id, shards in ends.items():
        for shard, end in shards.items():
            for model in progress.models():
                await progress.wait(model, Position(log_id, shard, end - 1) if end else None, PATIENCE_SECONDS)


async def digests(database: Database, models: Sequence[ReadModel[Any]] = READ_MODELS) -> dict[str, tuple[int, str]]:
    """Of all rows of each read model."""
    return {model.name: await digest(database, model, Writer(model, "", 0)) for model in models}


async def filled(database: Database, world: World, batch_max: int = 50) -> dict[str, tuple[int, str]]:
    """Runs until everything is folded; the digests of all rows."""
    async with running(database, world, batch_max=batch_max) as (_, progress):
        await caught_up(world, progress)
    return await digests(database)

"""Postgres killed with -9, again and again, while the read models are filled: nothing is lost, nothing counted twice."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from adapters.postgres.embedded import PostgresServer
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from bench.histories import life, setting
from core.ids import Position
from tests.postgres_fixtures import temporary_folder
from tests.projections.batches import points
from tests.projections.running import caught_up, digests, filled, running
from tests.projections.world import W, World

KILLS = 4
RUNS_BETWEEN = 8


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    folder = temporary_folder()
    try:
        async with PostgresServer(folder / "pg") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_postgres_killed_while_read_models_are_filled(server: PostgresServer) -> None:
    """What was folded before a kill is there after it, also in the models that nothing concerns any more."""
    world = World()
    await world.play(setting(W, 2, 2))
    async with Database(server.dsn) as database:
        async with database.acquire() as connection:
            await migrate(connection)
        async with running(database, world, batch_max=10) as (_, progress):
            for kill in range(KILLS):
                for run in range(kill * RUNS_BETWEEN, (kill + 1) * RUNS_BETWEEN):
                    await world.play(life(W, run, 2, 2))
                    await world.measurements.append(points([0.5] * 100, run=f"amber-otter-{run:06x}"))
                end = (await world.log.ends())[0]
                await progress.wait("run_history", Position(world.log.id, 0, end - 1), 60)
                os.kill(server.pid, signal.SIGKILL)
            await world.play(life(W, KILLS * RUNS_BETWEEN, 2, 2))
            await world.measurements.append(points([0.25], run="amber-otter-000000", first_step=100, sequence=2))
            await caught_up(world, progress)
        survived = await digests(database)
        await database.execute("UPDATE read_model_checkpoint SET log = 'none of ours'")
        assert await filled(database, world) == survived
    assert survived["journal"][0] == len(await world.recorded())

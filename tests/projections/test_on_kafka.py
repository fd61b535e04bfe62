"""The same read models on a real Kafka broker: offsets have holes there, and shards are many."""

from __future__ import annotations

import pytest

from adapters.kafka.connection import Connection
from adapters.kafka.measurements import KafkaMeasurements
from adapters.kafka.setup import Topics
from adapters.postgres.pool import Database
from bench.histories import life, setting
from core.workspaces import UpdateWorkspace
from projections import workspaces
from projections.rebuild import Rebuilder
from tests.contract.kafka_fixtures import KafkaHarness, connection, harness, kafka, topics
from tests.contract.settable_clock import SettableClock
from tests.projections.batches import log_lines, points
from tests.projections.running import digests, filled, running
from tests.projections.world import NOON, OTHER, W, World

__all__ = ["connection", "harness", "kafka", "topics"]
pytestmark = pytest.mark.kafka
RUNS = 6


async def play(world: World) -> None:
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 2, 2))
        for number in range(RUNS):
            await world.play(life(workspace, number, 2, 2))
            run = f"amber-otter-{number:06x}"
            await world.measurements.append(points([1.0, 0.5], run=run, workspace=workspace))
            await world.measurements.append(log_lines(b"epoch 1\n", 0, run=run, workspace=workspace))


async def test_the_rows_are_those_of_the_twin_and_a_rebuild_finds_them_identical(
    harness: KafkaHarness, connection: Connection, topics: Topics, database: Database,  # fixtures
) -> None:
    twin = World()
    await play(twin)
    expected = await filled(database, twin)
    harness.clock = SettableClock(NOON)
    log = await harness.open()
    async with KafkaMeasurements(connection, topics.measurements) as measurements:
        world = World(log=log, measurements=measurements, clock=harness.clock)
        async with running(database, world) as (runner, progress):
            await play(world)
            done = await world.do(W, UpdateWorkspace(workspace=W, description="the last of all"))
            for model in progress.models():
                await progress.wait(model, done.position, 30)
            row = await workspaces.get(database, W)
            assert row is not None and row.description == "the last of all"
            while (await digests(database))["source_progress"][0] < 4 * RUNS:
                await progress.wait("source_progress", None)
            report = await Rebuilder(database, runner, progress).rebuild()
            assert report.identical, report
        found = await digests(database)
        async with running(database, world) as (_, progress):
            for model in progress.models():
                await progress.wait(model, None, 30)
    for model in ("run_history", "nodes", "experiments", "run_metrics", "run_logs"):
        assert found[model] == expected[model], model
    assert found["journal"][0] == expected["journal"][0] + 1

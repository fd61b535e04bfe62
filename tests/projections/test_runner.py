"""The runner on a real Postgres: nothing counted twice, nothing lost, whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from adapters.memory.log import MemoryLog
from bench.histories import life, setting
from core.errors import Behind, OtherLog, Unavailable
from core.events import Recorded
from core.ids import Position
from core.runs import RunStarted, RunSubmitted
from core.workspaces import UpdateWorkspace
from projections import experiments, run_history, workspaces
from projections.catalogue import EVENT_MODELS, READ_MODELS
from projections.database import Connection, Database
from projections.progress import Progress, Stopped
from projections.writer import Writer
from tests.contract.planting import following, plant_in_memory
from tests.projections.batches import log_lines, points
from tests.projections.running import caught_up, digests, filled, running
from tests.projections.world import OTHER, W, World


async def busy_world(*, shards: int = 1, log_id: str = "memory", runs: int = 12) -> World:
    world = World(shards=shards, log_id=log_id)
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 2, 2))
        for number in range(runs):
            await world.play(life(workspace, number, 2, 2))
            run = f"amber-otter-{number:06x}"
            await world.measurements.append(points([1.0, 0.5, 0.25], run=run, workspace=workspace))
            await world.measurements.append(log_lines(b"epoch 1\n", 0, run=run, workspace=workspace))
    return world


async def test_every_read_model_is_filled(database: Database) -> None:
    world = await busy_world()
    rows = {model: count for model, (count, _) in (await filled(database, world)).items()}
    assert rows["journal"] == len(await world.recorded())
    assert (rows["run_history"], rows["experiments"], rows["workspaces"], rows["nodes"]) == (24, 24, 2, 4)
    assert (rows["run_metrics"], rows["run_logs"], rows["source_progress"]) == (24, 48, 48)


async def test_two_runners_at_once_count_nothing_twice(database: Database) -> None:
    world = await busy_world()
    async with running(database, world, batch_max=7) as (_, one), running(database, world, batch_max=11) as (_, two):
        for number in range(12, 20):
            await world.play(life(W, number, 2, 2))
        await caught_up(world, one)
        await caught_up(world, two)
        together = await digests(database)
    row = await experiments.get(database, W, "digits-3")
    assert row is not None and row.runs == 1
    assert sum(row.runs for row in (await experiments.page(database, W)).items) == 20
    await _drop_everything(database)
    assert await filled(database, world) == together


async def test_a_runner_that_dies_between_the_rows_and_the_checkpoint_leaves_nothing_behind(database: Database) -> None:
    world = await busy_world()
    dying = Dying(database, after=25)
    async with running(dying, world, batch_max=20):
        await dying.died.wait()
    counted = await experiments.page(database, W)
    assert await filled(database, world) != {}
    assert len(counted.items) <= 12
    died = await digests(database)
    await _drop_everything(database)
    assert await filled(database, world) == died


async def test_a_database_that_goes_away_is_waited_for(database: Database) -> None:
    world = await busy_world()
    flaky = Flaky(database)
    async with running(flaky, world, batch_max=20) as (_, progress):
        flaky.failing = True
        done = await world.do(W, UpdateWorkspace(workspace=W, display_name="while it was away"))
        with pytest.raises(Behind):
            await progress.wait("workspaces", done.position, 0.05)
        flaky.failing = False
        await progress.wait("workspaces", done.position, 30)
    row = await workspaces.get(database, W)
    assert row is not None and row.display_name == "while it was away"


async def test_a_table_that_was_put_back_is_filled_again(database: Database) -> None:
    world = await busy_world(runs=3)
    before = await filled(database, world)
    async with running(database, world) as (_, progress):
        await caught_up(world, progress)
        await database.execute("DELETE FROM experiments_1")
        await database.execute("UPDATE read_model_checkpoint SET next_offset = 0 WHERE table_name = 'experiments_1'")
        await world.play(life(W, 3, 2, 2))
        await caught_up(world, progress)
    after = await digests(database)
    assert after["experiments"][0] == before["experiments"][0] + 1


async def test_replay_from_zero_gives_identical_rows_for_any_size_of_batch(database: Database) -> None:
    world = await busy_world()
    first = await filled(database, world, batch_max=1000)
    for batch_max in (1, 3, 64):
        await _drop_everything(database)
        assert await filled(database, world, batch_max=batch_max) == first


async def test_a_log_with_several_shards_gives_the_same_rows(database: Database) -> None:
    one = await filled(database, await busy_world())
    several = await filled(database, await busy_world(shards=5, log_id="five"))
    del one["source_progress"], several["source_progress"]  # holds positions
    assert several == one


async def test_rows_of_another_log_are_thrown_away(database: Database) -> None:
    await filled(database, await busy_world(runs=9))
    world = await busy_world(log_id="another", runs=2)
    rows = await filled(database, world)
    assert rows["run_history"][0] == 4
    assert rows["journal"][0] == len(await world.recorded())


async def test_a_reader_sees_its_own_write(database: Database) -> None:
    world = await busy_world(runs=1)
    async with running(database, world) as (_, progress):
        for number in range(20):
            done = await world.do(W, UpdateWorkspace(workspace=W, description=str(number)))
            await progress.wait("workspaces", done.position)
            row = await workspaces.get(database, W)
            assert row is not None and row.description == str(number)
            await progress.wait("users", done.position)
            await progress.wait("run_metrics", done.position)


async def test_a_position_that_is_not_reached_in_time_is_behind_and_another_log_is_told(database: Database) -> None:
    world = await busy_world(runs=1)
    async with running(database, world) as (_, progress):
        await caught_up(world, progress)
        with pytest.raises(Behind):
            await progress.wait("workspaces", Position(world.log.id, 0, 1_000_000), 0.01)
        with pytest.raises(OtherLog):
            await progress.wait("workspaces", Position("elsewhere", 0, 0), 0.01)
        with pytest.raises(Behind):
            await progress.wait("unheard_of", None, 0.01)


async def test_reads_wait_until_a_model_has_been_filled() -> None:
    progress = Progress()
    progress.know(["memory"])
    progress.begin("run_history", "memory", {0: 0}, ())
    with pytest.raises(Behind):
        await progress.wait("run_history", None, 0.01)
    progress.whole("run_history")
    await progress.wait("run_history", None, 0.01)


async def test_a_poisonous_event_stops_one_model_for_one_workspace(database: Database) -> None:
    world = await busy_world(runs=4)

    def fold(row: Any, recorded: Any) -> Any:
        if isinstance(recorded.event, RunStarted) and recorded.workspace == OTHER and recorded.event.run.endswith("2"):
            raise ValueError("poison\x00")
        return run_history.fold(row, recorded)

    models = [replace(model, fold=fold) if model.name == "run_history" else model for model in READ_MODELS]
    async with running(database, world, models=models, batch_max=30) as (_, progress):
        await caught_up(world, progress)
        await progress.wait("run_history", workspace=W)
        await progress.wait("journal", workspace=OTHER)
        with pytest.raises(Stopped) as refused:
            await progress.wait("run_history", workspace=OTHER)
        assert refused.value.code == "read_model_stopped"
    assert await run_history.counts(database, W) == {"completed": 4}
    standing = await run_history.page(database, OTHER)
    assert [row.status for row in standing.items] == ["preparing", "completed", "completed"]
    stopped = await database.fetch("SELECT workspace, event, problem FROM read_model_stopped")
    assert [tuple(row) for row in stopped] == [(OTHER, f"run-started {_event_id(await world.recorded())}", "ValueError: poison")]
    async with running(database, world, models=models) as (_, progress):
        with pytest.raises(Stopped):
            await progress.wait("run_history", workspace=OTHER)


async def test_an_event_that_cannot_be_read_stops_every_model_of_events_for_its_workspace_and_no_other(database: Database) -> None:
    world = await busy_world(runs=2)
    assert isinstance(world.log, MemoryLog)
    planted = following(world.log.raw(0), OTHER, "run-levitated", b"{}")
    plant_in_memory(world.store, 0, planted)
    await world.play(life(W, 7, 2, 2))  # in one batch with what stops the other workspace: it is counted once all the same
    await world.do(W, UpdateWorkspace(workspace=W, description="after it"))
    await world.do(OTHER, UpdateWorkspace(workspace=OTHER, description="after it"))
    async with running(database, world) as (_, progress):
        await caught_up(world, progress)
        for model in READ_MODELS:
            await progress.wait(model.name, workspace=W)
            if model.topic == "events":
                with pytest.raises(Stopped):
                    await progress.wait(model.name, workspace=OTHER)
            else:
                await progress.wait(model.name, workspace=OTHER)
        counted = sum(row.runs for row in (await experiments.page(database, W, archived=None)).items)
    submitted = [one for one in await world.recorded() if one.workspace == W and isinstance(one.event, RunSubmitted)]
    assert counted == len(submitted) > 0
    mine, others = await workspaces.get(database, W), await workspaces.get(database, OTHER)
    assert mine is not None and mine.description == "after it"
    assert others is not None and others.description is None
    stopped = await database.fetch("SELECT DISTINCT workspace, event, problem FROM read_model_stopped")
    problem = "UnreadableEvent: unknown event type 'run-levitated': this binary is older than the log, or the record is not ours"
    assert [tuple(row) for row in stopped] == [(OTHER, f"run-levitated {planted.attributes['id']}", problem)]


async def test_what_the_database_refuses_stops_only_its_workspace(database: Database) -> None:
    world = await busy_world(runs=4)

    def fold(row: Any, recorded: Any) -> Any:
        changed = run_history.fold(row, recorded)
        if recorded.workspace == OTHER and isinstance(recorded.event, RunStarted) and changed is not None:
            changed.sandbox = "a text with \x00 in it"
        return changed

    models = [replace(model, fold=fold) if model.name == "run_history" else model for model in EVENT_MODELS]
    async with running(database, world, models=models, batch_max=1000) as (_, progress):
        await caught_up(world, progress)
        with pytest.raises(Stopped):
            await progress.wait("run_history", workspace=OTHER)
    assert await run_history.counts(database, W) == {"completed": 4}
    assert await run_history.counts(database, OTHER) == {"preparing": 1}


async def test_a_model_that_cannot_keep_up_holds_nobody_back(database: Database) -> None:
    world = await busy_world(runs=6)
    stuck = Stuck(database, "run_history_1")
    progress = Progress()
    from projections.runner import Runner

    runner = Runner(stuck, world.log, world.measurements, progress, batch_max=5, detach_seconds=0.05)
    await runner.prepare()
    task = asyncio.create_task(runner.run())
    end = (await world.log.ends())[0] - 1
    await progress.wait("journal", Position(world.log.id, 0, end), 30)
    with pytest.raises(Behind):
        await progress.wait("run_history", Position(world.log.id, 0, end), 0.01)
    stuck.go.set()
    await progress.wait("run_history", Position(world.log.id, 0, end), 30)
    task.cancel()
    await asyncio.wait({task})
    assert await run_history.counts(database, W) == {"completed": 6}


async def test_models_that_lag_far_behind_do_not_hold_back_those_at_the_end(database: Database) -> None:
    world = await busy_world(runs=3)
    await filled(database, world)
    writer = Writer(experiments.MODEL, world.log.id, 1)
    await writer.prepare(database, fresh=True)
    async with running(database, world, batch_max=10) as (_, progress):
        await caught_up(world, progress)
    assert sum(row.runs for row in (await experiments.page(database, W)).items) == 3


async def _drop_everything(database: Database) -> None:
    for model in READ_MODELS:
        async with database.acquire() as connection:
            await Writer(model, "", 0).drop(connection)


def _event_id(recorded: list[Recorded]) -> str:
    started = [one for one in recorded if one.workspace == OTHER and isinstance(one.event, RunStarted)]
    return next(one.id for one in started if isinstance(one.event, RunStarted) and one.event.run.endswith("2"))


class Dying:
    """A database whose server dies in the middle of a transaction, after the rows and before the checkpoint, and stays away."""

    def __init__(self, database: Database, after: int) -> None:
        self._database, self._left, self.died = database, after, asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any, None]:
        if self.died.is_set():
            raise Unavailable("gone")
        async with self._database.acquire() as connection:
            yield _Watched(connection, self)

    def moving(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.died.set()
            raise Unavailable("killed between the rows and the checkpoint")


class _Watched:
    def __init__(self, connection: Connection, owner: Dying) -> None:
        self._connection, self._owner = connection, owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: str, *args: Any) -> str:
        if query.startswith("UPDATE read_model_checkpoint"):
            self._owner.moving()
        status: str = await self._connection.execute(query, *args)
        return status


class Flaky:
    """A database that can be away."""

    def __init__(self, database: Database) -> None:
        self._database, self.failing = database, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any, None]:
        if self.failing:
            raise Unavailable("away")
        async with self._database.acquire() as connection:
            yield connection


class Stuck:
    """A database in which whoever wants one table's checkpoint waits."""

    def __init__(self, database: Database, table: str) -> None:
        self._database, self._table, self.go = database, table, asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any, None]:
        async with self._database.acquire() as connection:
            yield _Waiting(connection, self._table, self.go)


class _Waiting:
    def __init__(self, connection: Connection, table: str, go: asyncio.Event) -> None:
        self._connection, self._table, self._go = connection, table, go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        if "FOR UPDATE" in query and self._table in args:
            await self._go.wait()
        return await self._connection.fetchrow(query, *args)

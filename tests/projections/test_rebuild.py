"""Rebuild: beside the live read models, compared, swapped; reads never stop and find the same rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from bench.histories import life, setting
from core.runs import RunEnded
from core.workspaces import UpdateWorkspace
from projections import journal, run_history, run_logs, run_metrics, workspaces
from projections.catalogue import READ_MODELS
from projections.database import Database
from projections.rebuild import Rebuilder, RebuildReport, facts_of
from tests.projections.batches import log_lines, points
from tests.projections.running import caught_up, digests, running
from tests.projections.world import OTHER, W, World


async def busy_world(*, shards: int = 1) -> World:
    world = World(shards=shards)
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 2, 2))
        for number in range(10):
            await world.play(life(workspace, number, 2, 2))
            run = f"amber-otter-{number:06x}"
            await world.measurements.append(points([float(n) for n in range(600)], run=run, workspace=workspace))
            await world.measurements.append(log_lines(b"epoch 1\n", 0, run=run, workspace=workspace))
    return world


async def test_all_read_models_dropped_and_rebuilt_are_identical(database: Database) -> None:
    for shards in (1, 4):
        world = await busy_world(shards=shards)
        async with running(database, world) as (runner, progress):
            await caught_up(world, progress)
            before = await digests(database)
            report = await Rebuilder(database, runner, progress).rebuild()
            assert await digests(database) == before
        assert report.identical, report
        assert {model.model for model in report.models} == {model.name for model in READ_MODELS}
        assert report.events == len(await world.recorded()) + 40
        assert facts_of(report)["identical"] is True
        await database.execute("UPDATE read_model_checkpoint SET log = 'gone'")


async def test_reads_and_writes_go_on_while_everything_is_rebuilt(database: Database) -> None:
    world = await busy_world()
    async with running(database, world, batch_max=20) as (runner, progress):
        await caught_up(world, progress)
        rebuilding = asyncio.create_task(Rebuilder(database, runner, progress, batch_max=20).rebuild())
        rounds = 0
        while not rebuilding.done():
            done = await world.do(W, UpdateWorkspace(workspace=W, description=f"during {rounds}"))
            await progress.wait("workspaces", done.position, 30, W)
            row = await workspaces.get(database, W)
            assert row is not None and row.description == f"during {rounds}"
            assert (await run_history.counts(database, OTHER)).get("completed", 0) >= 8
            assert (await run_logs.read(database, W, "amber-otter-000001", 1, "user_logs/std_log.txt")).data == b"epoch 1\n"
            curve = await run_metrics.curve(database, W, "amber-otter-000001", "loss", buckets=10)
            assert curve is not None and curve.total == 600
            rounds += 1
        report: RebuildReport = rebuilding.result()
        assert report.identical, report
        assert rounds > 3
        await world.play(life(W, 10, 2, 2))
        await caught_up(world, progress)
        assert len((await journal.page(database, W, subject="run/amber-otter-00000a")).items) > 5
        again = await Rebuilder(database, runner, progress).rebuild(["run_history", "journal"])
        assert again.identical and len(again.models) == 2
    left = await database.fetch("SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%rebuild'")
    assert list(left) == []


async def test_rows_that_someone_changed_by_hand_are_named_and_put_right(database: Database) -> None:
    world = await busy_world()
    async with running(database, world) as (runner, progress):
        await caught_up(world, progress)
        right = await digests(database)
        await database.execute("UPDATE run_history_1 SET status = 'failed' WHERE workspace = $1 AND run = 'amber-otter-000003'", W)
        await database.execute("DELETE FROM run_history_1 WHERE workspace = $1 AND run = 'amber-otter-000004'", OTHER)
        report = await Rebuilder(database, runner, progress).rebuild()
        assert [model.model for model in report.models if not model.identical] == ["run_history"]
        differences = next(model.differences for model in report.models if model.model == "run_history")
        assert differences == ["run_history (ws-1,amber-otter-000003)", "run_history (ws-2,amber-otter-000004)"]
        assert await digests(database) == right


async def test_a_model_that_stood_still_goes_on_once_it_can_be_folded(database: Database) -> None:
    world = await busy_world()

    def fold(row: Any, recorded: Any) -> Any:
        if isinstance(recorded.event, RunEnded):
            raise ValueError("a bug that the next version has not")
        return run_history.fold(row, recorded)

    broken = [replace(run_history.MODEL, fold=fold)]
    async with running(database, world, models=broken) as (_, progress):
        await caught_up(world, progress)
        assert progress.stopped("run_history") == {W, OTHER}
    async with running(database, world) as (runner, progress):
        await caught_up(world, progress)
        assert progress.stopped("run_history") == {W, OTHER}
        report = await Rebuilder(database, runner, progress).rebuild(["run_history"])
        assert not report.identical
        assert progress.stopped("run_history") == frozenset()
        await progress.wait("run_history", None, workspace=W)
        await world.play(life(W, 11, 2, 2))
        await caught_up(world, progress)
    assert sum((await run_history.counts(database, W)).values()) == 11
    assert (await run_history.counts(database, W)).get("preparing") is None

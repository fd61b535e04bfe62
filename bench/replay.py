"""How fast the whole log is folded into all read models: `python -m bench.replay [--events 100000]`, one JSON line.

The past is made by the real core through the log's port on an embedded Postgres, with the full envelope; then a runner
starts from offset 0 on a log that was opened anew, so that everything is read from Postgres and decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog
import uvloop

from adapters.clock import SystemClock
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.log import PostgresLog
from adapters.postgres.measurements import PostgresMeasurements
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from adapters.server import GC_THRESHOLDS
from bench.histories import Wish, life, setting
from bench.noise import emit, noise
from core.execute import Executor
from core.ids import CommandId, Position, WorkspaceId, uuid7
from core.ports import Context
from projections.catalogue import EVENT_MODELS
from projections.digests import digest
from projections.progress import Progress
from projections.rebuild import Rebuilder
from projections.runner import Runner
from projections.writer import Writer

WORKSPACES, PEOPLE, NODES, CALLERS = 8, 5, 4, 128
EVENTS_A_RUN = 9.6



@dataclass(slots=True)
class Site:
    database: Database
    log: PostgresLog
    measurements: PostgresMeasurements


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[Site, None]:
    clock = SystemClock()
    async with Database(dsn) as database, PostgresLog(database, clock) as log, PostgresMeasurements(database, clock) as measurements:
        yield Site(database, log, measurements)


async def make_past(site: Site, events: int) -> int:
    """Appends about `events` events; returns how many there are."""
    executor = Executor(site.log)
    workspaces = [WorkspaceId(f"ws-{number:012x}") for number in range(WORKSPACES)]

    async def play(wishes: Iterable[Wish]) -> None:
        for wish in wishes:
            command = CommandId(uuid7(time.time_ns() // 1_000_000, os.urandom(10)))
            context = Context(actor=wish.actor, command=command, correlation=f"req-{command}", causation=f"{wish.workspace}/1")
            await executor.execute(wish.workspace, wish.command, context)

    for workspace in workspaces:
        await play(setting(workspace, PEOPLE, NODES))
    lives = iter([(workspace, number) for number in range(int(events / EVENTS_A_RUN / WORKSPACES) + 1) for workspace in workspaces])

    async def caller() -> None:
        for workspace, number in lives:
            await play(life(workspace, number, PEOPLE, NODES))

    for workspace in workspaces:
        await play(life(workspace, 0, PEOPLE, NODES))
        next(lives)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(caller())
    return sum((await site.log.ends()).values())


@dataclass(slots=True)
class Cost:
    """Seconds of one replay: by the clock, of this process's core, of all Postgres processes' cores."""

    wall: float
    own: float
    postgres: float


async def replay(site: Site, batch_max: int, postmaster: int) -> Cost:
    """From an empty database to all read models at the end of the log."""
    progress = Progress()
    runner = Runner(site.database, site.log, site.measurements, progress, batch_max=batch_max)
    for model in EVENT_MODELS:
        await Writer(model, site.log.id, site.log.shards).prepare(site.database, fresh=True)
    ends = await site.log.ends()
    began, own, others = time.perf_counter(), time.process_time(), _used(postmaster)
    task = asyncio.create_task(runner.run())
    while len(progress.models()) < len(runner.members):
        await asyncio.sleep(0.001)
    for model in EVENT_MODELS:
        for shard, end in ends.items():
            await progress.wait(model.name, Position(site.log.id, shard, end - 1), 600)
    cost = Cost(time.perf_counter() - began, time.process_time() - own, _used(postmaster) - others)
    task.cancel()
    await asyncio.wait({task})
    return cost


def _used(postmaster: int) -> float:
    """Seconds of processor time of the postmaster, its children, and those that ended."""
    process = psutil.Process(postmaster)
    total = process.cpu_times().children_user + process.cpu_times().children_system
    for one in (process, *process.children()):
        with contextlib.suppress(psutil.Error):
            total += one.cpu_times().user + one.cpu_times().system
    return total


async def rebuild(site: Site, batch_max: int) -> tuple[float, bool]:
    """Seconds of a rebuild beside the live read models, and whether it gave the same rows."""
    progress = Progress()
    runner = Runner(site.database, site.log, site.measurements, progress, batch_max=batch_max)
    await runner.prepare()
    task = asyncio.create_task(runner.run())
    report = await Rebuilder(site.database, runner, progress, batch_max=batch_max).rebuild()
    task.cancel()
    await asyncio.wait({task})
    return report.seconds, report.identical


async def measure(events: int, batch_max: int, rounds: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldline-bench-"))
    folder.chmod(0o711)
    try:
        async with PostgresServer(folder / "pg") as server:
            async with Database(server.dsn) as database, database.acquire() as connection:
                await migrate(connection)
            began = time.perf_counter()
            async with opened(server.dsn) as site:
                count = await make_past(site, events)
            made = time.perf_counter() - began
            quiet = noise()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            costs = []
            for _ in range(rounds):
                async with opened(server.dsn) as site:
                    costs.append(await replay(site, batch_max, server.pid))
            async with opened(server.dsn) as site:
                tables = [(model, Writer(model, "", 0)) for model in EVENT_MODELS]
                rows = {model.name: (await digest(site.database, model, table))[0] for model, table in tables}
                rebuilt, identical = await rebuild(site, batch_max)
        best = min(costs, key=lambda cost: cost.wall)
        emit(
            "replay", log="postgres", events=count, read_models=len(EVENT_MODELS), batch_max=batch_max,
            events_per_second=round(count / best.wall), all_rounds_per_second=[round(count / cost.wall) for cost in costs],
            own_cpu_us_per_event=round(min(cost.own for cost in costs) / count * 1e6, 1),
            postgres_cpu_us_per_event=round(min(cost.postgres for cost in costs) / count * 1e6, 1), rows=rows,
            rebuild_seconds=round(rebuilt, 2), rebuild_identical=identical, appended_per_second_while_made=round(count / made),
            noise=quiet,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=100_000)
    arguments.add_argument("--batch", type=int, default=1_000)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    uvloop.run(measure(given.events, given.batch, given.rounds))


if __name__ == "__main__":
    main()

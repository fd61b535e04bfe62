"""Appends through the port, without HTTP: latency at 20 a second (open loop), and 1, 16 and 256 callers (closed loop).

    python -m bench.append --log postgres|kafka [--seconds 10]

Every record has the full envelope; events are those of runs, one per commit; fsync is on. One JSON line per load.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from adapters.clock import SystemClock, new_command
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.installation import installation_id
from adapters.postgres.log import PostgresLog
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from bench.noise import emit, noise, percentile
from core.environments import EnvironmentSpec
from core.events import Event
from core.ids import ActorId, Stream, WorkspaceId
from core.ports import Commit, Context, EventLog, StreamWrite
from core.runs import JobSpec, RunEnded, RunPlaced, RunScriptExited, RunStarted, RunSubmitted

WORKSPACES = 8
OPEN_LOOP_PER_SECOND = 20
CALLERS = (1, 16, 256)
CLOCK = SystemClock()
RUNS = itertools.count()


def life_of_a_run(run: str) -> Iterator[Event]:
    """Five events, one commit each."""
    environment = EnvironmentSpec(packages=("scikit-learn==1.5.2", "numpy==2.1.3"), python="3.11")
    job = JobSpec(command="python train.py --lr 0.03 --epochs 20", environment=environment)
    yield RunSubmitted(run=run, experiment="digits", compute="cpu", job=job, snapshot="5d" * 32, tags={"by": "bench"})
    yield RunPlaced(run=run, attempt=1, node="cpu-1a2b3c", reason="slot 1 of cpu-1a2b3c was free")
    yield RunStarted(run=run, attempt=1, environment_key="0a" * 32, environment_lock="0b" * 32, preparing_seconds=0.25)
    yield RunScriptExited(run=run, attempt=1, exit_code=0)
    yield RunEnded(run=run, attempt=1, outcome="completed", reason="succeeded", message="The script ended with exit code 0.")


def commits(workspace: WorkspaceId) -> Iterator[Commit]:
    """What one caller appends, without end: run after run."""
    while True:
        run = f"run-{next(RUNS):07d}"
        for version, event in enumerate(life_of_a_run(run)):
            context = Context(actor=ActorId("user/u-0123456789ab"), command=new_command(CLOCK), correlation=f"c-{run}",
                              traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            digest = hashlib.sha256(context.command.encode()).hexdigest()
            yield Commit(workspace, context, digest, (StreamWrite(Stream(f"run/{run}"), version, (event,)),))


async def open_loop(log: EventLog, seconds: float) -> list[float]:
    """Latencies in milliseconds, each from the moment at which the append was due."""
    latencies: list[float] = []
    source, began = commits(WorkspaceId("ws-open")), time.perf_counter()

    async def one(commit: Commit, due: float) -> None:
        await log.append(commit)
        latencies.append((time.perf_counter() - due) * 1e3)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * OPEN_LOOP_PER_SECOND)):
            due = began + number / OPEN_LOOP_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(next(source), due))
    return latencies


async def closed_loop(log: EventLog, callers: int, seconds: float) -> tuple[list[float], float]:
    """Latencies in milliseconds, and appends per second."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        for commit in commits(WorkspaceId(f"ws-{number % WORKSPACES}")):
            started = time.perf_counter()
            if started > until:
                return
            await log.append(commit)
            latencies.append((time.perf_counter() - started) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return latencies, len(latencies) / (time.perf_counter() - began)


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[EventLog]:
    async with PostgresServer(folder / "pg") as server, Database(server.dsn) as database:
        async with database.acquire() as connection:
            await migrate(connection)
        if kind == "postgres":
            async with PostgresLog(database, CLOCK) as log:
                yield log
        else:
            async with kafka(database, folder) as log:
                yield log


@asynccontextmanager
async def kafka(database: Database, folder: Path) -> AsyncIterator[EventLog]:
    from adapters.kafka.connection import Connection
    from adapters.kafka.log import KafkaLog
    from adapters.kafka.setup import set_up
    from tools.kafka.broker import Broker

    broker = Broker(folder / "kafka")
    await broker.start()
    try:
        connection = Connection(bootstrap=broker.bootstrap)
        topics = await set_up(connection, database, single_broker=True)
        installation = await installation_id(database, CLOCK)
        names = {"installation": installation, "server": "bench", "url": "http://none"}
        async with KafkaLog(connection, database, topics.events, CLOCK, **names) as log:
            yield log
    finally:
        await broker.stop()


async def measure(kind: str, seconds: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldline-bench-"))
    folder.chmod(0o711)
    try:
        async with opened(kind, folder) as log:
            await closed_loop(log, 16, min(2.0, seconds))
            quiet = noise()
            latencies = await open_loop(log, seconds)
            emit("append", log=kind, load=f"open loop {OPEN_LOOP_PER_SECOND}/s", p50_ms=round(percentile(latencies, 0.5), 2),
                 p99_ms=round(percentile(latencies, 0.99), 2), appends=len(latencies), noise=quiet)
            for callers in CALLERS:
                quiet = noise()
                latencies, rate = await closed_loop(log, callers, seconds)
                emit("append", log=kind, load=f"closed loop {callers}", p50_ms=round(percentile(latencies, 0.5), 2),
                     p99_ms=round(percentile(latencies, 0.99), 2), appends=len(latencies), per_second=round(rate), noise=quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--log", choices=("postgres", "kafka"), default="postgres")
    arguments.add_argument("--seconds", type=float, default=10.0)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    uvloop.run(measure(given.log, given.seconds))


if __name__ == "__main__":
    main()

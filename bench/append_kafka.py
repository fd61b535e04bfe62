"""Append latency and events/s of the Kafka log, through the port without HTTP: open loop at 20/s, closed loop with callers.

    python -m bench.append_kafka [--seconds N]

Starts a broker (SASL, as in the demo) and an embedded Postgres of its own in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from adapters.clock import SystemClock, new_command
from adapters.kafka.connection import Connection
from adapters.kafka.log import KafkaLog
from adapters.kafka.setup import set_up
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.pool import Database
from core.ids import ActorId, CommandId, Stream, WorkspaceId
from core.ports import Commit, Context, EventLog, StreamWrite
from core.workspaces import WorkspaceUpdated
from tools.kafka.broker import Broker

RATE = 20.0
MIGRATION = Path(__file__).resolve().parent.parent / "migrations" / "0020_kafka.sql"
CLOCK = SystemClock()


def wish(workspace: str, stream: str, version: int) -> Commit:
    """One event of ordinary size on one stream."""
    event = WorkspaceUpdated(workspace=workspace, description=f"{stream} at {version}: " + "x" * 160)
    command = new_command(CLOCK)
    digest = hashlib.sha256(command.encode()).hexdigest()
    context = Context(actor=ActorId("user/u-1"), command=CommandId(command), correlation=command)
    return Commit(WorkspaceId(workspace), context, digest, (StreamWrite(Stream(stream), version, (event,)),))


async def open_loop(log: EventLog, seconds: float) -> Sequence[float]:
    """Latencies in ms at a fixed rate, whether or not earlier ones were answered."""
    took: list[float] = []

    async def one(number: int) -> None:
        began = time.perf_counter()
        await log.append(wish("ws-open", f"thing/open-{number}", 0))
        took.append((time.perf_counter() - began) * 1000)

    async with asyncio.TaskGroup() as tasks:
        began = asyncio.get_running_loop().time()
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(max(0.0, began + number / RATE - asyncio.get_running_loop().time()))
            tasks.create_task(one(number))
    return took


async def closed_loop(log: EventLog, callers: int, seconds: float, workspaces: int) -> tuple[float, Sequence[float]]:
    """Decisions per second and latencies in ms; each caller appends to a stream of its own, one after the other."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        version = 0
        workspace = f"ws-{callers}-{number % workspaces}"
        while (began := time.perf_counter()) < until:
            await log.append(wish(workspace, f"thing/{callers}-{workspaces}-{number}", version))
            version += 1
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(callers):
            tasks.create_task(caller(number))
    return len(took) / (time.perf_counter() - began), took


def line(workload: str, took: Sequence[float], **more: Any) -> None:
    ordered = sorted(took)
    print(json.dumps({
        "bench": "append", "log": "kafka", "workload": workload, "appends": len(ordered), "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99) - 1], 2), **more,
    }), flush=True)


async def measure(log: EventLog, seconds: float) -> None:
    await closed_loop(log, 15, 2.0, 1)
    line("open loop, 20/s", await open_loop(log, seconds))
    for callers, workspaces in ((1, 1), (16, 1), (256, 1), (256, 16)):
        rate, took = await closed_loop(log, callers, seconds, workspaces)
        line(f"closed loop, {callers} callers, {workspaces} workspaces", took, decisions_per_second=round(rate))


async def main(seconds: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldline-bench-"))
    folder.chmod(0o755)
    try:
        async with Broker(folder / "kafka", sasl=True) as broker, PostgresServer(folder / "pg") as postgres:
            connection = await asyncpg.connect(postgres.dsn)
            await connection.execute(MIGRATION.read_text())
            await connection.close()
            admin, writer = (
                Connection(bootstrap=broker.bootstrap, username=user, password=broker.passwords[user]) for user in ("admin", "writer")
            )
            async with Database(postgres.dsn) as database:
                began = time.perf_counter()
                topics = await set_up(admin, database, single_broker=True, writer="writer")
                ready = time.perf_counter()
                async with KafkaLog(writer, database, topics.events, CLOCK, installation="bench", server="s", url="http://none") as log:
                    opened = time.perf_counter()
                    print(json.dumps({
                        "bench": "open", "log": "kafka", "at": datetime.now(UTC).isoformat(), "shards": log.shards,
                        "topics_made_ms": round((ready - began) * 1000), "shards_opened_ms": round((opened - ready) * 1000),
                    }), flush=True)
                    await measure(log, seconds)
                began = time.perf_counter()
                topics = await set_up(admin, database, single_broker=True, writer="writer")
                ready = time.perf_counter()
                async with KafkaLog(writer, database, topics.events, CLOCK, installation="bench", server="s", url="http://none") as log:
                    opened = time.perf_counter()
                    print(json.dumps({
                        "bench": "open again", "log": "kafka", "topics_checked_ms": round((ready - began) * 1000),
                        "shards_opened_ms": round((opened - ready) * 1000),
                    }), flush=True)
                    events = 0
                    began = time.perf_counter()
                    async for batch in log.subscribe(dict.fromkeys(range(log.shards), 0), follow=False):
                        events += len(batch.recorded)
                    print(json.dumps({
                        "bench": "read", "log": "kafka", "events": events,
                        "events_per_second": round(events / (time.perf_counter() - began)),
                    }), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    uvloop.run(main(parser.parse_args().seconds))

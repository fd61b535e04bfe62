"""The Kafka log's own times: broker start, topics made and checked, shards opened, and reading with the full envelope.

    python -m bench.open_kafka [--seconds 3]

One JSON line each. Appends are in bench.append.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from adapters.kafka.connection import Connection
from adapters.kafka.log import KafkaLog
from adapters.kafka.setup import Topics, set_up
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from bench.append import CLOCK, closed_loop
from bench.noise import emit, noise
from tools.kafka.broker import Broker


async def measure(seconds: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldline-bench-"))
    folder.chmod(0o711)
    try:
        broker = Broker(folder / "kafka", sasl=True)
        for state in ("new", "again", "again after kill -9"):
            quiet, began = noise(), time.perf_counter()
            await broker.start()
            emit("kafka broker start", state=state, seconds=round(time.perf_counter() - began, 2), noise=quiet)
            await (broker.stop() if state == "new" else broker.kill())
        await broker.start()
        try:
            async with PostgresServer(folder / "pg") as server, Database(server.dsn) as database:
                async with database.acquire() as connection:
                    await migrate(connection)
                await open_and_read(broker, database, seconds)
        finally:
            await broker.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def open_and_read(broker: Broker, database: Database, seconds: float) -> None:
    admin, writer = (Connection(bootstrap=broker.bootstrap, username=user, password=broker.passwords[user]) for user in ("admin", "writer"))
    for state in ("new", "again"):
        quiet, began = noise(), time.perf_counter()
        topics: Topics = await set_up(admin, database, single_broker=True, writer="writer")
        ready = time.perf_counter()
        async with KafkaLog(writer, database, topics.events, CLOCK, installation="bench", server="bench", url="http://none") as log:
            opened = time.perf_counter()
            emit(
                "kafka log open", state=state, topics_ms=round((ready - began) * 1e3), shards=log.shards,
                shards_ms=round((opened - ready) * 1e3), noise=quiet,
            )
            if state == "new":
                await closed_loop(log, 256, seconds)
                continue
            events, began = 0, time.perf_counter()
            async for batch in log.subscribe(dict.fromkeys(range(log.shards), 0), follow=False):
                events += len(batch.recorded)
            emit("kafka log read", events=events, per_second=round(events / (time.perf_counter() - began)), noise=quiet)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=3.0)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    uvloop.run(measure(arguments.parse_args().seconds))


if __name__ == "__main__":
    main()

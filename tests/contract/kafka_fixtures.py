"""A real Kafka broker for a whole test session: what the Kafka tests share.

One broker serves all xdist workers: the first to ask starts it, and it ends with the session. Each test has topics of its own,
and a database from tests/postgres_fixtures.py. `FOLDLINE_TEST_KAFKA=HOST:PORT` names a broker to use instead. Without Java and
Maven the tests fail with a sentence that says what to install.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from adapters.kafka.codec import Header, from_record, to_headers
from adapters.kafka.connection import Connection
from adapters.kafka.log import KafkaLog
from adapters.kafka.reader import Places, Reader
from adapters.kafka.setup import Topics, set_up
from adapters.postgres.pool import Database
from core.envelope import Sealed
from tests.contract.settable_clock import SettableClock

ROOT = Path(__file__).resolve().parents[2]
BROKER = ROOT / "tools" / "kafka" / "broker.py"
SHARDS = 4


@pytest.fixture(scope="session")
def kafka(testrun_uid: str) -> str:
    """HOST:PORT of the session's broker."""
    given = os.environ.get("FOLDLINE_TEST_KAFKA")
    if given:
        return given
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    state = Path(tempfile.gettempdir()) / f"foldline-test-kafka-{testrun_uid}"
    state.mkdir(mode=0o700, exist_ok=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = state / "said"
        if not said.exists() or not said.read_text().strip():
            said.write_text(_start_broker(state, session))
    answer = json.loads(said.read_text())
    if "error" in answer:
        pytest.fail(answer["error"], pytrace=False)
    return str(answer["bootstrap"])


@pytest.fixture
async def connection(kafka: str) -> Connection:
    return Connection(bootstrap=kafka)


@pytest.fixture
async def topics(connection: Connection, database: Database) -> AsyncIterator[Topics]:
    """Topics of this test alone."""
    prefix = f"t-{uuid.uuid4().hex[:12]}"
    yield await set_up(connection, database, prefix=prefix, shards=SHARDS, single_broker=True)
    admin = AIOKafkaAdminClient(**connection.for_aiokafka())
    await admin.start()
    await admin.delete_topics([f"{prefix}.events", f"{prefix}.measurements"])
    await admin.close()


class KafkaHarness:
    """Opens logs on one topic and one index; the same server name, so each one takes the shards of those before."""

    def __init__(self, connection: Connection, database: Database, topics: Topics) -> None:
        self.clock = SettableClock()
        self.connection, self.database, self.topics = connection, database, topics
        self._open: dict[int, AsyncExitStack] = {}

    async def open(self, server: str = "server-1") -> KafkaLog:
        stack = AsyncExitStack()
        log = await stack.enter_async_context(KafkaLog(
            self.connection, self.database, self.topics.events, self.clock, installation="test", server=server, url="http://none",
        ))
        self._open[id(log)] = stack
        return log

    async def close(self, log: object) -> None:
        await self._open.pop(id(log)).aclose()

    async def close_all(self) -> None:
        while self._open:
            await self._open.popitem()[1].aclose()

    async def set_topic(self, name: str, settings: Mapping[str, str]) -> None:
        """Changes a topic behind the log's back."""
        admin = AIOKafkaAdminClient(**self.connection.for_aiokafka())
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(settings))])
        finally:
            await admin.close()

    async def stable(self, shard: int) -> None:
        """Waits until readers may see all that was written: the brokers write a commit's marker just after they answer."""
        places = Places(self.connection, self.topics.events.name)
        try:
            async with asyncio.timeout(10):
                while (await places.stable_lag([shard]))[shard]:
                    await asyncio.sleep(0.005)
        finally:
            await places.close()

    async def plant(self, log: object, shard: int, sealed: Sealed) -> KafkaLog:
        await self.close(log)
        await self.write(shard, sealed.value, to_headers(sealed))
        return await self.open()

    async def write(self, shard: int, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Writes a record into the events topic past every check, outside any transaction."""
        async with AIOKafkaProducer(**self.connection.for_aiokafka()) as producer:
            await producer.send_and_wait(self.topics.events.name, value, partition=shard, headers=list(headers))

    async def raw(self, log: object, shard: int) -> Sequence[tuple[int, Mapping[str, str], bytes]]:
        found: list[tuple[int, Mapping[str, str], bytes]] = []
        await self.stable(shard)
        async with Reader(self.connection, self.topics.events.name, {shard: 0}) as reader:
            end = (await reader.ends())[shard]
            while (await reader.positions())[shard] < end:
                for fetched in await reader.fetch(1.0):
                    for record in fetched.records:
                        sealed = from_record(record.headers, record.value)
                        found.append((record.offset, sealed.attributes, sealed.value))
        return found


@pytest.fixture
async def harness(connection: Connection, database: Database, topics: Topics) -> AsyncIterator[KafkaHarness]:
    harness = KafkaHarness(connection, database, topics)
    try:
        yield harness
    finally:
        await harness.close_all()


def _start_broker(data: Path, session: int) -> str:
    argv = [sys.executable, str(BROKER), "--data", str(data), "--while-runs", str(session), "--remove"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return line or json.dumps({"error": "tools/kafka/broker.py said nothing; run it by hand to see why."})



"""SASL and access lists on a broker of its own: one principal writes, monitors only read, nobody else gets in."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError, TransactionalIdAuthorizationFailed

from adapters.kafka.administration import Administration
from adapters.kafka.connection import Connection
from adapters.kafka.errors import KafkaSetupError, NotReadable
from adapters.kafka.measurements import KafkaMeasurements
from adapters.kafka.reader import Reader
from adapters.kafka.setup import Topics, set_up
from adapters.postgres.pool import Database
from core.ids import Stream, shard_of
from tests.contract.event_log import W1, commit, everything, texts
from tests.contract.kafka_brokers import connect_as, own_broker
from tests.contract.kafka_fixtures import KafkaHarness
from tests.contract.measurements import batch
from tools.kafka.broker import Broker

pytestmark = pytest.mark.kafka
DEADLINE_SECONDS = 30
EVENTS = "foldline.events"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker() -> AsyncIterator[Broker]:
    async with own_broker(sasl=True) as broker:
        yield broker


@pytest.fixture
async def topics(broker: Broker, database: Database) -> Topics:
    """Made by the admin; the writer is the server's user."""
    return await set_up(connect_as(broker, "admin"), database, shards=4, single_broker=True, writer="writer", monitor="monitor")


@pytest.fixture
async def harness(broker: Broker, database: Database, topics: Topics) -> AsyncIterator[KafkaHarness]:
    harness = KafkaHarness(connect_as(broker, "writer"), database, topics)
    yield harness
    await harness.close_all()


async def soon(work: Awaitable[object]) -> object:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await work


async def test_the_writer_writes_and_reads_behind_its_fences(harness: KafkaHarness, topics: Topics) -> None:
    log = await harness.open()
    ends = await log.ends()
    await log.append(commit(harness.clock, W1, (Stream("thing/writer"), 0, ["by the writer"])))
    assert [text for found in await everything(log, dict(ends)) for text in texts(found.recorded)] == ["by the writer"]
    async with KafkaMeasurements(harness.connection, topics.measurements) as measurements:
        assert (await measurements.append(batch())).log == topics.measurements.id


async def test_a_monitor_reads_the_events_in_a_group_of_its_own_prefix(broker: Broker, harness: KafkaHarness) -> None:
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (Stream("thing/monitor"), 0, ["for the monitor"])))
    consumer = AIOKafkaConsumer(
        EVENTS, **connect_as(broker, "monitor").for_aiokafka(), group_id="monitor-audit", isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), DEADLINE_SECONDS)
        assert dict(record.headers)["ce_specversion"] == b"1.0"
    finally:
        await consumer.stop()


async def test_a_monitor_cannot_write(broker: Broker, topics: Topics) -> None:
    async with AIOKafkaProducer(**connect_as(broker, "monitor").for_aiokafka()) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await soon(producer.send_and_wait(EVENTS, b"forged", partition=0))


async def test_a_monitor_cannot_take_a_fence(broker: Broker, topics: Topics) -> None:
    producer = AIOKafkaProducer(**connect_as(broker, "monitor").for_aiokafka(), transactional_id=f"foldline/test/{EVENTS}/0")
    with pytest.raises(TransactionalIdAuthorizationFailed):
        await soon(producer.start())
    await producer.stop()


async def test_the_writer_cannot_take_a_fence_outside_its_prefix(broker: Broker, topics: Topics) -> None:
    producer = AIOKafkaProducer(**connect_as(broker, "writer").for_aiokafka(), transactional_id="elsewhere/0")
    with pytest.raises(TransactionalIdAuthorizationFailed):
        await soon(producer.start())
    await producer.stop()


async def test_a_monitor_does_not_see_the_measurements(broker: Broker, topics: Topics) -> None:
    with pytest.raises(NotReadable, match="grant it READ"):
        async with Reader(connect_as(broker, "monitor"), topics.measurements.name, {0: 0}):
            pass


@pytest.mark.parametrize("user", ["writer", "monitor", "stranger"])
async def test_nobody_but_the_admin_can_delete_the_topic_or_shorten_its_life(broker: Broker, topics: Topics, user: str) -> None:
    admin = AIOKafkaAdminClient(**connect_as(broker, user).for_aiokafka())
    await admin.start()
    try:
        deleted = await admin.delete_topics([EVENTS])
        assert [error for _, error, *_ in deleted.topic_error_codes] != [0]
        altered = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, EVENTS, configs={"retention.ms": "1"})])
        assert [resource[0] for answer in altered for resource in answer.resources] != [0]
    finally:
        await admin.close()
    found = await Administration(connect_as(broker, "admin")).find(EVENTS)
    assert found is not None and (found.id, found.settings["retention.ms"]) == (topics.events.id, "-1")


async def test_a_stranger_with_a_password_sees_nothing(broker: Broker, topics: Topics) -> None:
    with pytest.raises(NotReadable):
        async with Reader(connect_as(broker, "stranger"), EVENTS, {0: 0}):
            pass
    async with AIOKafkaProducer(**connect_as(broker, "stranger").for_aiokafka(), request_timeout_ms=3000) as producer:
        with pytest.raises(KafkaError):
            await soon(producer.send_and_wait(EVENTS, b"forged", partition=0))


@pytest.mark.parametrize("connection", ["none", "wrong"])
async def test_without_a_right_password_one_is_not_let_in(broker: Broker, topics: Topics, connection: str) -> None:
    stranger = Connection(bootstrap=broker.bootstrap)
    if connection == "wrong":
        stranger = Connection(bootstrap=broker.bootstrap, username="writer", password="guessed")
    producer = AIOKafkaProducer(**stranger.for_aiokafka(), request_timeout_ms=2000)
    with pytest.raises((KafkaConnectionError, KafkaError, TimeoutError)):
        await asyncio.wait_for(producer.start(), 5)
    await producer.stop()


async def test_a_consumer_that_may_see_the_topic_but_not_read_it_fails_with_a_sentence(broker: Broker, harness: KafkaHarness) -> None:
    """To aiokafka alone this looks like a quiet topic."""
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (Stream("thing/unseen"), 0, ["unseen"])))
    await grant_describe(broker, "stranger")
    async with Reader(connect_as(broker, "stranger"), EVENTS, {shard_of(W1, log.shards): 0}) as reader:
        with pytest.raises(NotReadable, match="records that user 'stranger' cannot read: grant it READ"):
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not await reader.fetch(1.0):
                    pass


async def test_set_up_says_what_the_writer_may_not_do(broker: Broker, database: Database) -> None:
    with pytest.raises(KafkaSetupError, match="Topic authorization failed"):
        await set_up(connect_as(broker, "writer"), database, prefix="elsewhere", shards=2, single_broker=True)


async def grant_describe(broker: Broker, user: str) -> None:
    """What an administrator does who forgot READ."""
    admin: Any = importlib.import_module("confluent_kafka.admin")
    client = admin.AdminClient(connect_as(broker, "admin").for_administration())
    binding = admin.AclBinding(
        admin.ResourceType.TOPIC, EVENTS, admin.ResourcePatternType.LITERAL, f"User:{user}", "*", admin.AclOperation.DESCRIBE,
        admin.AclPermissionType.ALLOW,
    )
    for future in client.create_acls([binding]).values():
        await asyncio.wrap_future(future)

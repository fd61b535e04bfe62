"""The topics are exactly as they must be, and the same ones as before, or the server stops with a sentence."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.kafka.administration import Administration
from adapters.kafka.connection import Connection
from adapters.kafka.errors import KafkaSetupError, TopicMismatch
from adapters.kafka.setup import set_up
from adapters.kafka.topics import KEPT_FOR_EVER, prepare
from adapters.postgres.pool import Database
from tests.contract.kafka_fixtures import connection, kafka

__all__ = ["connection", "kafka"]
pytestmark = pytest.mark.kafka


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}.events"


@pytest.fixture
def administration(connection: Connection) -> Administration:
    return Administration(connection)


async def delete(connection: Connection, name: str) -> None:
    """Returns once the topic is gone from what the brokers say."""
    admin = AIOKafkaAdminClient(**connection.for_aiokafka())
    await admin.start()
    await admin.delete_topics([name])
    await admin.close()
    async with asyncio.timeout(30):
        while await Administration(connection).find(name) is not None:
            await asyncio.sleep(0.05)


async def make(connection: Connection, name: str, partitions: int, settings: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(**connection.for_aiokafka())
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
    await admin.close()


async def test_a_topic_is_made_with_every_setting(administration: Administration, database: Database, name: str) -> None:
    made = await prepare(administration, database, name, 3, single_broker=True)
    found = await administration.find(name)
    assert found is not None
    assert (found.id, found.partitions, found.replication) == (made.id, 3, 1)
    for key, value in KEPT_FOR_EVER.items():
        assert found.settings[key] == value
    assert await prepare(administration, database, name, 3, single_broker=True) == made


async def test_the_count_is_the_one_that_it_was_made_with(administration: Administration, database: Database, name: str) -> None:
    await prepare(administration, database, name, 3, single_broker=True)
    assert (await prepare(administration, database, name, 16, single_broker=True)).partitions == 3


@pytest.mark.parametrize(("setting", "value"), [
    ("retention.ms", "604800000"), ("cleanup.policy", "compact"), ("message.timestamp.type", "CreateTime"),
    ("max.message.bytes", "1048588"),
])
async def test_another_setting_stops_the_server(
    administration: Administration, connection: Connection, database: Database, name: str, setting: str, value: str,
) -> None:
    await make(connection, name, 3, {**KEPT_FOR_EVER, setting: value})
    with pytest.raises(TopicMismatch, match=f"{setting} is {value}, not {KEPT_FOR_EVER[setting]}"):
        await prepare(administration, database, name, 3, single_broker=True)


async def test_a_topic_made_anew_is_another_log(
    administration: Administration, connection: Connection, database: Database, name: str,
) -> None:
    await prepare(administration, database, name, 3, single_broker=True)
    await delete(connection, name)
    with pytest.raises(TopicMismatch, match="is gone"):
        await prepare(administration, database, name, 3, single_broker=True)
    await make(connection, name, 3, dict(KEPT_FOR_EVER))
    with pytest.raises(TopicMismatch, match="it is another log"):
        await prepare(administration, database, name, 3, single_broker=True)


async def test_a_topic_that_was_grown_stops_the_server(
    administration: Administration, connection: Connection, database: Database, name: str,
) -> None:
    await prepare(administration, database, name, 3, single_broker=True)
    await database.execute("UPDATE kafka_topic SET partitions = 2 WHERE name = $1", name)
    with pytest.raises(TopicMismatch, match="partitions"):
        await prepare(administration, database, name, 3, single_broker=True)


async def test_another_cluster_is_another_log(administration: Administration, database: Database, name: str) -> None:
    await prepare(administration, database, name, 3, single_broker=True)
    await database.execute("UPDATE kafka_topic SET cluster = 'elsewhere' WHERE name = $1", name)
    with pytest.raises(TopicMismatch, match="lies in the cluster"):
        await prepare(administration, database, name, 3, single_broker=True)


async def test_one_broker_is_refused_unless_it_is_allowed(connection: Connection, database: Database) -> None:
    with pytest.raises(KafkaSetupError):
        await set_up(connection, database, prefix=f"t-{uuid.uuid4().hex[:12]}", shards=2, single_broker=False)

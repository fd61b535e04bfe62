"""Topics, their settings and identity, and access lists: what aiokafka's admin knows nothing of.

Used at start only, through confluent-kafka's AdminClient (the extra `kafka-admin`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.kafka.connection import Connection
from adapters.kafka.errors import KafkaSetupError

TIMEOUT_SECONDS = 15.0
LOOK_SECONDS = 0.05
TRANSACTIONS_PREFIX = "foldline/"
MONITOR_GROUPS_PREFIX = "monitor-"


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the brokers have it."""

    id: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


class Administration:
    """An AdminClient whose answers are awaited. Raises KafkaSetupError with what the brokers said."""

    def __init__(self, connection: Connection) -> None:
        try:
            from confluent_kafka import admin
        except ImportError:
            raise KafkaSetupError(
                "The Kafka log needs confluent-kafka at the start: pip install 'foldline-server[kafka-admin]'."
            ) from None
        self._api: Any = admin
        self._client = admin.AdminClient({**connection.for_administration(), "logger": _silent()})

    async def cluster(self) -> str:
        """The id of the cluster."""
        described = await self._wait(self._client.describe_cluster(request_timeout=TIMEOUT_SECONDS), "describe the cluster")
        return str(described.cluster_id)

    async def find(self, topic: str) -> FoundTopic | None:
        """The topic, or None when there is none."""
        import confluent_kafka

        wanted = confluent_kafka.TopicCollection([topic])
        futures = self._client.describe_topics(wanted, request_timeout=TIMEOUT_SECONDS)
        try:
            described = await asyncio.wrap_future(futures[topic])
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise KafkaSetupError(f"The brokers would not describe the topic {topic}: {error.args[0].str()}.") from None
        settings = await self._settings(self._api.ResourceType.TOPIC, topic)
        replication = min(len(partition.replicas) for partition in described.partitions)
        # spelled as Kafka itself does: base64 for URLs, so that it fits into a header and a path
        identity = str(described.topic_id).translate(str.maketrans("+/", "-_")).rstrip("=")
        return FoundTopic(identity, len(described.partitions), replication, settings)

    async def broker_settings(self) -> Mapping[str, str]:
        """The settings of one broker of the cluster."""
        described = await self._wait(self._client.describe_cluster(request_timeout=TIMEOUT_SECONDS), "describe the cluster")
        return await self._settings(self._api.ResourceType.BROKER, str(described.nodes[0].id))

    async def create(self, topic: str, partitions: int, replication: int, settings: Mapping[str, str]) -> None:
        """Makes the topic; one that another server has just made is fine."""
        import confluent_kafka

        wanted = self._api.NewTopic(topic, partitions, replication, config=dict(settings))
        futures = self._client.create_topics([wanted], operation_timeout=TIMEOUT_SECONDS, request_timeout=TIMEOUT_SECONDS)
        try:
            await asyncio.wrap_future(futures[topic])
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaSetupError(f"The topic {topic} could not be made: {error.args[0].str()}.") from None

    async def grant(self, writer: str, monitor: str, events: str, measurements: str) -> None:
        """The access lists: `writer` reads and writes both topics behind its fences, `monitor` reads the events."""
        topic, group, transaction = (self._api.ResourceType[name] for name in ("TOPIC", "GROUP", "TRANSACTIONAL_ID"))
        exact, prefixed = self._api.ResourcePatternType.LITERAL, self._api.ResourcePatternType.PREFIXED
        granted = [
            *((topic, name, exact, writer, right) for name in (events, measurements) for right in ("READ", "WRITE", "DESCRIBE_CONFIGS")),
            (transaction, TRANSACTIONS_PREFIX, prefixed, writer, "WRITE"),
            (topic, events, exact, monitor, "READ"),
            (group, MONITOR_GROUPS_PREFIX, prefixed, monitor, "READ"),
        ]
        allow = self._api.AclPermissionType.ALLOW
        lists = [
            self._api.AclBinding(kind, name, pattern, f"User:{user}", "*", self._api.AclOperation[right], allow)
            for kind, name, pattern, user, right in granted
        ]
        missing = set(lists).difference(await self._granted())
        if not missing:
            return
        for future in self._client.create_acls(list(missing), request_timeout=TIMEOUT_SECONDS).values():
            await self._wait(future, "set the access lists")
        for _ in range(int(TIMEOUT_SECONDS / LOOK_SECONDS)):
            if missing.issubset(await self._granted()):
                return
            await asyncio.sleep(LOOK_SECONDS)  # the brokers hear of it a moment after they have said yes

    async def _granted(self) -> Collection[Any]:
        everything = self._api.AclBindingFilter(
            self._api.ResourceType.ANY, None, self._api.ResourcePatternType.ANY, None, None, self._api.AclOperation.ANY,
            self._api.AclPermissionType.ANY,
        )
        found: Collection[Any] = await self._wait(
            self._client.describe_acls(everything, request_timeout=TIMEOUT_SECONDS), "show the access lists"
        )
        return found

    async def _settings(self, kind: Any, name: str) -> Mapping[str, str]:
        resource = self._api.ConfigResource(kind, name)
        found = await self._wait(
            self._client.describe_configs([resource], request_timeout=TIMEOUT_SECONDS)[resource], f"show the settings of {name}"
        )
        return {key: entry.value for key, entry in found.items()}

    async def _wait(self, future: Any, what: str) -> Any:
        import confluent_kafka

        try:
            return await asyncio.wrap_future(future)
        except confluent_kafka.KafkaException as error:
            raise KafkaSetupError(f"The brokers would not {what}: {error.args[0].str()}.") from None


def _silent() -> Any:
    """librdkafka says each refused connection on stderr; what matters comes as an exception."""
    import logging

    quiet = logging.getLogger("foldline.kafka.administration")
    quiet.setLevel(logging.CRITICAL)
    return quiet

"""The two topics with exactly their settings, and what this installation remembers of them in Postgres.

They are made and checked at start, never auto-created. Another setting, count or identity stops the server with a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.kafka.administration import Administration, FoundTopic
from adapters.kafka.errors import TopicMismatch
from adapters.postgres.pool import Database

EVENTS = "foldline.events"
MEASUREMENTS = "foldline.measurements"

KEPT_FOR_EVER: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": "2097152",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}
REPLICATION = 3
IN_SYNC_MIN = 2
APPEAR_SECONDS = 10.0
LOOK_SECONDS = 0.05

REMEMBERED = "SELECT cluster, id, partitions FROM kafka_topic WHERE name = $1"
REMEMBER = "INSERT INTO kafka_topic (name, cluster, id, partitions) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING"


@dataclass(frozen=True, slots=True)
class Topic:
    """A checked topic. Its id names the log in positions."""

    name: str
    id: str
    partitions: int


async def prepare(administration: Administration, database: Database, name: str, partitions: int, *, single_broker: bool) -> Topic:
    """Makes the topic when this installation has none yet, checks it, and remembers what it is.

    `partitions` counts only when it is made; later the remembered count does. Raises: TopicMismatch, KafkaSetupError.
    """
    replication = 1 if single_broker else REPLICATION
    wanted = {**KEPT_FOR_EVER, "min.insync.replicas": str(1 if single_broker else IN_SYNC_MIN)}
    cluster, known, found = await administration.cluster(), await database.fetchrow(REMEMBERED, name), await administration.find(name)
    if found is None:
        if known is not None:
            raise TopicMismatch(f"The topic {name}, which this installation has written to, is gone; restore it.")
        await administration.create(name, partitions, replication, wanted)
        found = await _appeared(administration, name)
    _check_settings(name, found, wanted, replication)
    if not single_broker:
        _check_transactions(await administration.broker_settings())
    if known is not None:
        _check_identity(name, found, cluster, known)
    elif found.partitions != partitions:
        raise TopicMismatch(f"The topic {name} has {found.partitions} partitions, not {partitions}: set FOLDLINE_SHARDS.")
    await database.execute(REMEMBER, name, cluster, found.id, found.partitions)
    return Topic(name, found.id, found.partitions)


async def _appeared(administration: Administration, name: str) -> FoundTopic:
    """The topic just made, as soon as the brokers have told each other of it."""
    for _ in range(int(APPEAR_SECONDS / LOOK_SECONDS)):
        found = await administration.find(name)
        if found is not None:
            return found
        await asyncio.sleep(LOOK_SECONDS)
    raise TopicMismatch(f"The topic {name} was made and is not there; look at the brokers, then start again.")


def _check_settings(name: str, found: FoundTopic, wanted: Mapping[str, str], replication: int) -> None:
    wrong = [f"{key} is {found.settings.get(key)}, not {value}" for key, value in wanted.items() if found.settings.get(key) != value]
    if found.replication < replication:
        wrong.append(f"its replication is {found.replication}, not {replication}")
    if wrong:
        raise TopicMismatch(f"The topic {name} is not as it must be: {'; '.join(wrong)}. Set it right (kafka-configs), then start again.")


def _check_transactions(broker: Mapping[str, str]) -> None:
    """Commits are no safer than the topic of their outcomes."""
    wanted = {"transaction.state.log.replication.factor": REPLICATION, "transaction.state.log.min.isr": IN_SYNC_MIN}
    low = [f"{key} is {broker.get(key)}, under {value}" for key, value in wanted.items() if int(broker.get(key) or 0) < value]
    if low:
        raise TopicMismatch(f"The brokers' settings lose transactions: {'; '.join(low)}. On one machine say --single-broker.")


def _check_identity(name: str, found: FoundTopic, cluster: str, known: Any) -> None:
    for what, now, before in (
        ("lies in the cluster", cluster, known["cluster"]),
        ("has the id", found.id, known["id"]),
        ("has this many partitions:", found.partitions, known["partitions"]),
    ):
        if now != before:
            raise TopicMismatch(f"The topic {name} {what} {now}, but this installation wrote to {before}: it is another log.")

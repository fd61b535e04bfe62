"""What is done once at the start of a server: topics made and checked, access lists set."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.kafka.administration import Administration
from adapters.kafka.connection import Connection
from adapters.kafka.topics import Topic, prepare
from adapters.postgres.pool import Database

MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Topics:
    events: Topic
    measurements: Topic


async def set_up(
    connection: Connection, database: Database, *, prefix: str = "foldline", shards: int = 16, single_broker: bool = False,
    writer: str | None = None, monitor: str = MONITOR,
) -> Topics:
    """`<prefix>.events` and `<prefix>.measurements`, ready to be written to.

    `connection` is the one of a user who may make topics; with `writer` it also sets the access lists for that user and for
    `monitor`. Raises: KafkaSetupError.
    """
    administration = Administration(connection)
    events = await prepare(administration, database, f"{prefix}.events", shards, single_broker=single_broker)
    measurements = await prepare(administration, database, f"{prefix}.measurements", shards, single_broker=single_broker)
    if writer is not None:
        await administration.grant(writer, monitor, events.name, measurements.name)
    return Topics(events, measurements)

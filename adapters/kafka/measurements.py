"""The measurements on Apache Kafka: idempotent, without transactions; the key is the run. Implements core.ports.Measurements.

The value is the batch's compressed body as it is; its other fields are headers `fl_<name>`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from adapters.kafka.connection import Connection
from adapters.kafka.errors import BROKERS_AWAY, unavailable
from adapters.kafka.reader import Fetched, Places, Reader
from adapters.kafka.topics import Topic
from core.errors import Unavailable, UnreadableEvent
from core.ids import Position, WorkspaceId
from core.ports import Measured, MeasuredBatch, MeasurementBatch

PREFIX = "fl_"
REQUEST_BYTES_MAX = 2 * 1024 * 1024
APPEND_SECONDS = 5.0
WAIT_SECONDS = 5.0
AWAY_SECONDS = 0.5

log = structlog.get_logger()


class KafkaMeasurements:
    """The log of measurements. `async with` holds its connections."""

    def __init__(self, connection: Connection, topic: Topic) -> None:
        self._connection, self._topic = connection, topic
        self._places = Places(connection, topic.name)
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> KafkaMeasurements:
        await self._opened()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._throw_away(self._producer)
        await self._places.close()

    @property
    def id(self) -> str:
        """The topic's own id."""
        return self._topic.id

    @property
    def shards(self) -> int:
        return self._topic.partitions

    async def append(self, batch: MeasurementBatch) -> Position:
        producer: AIOKafkaProducer | None = None
        partition = _partition(batch.run, self._topic.partitions)
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                producer = await self._opened()
                done = await producer.send_and_wait(
                    self._topic.name, batch.body, batch.run.encode(), partition=partition, headers=_to_headers(batch)
                )
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("kafka.measurement_not_stored", run=batch.run, error=repr(error))
            await self._throw_away(producer)
            raise Unavailable("The log of measurements does not answer; send the batch again.") from error
        return Position(self._topic.id, partition, done.offset)

    async def ends(self) -> Mapping[int, int]:
        with unavailable():
            return await self._places.ends(range(self._topic.partitions))

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[MeasuredBatch]:
        return self._batches(dict(start), batch_max, follow)

    async def _batches(self, start: dict[int, int], batch_max: int, follow: bool) -> AsyncGenerator[MeasuredBatch, None]:
        until: Mapping[int, int] | None = None
        while start:
            try:
                async with Reader(self._connection, self._topic.name, start) as reader:
                    until = until if follow or until is not None else await reader.ends()
                    while until is None or any(start[shard] < end for shard, end in until.items()):
                        for fetched in await reader.fetch(WAIT_SECONDS):
                            for batch in self._cut(fetched, until, batch_max):
                                start[batch.shard] = batch.next_offset
                                yield batch
                    return
            except BROKERS_AWAY as error:
                log.warning("kafka.brokers_away", topic=self._topic.name, error=repr(error))
                await asyncio.sleep(AWAY_SECONDS)

    def _cut(self, fetched: Fetched, until: Mapping[int, int] | None, batch_max: int) -> Iterator[MeasuredBatch]:
        records = [one for one in fetched.records if until is None or one.offset < until[fetched.partition]]
        for first in range(0, len(records), batch_max):
            part = records[first : first + batch_max]
            measured = tuple(one for record in part if (one := self._measured(record)) is not None)
            yield MeasuredBatch(fetched.partition, measured, part[-1].offset + 1)

    def _measured(self, record: ConsumerRecord) -> Measured | None:
        """None, with an alarm, for a record that is none of ours: it belongs to no run."""
        try:
            batch = _from_record(record)
        except UnreadableEvent as error:
            log.error("kafka.foreign_record", topic=record.topic, partition=record.partition, offset=record.offset, problem=str(error))
            return None
        at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        return Measured(batch, at, Position(self._topic.id, record.partition, record.offset))

    async def _opened(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._connection.for_aiokafka(), enable_idempotence=True, acks="all", linger_ms=0,
                    max_request_size=REQUEST_BYTES_MAX, max_batch_size=REQUEST_BYTES_MAX, request_timeout_ms=5_000,
                )
                try:
                    await producer.start()
                    await producer.partitions_for(self._topic.name)
                except BaseException:
                    await self._throw_away(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _throw_away(self, producer: Any) -> None:
        """A producer that failed is of no use; the next append makes another."""
        if producer is None:
            return
        if self._producer is producer:
            self._producer = None
        try:
            async with asyncio.timeout(2):
                await producer.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.debug("kafka.producer_thrown_away", error=repr(error))


def _partition(run: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big") % count


def _to_headers(batch: MeasurementBatch) -> list[tuple[str, bytes]]:
    fields = {
        "workspace": batch.workspace, "run": batch.run, "attempt": str(batch.attempt), "source": batch.source,
        "sequence": str(batch.sequence), "kind": batch.kind, "sha256": batch.sha256, "log-name": batch.log_name,
        "log-offset": None if batch.log_offset is None else str(batch.log_offset),
        "log-bytes": None if batch.log_bytes is None else str(batch.log_bytes),
    }
    return [(PREFIX + name, text.encode()) for name, text in fields.items() if text is not None]


def _from_record(record: ConsumerRecord) -> MeasurementBatch:
    """Raises: UnreadableEvent when the record is none of ours."""
    try:
        fields = {name.removeprefix(PREFIX): content.decode() for name, content in record.headers if name.startswith(PREFIX)}
        offset, size = fields.get("log-offset"), fields.get("log-bytes")
        return MeasurementBatch(
            workspace=WorkspaceId(fields["workspace"]), run=fields["run"], attempt=int(fields["attempt"]), source=fields["source"],
            sequence=int(fields["sequence"]), kind=fields["kind"], body=record.value or b"", log_name=fields.get("log-name"),
            log_offset=None if offset is None else int(offset), log_bytes=None if size is None else int(size), sha256=fields["sha256"],
        )
    except (KeyError, ValueError) as error:
        raise UnreadableEvent(f"a record at {record.offset} of the measurements is none of ours") from error

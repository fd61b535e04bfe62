"""Committed records of one topic: by consuming from given offsets on, and single ones at given offsets.

Always read_committed, never a group, never an automatic offset. A topic without READ looks quiet to aiokafka, so each reader
compares the ends of its partitions with its positions at the start and each minute, and fails with a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from adapters.kafka.connection import Connection
from adapters.kafka.errors import NotReadable, RecordLost

FETCH_WAIT_MS = 500
PARTITION_BYTES_MAX = 1024 * 1024
CHECK_SECONDS = 60.0
PATIENCE_SECONDS = 20.0
PLACE_SECONDS = 5.0
REQUEST_TIMEOUT_MS = 10_000
GAP_MAX = 200
"""Records between two wanted ones that are rather read over than sought over."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition and the next offset after them. Whole record batches, so whole commits."""

    partition: int
    records: Sequence[ConsumerRecord]
    next_offset: int


class Reader:
    """Consumes some partitions of a topic from given offsets on."""

    def __init__(self, connection: Connection, topic: str, start: Mapping[int, int]) -> None:
        self._topic, self._username = topic, connection.username
        self._start = {TopicPartition(topic, partition): offset for partition, offset in start.items()}
        self._consumer = AIOKafkaConsumer(
            **connection.for_aiokafka(), group_id=None, enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=PARTITION_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        self._check_at = 0.0
        self._owed: dict[TopicPartition, int] = {}
        self._quiet_seconds = 0.0

    async def __aenter__(self) -> Reader:
        try:
            await self._consumer.start()
            if self._topic not in await self._consumer.topics():
                raise NotReadable(self._topic, self._username)
            self._consumer.assign(list(self._start))
            for partition, offset in self._start.items():
                self._consumer.seek(partition, offset)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections. Never raises."""
        await _stop(self._consumer)

    async def fetch(self, timeout_seconds: float) -> Sequence[Fetched]:
        """What there is, or what comes within the time. Raises: NotReadable, KafkaError."""
        await self._check()
        began = asyncio.get_running_loop().time()
        try:
            found = await self._consumer.getmany(timeout_ms=int(timeout_seconds * 1000))
        except TopicAuthorizationFailedError:
            raise NotReadable(self._topic, self._username) from None
        await self._judge(asyncio.get_running_loop().time() - began)
        return [Fetched(partition.partition, records, records[-1].offset + 1) for partition, records in found.items() if records]

    async def positions(self) -> Mapping[int, int]:
        """Per partition the next offset to read, past markers and aborted records."""
        return {partition.partition: await self._consumer.position(partition) for partition in self._start}

    async def ends(self) -> Mapping[int, int]:
        """Per partition the last stable offset: everything below is decided."""
        found = await self._consumer.end_offsets(list(self._start))
        return {partition.partition: offset for partition, offset in found.items()}

    async def _check(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        ends, positions = await self.ends(), await self.positions()
        self._owed = {
            partition: positions[partition.partition]
            for partition in self._start if ends[partition.partition] > positions[partition.partition]
        }
        self._quiet_seconds = 0.0

    async def _judge(self, waited_seconds: float) -> None:
        """Only time in which a fetch was waited for counts: a slow follower is no sign of a missing right."""
        if not self._owed:
            return
        self._owed = {partition: at for partition, at in self._owed.items() if await self._consumer.position(partition) == at}
        self._quiet_seconds += waited_seconds
        if self._owed and self._quiet_seconds >= PATIENCE_SECONDS:
            self._quiet_seconds = 0.0
            await self.ends()  # brokers that are away are quiet, too: they do not answer this
            raise NotReadable(self._topic, self._username)


class Places:
    """Reads single committed records by their offsets; one consumer, one reading at a time."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection, self._topic = connection, topic
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Ends the connections. Never raises."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _stop(consumer)

    async def end(self, partition: int) -> int:
        """The last stable offset of a partition. Raises: KafkaError, TimeoutError."""
        return (await self.ends([partition]))[partition]

    async def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The last stable offsets of partitions. Raises: KafkaError, TimeoutError."""
        async with asyncio.timeout(PLACE_SECONDS):
            consumer = await self._opened()
            found = await consumer.end_offsets([TopicPartition(self._topic, partition) for partition in partitions])
        return {partition.partition: offset for partition, offset in found.items()}

    async def stable_lag(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Per partition high watermark minus last stable offset. Raises: KafkaError."""
        stable = await self.ends(partitions)
        async with AIOKafkaConsumer(**self._connection.for_aiokafka(), group_id=None) as uncommitted:
            high = await uncommitted.end_offsets([TopicPartition(self._topic, partition) for partition in partitions])
        return {partition.partition: offset - stable[partition.partition] for partition, offset in high.items()}

    async def read(self, partition: int, offsets: Sequence[int]) -> Sequence[ConsumerRecord]:
        """The records at `offsets`, which ascend. Raises: RecordLost, KafkaError, TimeoutError."""
        if not offsets:
            return []
        async with asyncio.timeout(PLACE_SECONDS):
            consumer, wanted = await self._opened(), TopicPartition(self._topic, partition)
        async with self._turn:
            try:
                async with asyncio.timeout(PLACE_SECONDS):
                    return await _read(consumer, wanted, offsets)
            except TimeoutError:
                raise RecordLost(f"{self._topic}-{partition} has no record at {offsets[0]}") from None

    async def _opened(self) -> AIOKafkaConsumer:
        async with self._turn:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **self._connection.for_aiokafka(), group_id=None, enable_auto_commit=False, auto_offset_reset="none",
                    isolation_level="read_committed", fetch_max_wait_ms=100, max_partition_fetch_bytes=64 * 1024,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    await consumer.start()
                    await consumer.topics()
                except BaseException:
                    await _stop(consumer)
                    raise
                self._consumer = consumer
            return self._consumer


async def _stop(consumer: AIOKafkaConsumer) -> None:
    with suppress(KafkaError, OSError):
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, wanted: TopicPartition, offsets: Sequence[int]) -> Sequence[ConsumerRecord]:
    consumer.assign([wanted])
    consumer.seek(wanted, offsets[0])
    found: list[ConsumerRecord] = []
    try:
        while len(found) < len(offsets):
            for record in (await consumer.getmany(wanted, timeout_ms=200)).get(wanted, ()):
                if len(found) < len(offsets) and record.offset == offsets[len(found)]:
                    found.append(record)
            if len(found) < len(offsets) and offsets[len(found)] > await consumer.position(wanted) + GAP_MAX:
                consumer.seek(wanted, offsets[len(found)])
        return found
    finally:
        consumer.unsubscribe()

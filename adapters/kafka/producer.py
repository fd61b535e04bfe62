"""Writing behind a fence: one transaction is one record batch, so no reader ever gets half a commit.

aiokafka 0.14 commits a transaction whose sends failed and says OK, so the delivery is awaited before the commit; and after any
error its state machine is of no use, so a producer that failed once is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.producer import sender

from adapters.kafka.codec import to_headers, to_key
from adapters.kafka.connection import Connection
from core.envelope import Sealed

BATCH_BYTES_MAX = 1536 * 1024
REQUEST_BYTES_MAX = 2 * 1024 * 1024
TRANSACTION_TIMEOUT_MS = 10_000
REQUEST_TIMEOUT_MS = 5_000
THROW_AWAY_SECONDS = 2.0

# The wait before a transaction whose predecessor's markers are still being written: 20 ms in aiokafka, fixed.
sender.BACKOFF_OVERRIDE = 0.001

log = structlog.get_logger()


class FencedProducer:
    """The only writer of one partition from `open` on: whoever opened the same transactional id before can commit no more."""

    def __init__(self, connection: Connection, topic: str, partition: int, transactional_id: str) -> None:
        self._topic, self._partition = topic, partition
        self._producer = AIOKafkaProducer(
            **connection.for_aiokafka(), client_id=transactional_id, transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS, request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES_MAX, max_request_size=REQUEST_BYTES_MAX, linger_ms=0, acks="all",
        )

    async def open(self) -> None:
        """Fences: earlier producers of this id are refused from now on, their open transaction is aborted.

        Raises: KafkaError when the brokers cannot be reached or refuse the id.
        """
        await self._producer.start()
        await self._producer.partitions_for(self._topic)

    async def commit(self, records: Sequence[Sealed]) -> int:
        """Writes the records as one transaction; the offset of the first one. They are decided when it returns.

        Readers see them once the brokers have written the marker, a moment later. Any exception means that the outcome is
        unknown; the producer must be thrown away.
        """
        first = await self.write(records)
        await self._producer.commit_transaction()
        return first

    async def write(self, records: Sequence[Sealed]) -> int:
        """The first half of a commit: delivered, but seen by nobody until the transaction is committed."""
        batch = self._producer.create_batch()
        for record in records:
            if batch.append(timestamp=None, key=to_key(record), value=record.value, headers=to_headers(record)) is None:
                raise ValueError(f"a group of {len(records)} records is larger than a record batch may be")
        batch.close()
        await self._producer.begin_transaction()
        delivered = await (await self._producer.send_batch(batch, self._topic, partition=self._partition))
        if delivered is None or delivered.offset < 0:
            raise RuntimeError("the broker did not say where it wrote the records")
        return int(delivered.offset)

    async def throw_away(self) -> None:
        """Closes the connections without waiting for anything that is in flight. Never raises."""
        producer = self._producer
        producer._message_accumulator.fail_all(RuntimeError("the producer was thrown away"))
        try:
            await producer.client.close()
            async with asyncio.timeout(THROW_AWAY_SECONDS):
                await producer.stop()
        except Exception as error:  # a thrown away producer may end as it likes
            log.debug("kafka.producer_thrown_away", error=repr(error))
        finally:
            producer._closed = True
            _hear(producer)


def _hear(producer: AIOKafkaProducer) -> None:
    """Takes note of the exceptions that nobody waits for any more, so that asyncio does not report them as forgotten."""
    accumulator = producer._message_accumulator
    batches = [*accumulator._pending_batches, *(batch for queue in accumulator._batches.values() for batch in queue)]
    futures = [future for batch in batches for future in (batch.future, batch._drain_waiter)]
    for future in (*futures, producer._txn_manager._transaction_waiter):
        if future is not None and future.done() and not future.cancelled():
            future.exception()

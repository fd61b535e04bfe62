"""What somebody else writes into our topics: it belongs to no workspace and stops nobody."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from adapters.kafka.measurements import KafkaMeasurements
from core.ids import shard_of
from core.ports import MeasurementBatch
from tests.contract.event_log import W1, A, commit, everything, texts
from tests.contract.kafka_fixtures import KafkaHarness, connection, harness, kafka, topics

__all__ = ["connection", "harness", "kafka", "topics"]
pytestmark = pytest.mark.kafka


async def test_a_foreign_record_is_left_out_of_the_log_with_an_alarm(harness: KafkaHarness) -> None:
    log = await harness.open()
    home = shard_of(W1, log.shards)
    await log.append(commit(harness.clock, W1, (A, 0, ["1"])))
    await harness.close(log)
    await harness.write(home, b"not ours")
    await harness.write(home, b"{}", [("ce_commandid", b"c"), ("ce_type", b"com.example.other")])
    await harness.write(home, b"{}", [("ce_subject", b"\xff")])
    with capture_logs() as said:
        log = await harness.open()
        await log.append(commit(harness.clock, W1, (A, 1, ["2"])))
        batches = await everything(log)
    assert texts([one for batch in batches for one in batch.recorded]) == ["1", "2"]
    assert {one["offset"] for one in said if one["event"] == "kafka.foreign_record"} == {2, 3, 4}
    assert texts(await log.read(W1, A)) == ["1", "2"]


async def test_a_foreign_record_is_left_out_of_the_measurements_with_an_alarm(harness: KafkaHarness) -> None:
    topic = harness.topics.measurements
    async with KafkaMeasurements(harness.connection, topic) as measurements:
        batch = MeasurementBatch(workspace=W1, run="r", attempt=1, source="1/a", sequence=1, kind="log", body=b"x")
        position = await measurements.append(batch)
        async with AIOKafkaProducer(**harness.connection.for_aiokafka()) as producer:
            await producer.send_and_wait(topic.name, b"not ours", partition=position.shard)
            await producer.send_and_wait(topic.name, b"", partition=position.shard, headers=[("fl_run", b"\xff")])
        await measurements.append(batch)
        with capture_logs() as said:
            start = dict.fromkeys(range(measurements.shards), 0)
            batches = [one async for one in measurements.subscribe(start, batch_max=1, follow=False)]
    assert [one.batch for batch in batches for one in batch.measured] == [batch, batch]
    assert [one["offset"] for one in said if one["event"] == "kafka.foreign_record"] == [1, 2]
    assert batches[-1].next_offset == 4

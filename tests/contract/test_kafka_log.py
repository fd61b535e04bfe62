"""The event log on a real Kafka broker under the contract."""

from __future__ import annotations

import pytest

from tests.contract.event_log import EventLogContract
from tests.contract.kafka_fixtures import connection, harness, kafka, topics

__all__ = ["connection", "harness", "kafka", "topics"]
pytestmark = pytest.mark.kafka


class TestKafkaLog(EventLogContract):
    """Four shards of one topic, one broker for all tests."""

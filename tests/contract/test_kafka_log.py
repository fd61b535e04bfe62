"""The event log on a real Kafka broker under the contract."""

from __future__ import annotations

import pytest

from tests.contract.event_log import EventLogContract
from tests.contract.kafka_fixtures import connection, database, harness, kafka, postgres, topics

__all__ = ["connection", "database", "harness", "kafka", "postgres", "topics"]
pytestmark = pytest.mark.kafka


class TestKafkaLog(EventLogContract):
    """Four shards of one topic, one broker for all tests."""

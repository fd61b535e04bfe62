"""What the Kafka log relies on in aiokafka beyond its documentation: a new release that changes it fails here."""

from __future__ import annotations

import inspect

from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator, sender, transaction_manager

import adapters.kafka.producer  # noqa: F401 - sets it


def test_the_wait_between_transactions_can_still_be_shortened() -> None:
    assert sender.BACKOFF_OVERRIDE == 0.001
    assert "return BACKOFF_OVERRIDE" in inspect.getsource(sender.AddPartitionsToTxnHandler)


def test_what_is_touched_when_a_producer_is_thrown_away_is_still_there() -> None:
    source = inspect.getsource(AIOKafkaProducer)
    for name in ("_message_accumulator", "_txn_manager", "_closed", "self.client"):
        assert name in source
    accumulator = inspect.getsource(message_accumulator)
    for name in ("_pending_batches", "_batches", "_drain_waiter", "def fail_all"):
        assert name in accumulator
    assert "_transaction_waiter" in inspect.getsource(transaction_manager)

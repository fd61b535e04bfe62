"""Brokers of their own, for tests that kill them or need SASL."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.kafka.connection import Connection
from tools.kafka.broker import Broker
from tools.kafka.jars import BrokerUnavailable


@asynccontextmanager
async def own_broker(*, sasl: bool = False) -> AsyncIterator[Broker]:
    """A broker for one test module; its data go with it. A test fails with the sentence when none can be started."""
    folder = Path(tempfile.mkdtemp(prefix="foldline-test-broker-"))
    broker = Broker(folder, sasl=sasl)
    try:
        try:
            await broker.start()
        except BrokerUnavailable as error:
            pytest.fail(str(error), pytrace=False)
        yield broker
    finally:
        await broker.kill()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def connect_as(broker: Broker, user: str) -> Connection:
    return Connection(bootstrap=broker.bootstrap, username=user, password=broker.passwords[user])

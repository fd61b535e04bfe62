"""The fence: an owner that was overtaken can append nothing more, and what it had begun is aborted."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.errors import KafkaError

from adapters.kafka.producer import FencedProducer
from adapters.kafka.reader import Reader
from core.envelope import Head, Sealed, seal
from core.ids import Stream, shard_of
from tests.contract.event_log import W1, A, commit, texts
from tests.contract.kafka_fixtures import KafkaHarness, connection, harness, kafka, topics

__all__ = ["connection", "harness", "kafka", "topics"]
pytestmark = pytest.mark.kafka
FENCED = (KafkaError, AssertionError)
"""ProducerFenced, or what aiokafka's state machine makes of it afterwards."""


def sealed(harness: KafkaHarness, text: str) -> list[Sealed]:
    wish = commit(harness.clock, W1, (A, 0, [text]))
    return seal("test", wish, {A: 0}, Head(), harness.clock.now())[0]


async def test_a_zombie_owner_cannot_append(harness: KafkaHarness) -> None:
    topic = harness.topics.events.name
    zombie, owner = (FencedProducer(harness.connection, topic, 0, f"foldline/test/{topic}/0") for _ in range(2))
    await zombie.open()
    assert await zombie.commit(sealed(harness, "first")) == 0
    began = time.monotonic()
    await owner.open()
    assert time.monotonic() - began < 2.0
    with pytest.raises(FENCED):
        await zombie.commit(sealed(harness, "stale"))
    assert await owner.commit(sealed(harness, "second")) == 2
    await zombie.throw_away()
    await owner.throw_away()
    stored = [value for _, _, value in await harness.raw(None, 0)]
    assert stored == [sealed(harness, text)[0].value for text in ("first", "second")]


async def test_the_open_transaction_of_an_overtaken_owner_is_aborted_at_once(harness: KafkaHarness) -> None:
    topic = harness.topics.events.name
    zombie, owner = (FencedProducer(harness.connection, topic, 1, f"foldline/test/{topic}/1") for _ in range(2))
    await zombie.open()
    await zombie.write(sealed(harness, "hanging"))
    async with Reader(harness.connection, topic, {1: 0}) as reader:
        assert (await reader.ends())[1] == 0
    await owner.open()
    await owner.commit(sealed(harness, "second"))
    with pytest.raises(FENCED):
        await zombie.commit(sealed(harness, "stale"))
    await zombie.throw_away()
    await owner.throw_away()
    assert [value for _, _, value in await harness.raw(None, 1)] == [sealed(harness, "second")[0].value]


async def test_a_hanging_transaction_shows_in_the_gauge_until_it_is_aborted(harness: KafkaHarness) -> None:
    log = await harness.open()
    home = shard_of(W1, log.shards)
    await log.append(commit(harness.clock, W1, (A, 0, ["0"])))
    await harness.stable(home)
    foreign = FencedProducer(harness.connection, harness.topics.events.name, home, "foldline/test/foreign")
    await foreign.open()
    await foreign.write(sealed(harness, "hanging"))
    assert (await log.stable_lag())[home] > 0
    again = FencedProducer(harness.connection, harness.topics.events.name, home, "foldline/test/foreign")
    await again.open()
    await harness.stable(home)
    await foreign.throw_away()
    await again.throw_away()
    assert texts(await log.read(W1, A)) == ["0"]


async def test_an_owner_that_opens_again_fences_itself_and_loses_nothing(harness: KafkaHarness) -> None:
    log = await harness.open()
    home = shard_of(W1, log.shards)
    for number in range(5):
        await log.append(commit(harness.clock, W1, (A, number, [str(number)])))
    fence = FencedProducer(harness.connection, harness.topics.events.name, home, f"foldline/test/{harness.topics.events.name}/{home}")
    await fence.open()
    number = 5
    async with asyncio.timeout(20):
        while number < 10:
            try:
                await log.append(commit(harness.clock, W1, (A, number, [str(number)])))
                number += 1
            except Exception as refused:
                assert getattr(refused, "kind", "") == "unavailable", refused
                await asyncio.sleep(0.05)
    with pytest.raises(FENCED):
        await fence.commit(sealed(harness, "stale"))
    await fence.throw_away()
    assert texts(await log.read(W1, A)) == [str(n) for n in range(10)]
    assert [attributes["sequence"] for _, attributes, _ in await harness.raw(None, home)] == [str(n) for n in range(1, 11)]


async def test_two_transactions_at_once_never_mix(harness: KafkaHarness) -> None:
    log = await harness.open()
    wishes = [commit(harness.clock, W1, (Stream(f"thing/{n}"), 0, ["a", "b", "c"])) for n in range(200)]
    done = await asyncio.gather(*(log.append(wish) for wish in wishes))
    for one in done:
        offsets = [recorded.position.offset for recorded in one.recorded]
        assert offsets == list(range(offsets[0], offsets[0] + 3))

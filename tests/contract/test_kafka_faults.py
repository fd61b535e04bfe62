"""What the Kafka log does when brokers and databases fail under it; each broker here is the module's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adapters.kafka import log as kafka_log
from adapters.kafka import owner
from adapters.kafka.connection import Connection
from adapters.kafka.log import KafkaLog
from adapters.kafka.setup import Topics
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from core.envelope import GENESIS, link
from core.errors import OutcomeUnknown, Unavailable
from core.ids import Stream, shard_of
from core.ports import Commit, Committed, EventLog
from tests.contract.event_log import W1, A, commit, everything, texts
from tests.contract.kafka_brokers import own_broker
from tests.contract.kafka_fixtures import KafkaHarness, harness, topics
from tests.postgres_fixtures import temporary_folder
from tools.kafka.broker import Broker

__all__ = ["harness", "topics"]
pytestmark = pytest.mark.kafka
DEADLINE_SECONDS = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker() -> AsyncIterator[Broker]:
    async with own_broker() as broker:
        yield broker


@pytest.fixture
async def connection(broker: Broker) -> Connection:
    return Connection(bootstrap=broker.bootstrap)


async def until_recorded(log: EventLog, wish: Commit) -> Committed:
    """What a client does: the same command id again for as long as the answer is 503."""
    while True:
        try:
            return await log.append(wish)
        except Unavailable as refused:
            await asyncio.sleep(min(refused.retry_after_seconds or 0.1, 0.1))


async def check_whole(harness: KafkaHarness, log: KafkaLog, commands: list[Commit]) -> None:
    """Each command once, sequences dense, the chain unbroken."""
    records = await harness.raw(log, shard_of(W1, log.shards))
    assert sorted(attributes["commandid"] for _, attributes, _ in records) == sorted(one.context.command for one in commands)
    chain = GENESIS
    for number, (_, attributes, value) in enumerate(records, 1):
        chain = link(chain, number, attributes, value)
        assert (int(attributes["sequence"]), attributes["chain"]) == (number, chain)


async def test_callers_who_wait_while_the_broker_is_killed_and_restarted_hear_the_truth(broker: Broker, harness: KafkaHarness) -> None:
    log = await harness.open()
    wishes: list[Commit] = []
    unknown: list[str] = []
    stop = asyncio.Event()

    async def caller(number: int) -> None:
        version = 0
        while not stop.is_set():
            wish = commit(harness.clock, W1, (Stream(f"thing/{number}"), version, [f"{number}/{version}"]))
            wishes.append(wish)
            try:
                await log.append(wish)
            except OutcomeUnknown:
                unknown.append(wish.context.command)
                await until_recorded(log, wish)
            except Unavailable:
                await until_recorded(log, wish)
            version += 1

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        for number in range(24):
            tasks.create_task(caller(number))
        await asyncio.sleep(0.5)
        await broker.kill()
        await broker.start()
        before = len(wishes)
        while len(wishes) < before + 200:
            await asyncio.sleep(0.05)
        stop.set()
    await check_whole(harness, log, wishes)
    assert len([one for batch in await everything(log) for one in batch.recorded]) == len(wishes)


async def test_a_commit_that_hangs_is_unknown_after_its_deadline_and_then_answered(
    broker: Broker, harness: KafkaHarness, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, "COMMIT_SECONDS", 1.0)
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (A, 0, ["before"])))
    pid = broker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        wish = commit(harness.clock, W1, (A, 1, ["hanging"]))
        pending = log.append(wish)
        await asyncio.sleep(1.5)
        assert not pending.done()
        with pytest.raises(Unavailable):
            await log.append(commit(harness.clock, W1, (A, 1, ["another"])))
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(DEADLINE_SECONDS):
        (answer,) = await asyncio.gather(pending, return_exceptions=True)
        assert isinstance(answer, Committed | Unavailable)
        await until_recorded(log, wish)
    assert texts(await log.read(W1, A)) == ["before", "hanging"]


async def test_callers_hear_that_the_outcome_is_unknown_when_the_broker_stays_away(
    broker: Broker, harness: KafkaHarness, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, "COMMIT_SECONDS", 0.3)
    monkeypatch.setattr(owner, "ANSWER_SECONDS", 0.5)
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (A, 0, ["before"])))
    await broker.kill()
    wish = commit(harness.clock, W1, (A, 1, ["x"]))
    with pytest.raises(OutcomeUnknown):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await log.append(wish)
    await broker.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await until_recorded(log, wish)
    assert texts(await log.read(W1, A)) == ["before", "x"]


async def test_a_group_that_the_broker_refuses_is_recorded_for_nobody(harness: KafkaHarness) -> None:
    log = await harness.open()
    name = harness.topics.events.name
    await log.append(commit(harness.clock, W1, (A, 0, ["before"])))
    await harness.set_topic(name, {"max.message.bytes": "50000"})
    small = [log.append(commit(harness.clock, W1, (Stream(f"small/{n}"), 0, ["x"]))) for n in range(5)]
    large = log.append(commit(harness.clock, W1, (Stream("large/1"), 0, ["x" * 100_000])))
    after = log.append(commit(harness.clock, W1, (Stream("small/after"), 0, ["x"])))
    async with asyncio.timeout(DEADLINE_SECONDS):
        answers = await asyncio.gather(*small, large, after, return_exceptions=True)
    assert all(isinstance(one, Unavailable) and not isinstance(one, OutcomeUnknown) for one in answers)
    await harness.set_topic(name, {"max.message.bytes": "2097152"})
    async with asyncio.timeout(DEADLINE_SECONDS):
        done = await until_recorded(log, commit(harness.clock, W1, (A, 1, ["after"])))
    assert done.recorded[0].sequence == 2
    assert texts(await log.read(W1, A)) == ["before", "after"]


async def test_a_log_without_its_index_makes_it_anew(harness: KafkaHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SEGMENT_EVENTS_MAX", 50)
    log = await harness.open()
    wishes = [commit(harness.clock, W1, (Stream(f"thing/{n}"), 0, [f"{n}"] * 3)) for n in range(100)]
    first = await asyncio.gather(*(log.append(wish) for wish in wishes))
    await harness.close(log)
    await harness.database.execute("TRUNCATE kafka_shard, kafka_stream, kafka_head, kafka_command")
    again = await harness.open()
    assert [await again.append(wish) for wish in wishes[:3]] == [
        Committed(done.position, done.recorded, again=True) for done in first[:3]
    ]
    assert texts(await again.read(W1, Stream("thing/99"))) == ["99"] * 3
    done = await again.append(commit(harness.clock, W1, (Stream("thing/99"), 3, ["next"])))
    assert done.recorded[0].sequence == 301


async def test_what_the_index_covers_is_read_from_the_log(harness: KafkaHarness) -> None:
    log = await harness.open()
    for number in range(30):
        await log.append(commit(harness.clock, W1, (A, number, [str(number)]), (Stream(f"other/{number}"), 0, ["x"])))
    await harness.close(log)
    again = await harness.open()
    assert texts(await again.read(W1, A)) == [str(number) for number in range(30)]
    assert texts(await again.read(W1, A, after=28)) == ["28", "29"]
    assert [text for batch in await everything(again) for text in texts(batch.recorded) if text != "x"] == [str(n) for n in range(30)]


async def test_a_shard_whose_index_is_too_far_behind_refuses(harness: KafkaHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "TAIL_EVENTS_MAX", 5)
    monkeypatch.setattr(kafka_log, "INDEX_SECONDS", 3600.0)
    log = await harness.open()
    for number in range(5):
        await log.append(commit(harness.clock, W1, (A, number, [str(number)])))
    with pytest.raises(Unavailable, match="index is too far behind"):
        await log.append(commit(harness.clock, W1, (A, 5, ["5"])))
    await harness.close(log)
    again = await harness.open()
    assert (await again.append(commit(harness.clock, W1, (A, 5, ["5"])))).recorded[0].version == 6


async def test_an_index_written_by_somebody_else_opens_the_shard_anew(harness: KafkaHarness) -> None:
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (A, 0, ["0"])))
    home = shard_of(W1, log.shards)
    while not await harness.database.fetchval("SELECT checkpoint FROM kafka_shard WHERE shard = $1", home):
        await asyncio.sleep(0.05)
    await harness.database.execute("UPDATE kafka_shard SET checkpoint = 0 WHERE shard = $1", home)
    async with asyncio.timeout(DEADLINE_SECONDS):
        for number in range(1, 20):
            wish = commit(harness.clock, W1, (A, number, [str(number)]))
            await until_recorded(log, wish)
            await asyncio.sleep(0.05)
    assert texts(await log.read(W1, A)) == [str(number) for number in range(20)]


async def test_a_server_without_shards_follows_what_another_writes(harness: KafkaHarness) -> None:
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (A, 0, ["0", "1"])))
    watcher = await harness.open("server-2")
    home = shard_of(W1, log.shards)
    assert watcher.epoch(home) is None
    with pytest.raises(Unavailable):
        await watcher.append(commit(harness.clock, W1, (A, 2, ["no"])))
    assert (await watcher.directory())[home].owner == "server-1"
    batches = watcher.subscribe({home: 0})
    seen: list[str] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(seen) < 4:
            batch = await anext(batches)
            seen += texts(batch.recorded)
            if len(seen) == 2:
                await log.append(commit(harness.clock, W1, (A, 2, ["2", "3"])))
    assert seen == ["0", "1", "2", "3"]
    assert [text for batch in await everything(watcher, batch_max=1) for text in texts(batch.recorded)] == seen
    await harness.close(log)
    async with asyncio.timeout(DEADLINE_SECONDS):
        for number in range(4, 40):
            done = await until_recorded(watcher, commit(harness.clock, W1, (A, number, [str(number)])))
        assert done.recorded[0].sequence == 40
        while len(seen) < 40:
            seen += texts((await anext(batches)).recorded)
    assert seen == [str(number) for number in range(40)]
    await batches.aclose()  # type: ignore[attr-defined]  # the port asks for an iterator that can be closed


async def test_while_postgres_is_away_nothing_is_lost_and_nothing_recorded_twice(
    connection: Connection, topics: Topics,
) -> None:
    folder = temporary_folder()
    try:
        async with PostgresServer(folder / "pg", fsync=False) as server, Database(server.dsn) as own:
            plain = await own.connect()
            await migrate(plain)
            await plain.close()
            harness = KafkaHarness(connection, own, topics)
            log = await harness.open()
            wishes = [commit(harness.clock, W1, (A, number, [str(number)])) for number in range(40)]
            async with asyncio.timeout(DEADLINE_SECONDS):
                for number, wish in enumerate(wishes):
                    if number in (10, 25):
                        os.kill(server.pid, signal.SIGKILL)
                    await until_recorded(log, wish)
                await check_whole(harness, log, wishes)
                assert texts(await log.read(W1, A)) == [str(number) for number in range(40)]
            await harness.close_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_reading_past_the_end_of_a_stream_changes_nothing(harness: KafkaHarness) -> None:
    log = await harness.open()
    await log.append(commit(harness.clock, W1, (A, 0, ["0"])))
    await harness.close(log)
    again = await harness.open()
    assert list(await again.read(W1, A, after=100)) == []
    assert (await again.append(commit(harness.clock, W1, (A, 1, ["1"])))).recorded[0].version == 2

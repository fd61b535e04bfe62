"""The event log when Postgres fails it: what callers are told is what the log holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.postgres import shard
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.log import PostgresLog
from adapters.postgres.measurements import PostgresMeasurements
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database
from core.errors import OutcomeUnknown, Unavailable
from core.events import Recorded
from core.ids import Stream
from core.ports import Commit, Committed
from tests.adapters.postgres.wire import wired
from tests.contract.event_log import W1, W2, A, B, commit, everything, texts
from tests.contract.measurements import batch
from tests.contract.settable_clock import SettableClock
from tests.postgres_fixtures import temporary_folder

DEADLINE_SECONDS = 60
LOCK = "SELECT 1 FROM shard WHERE log = 'postgres' AND shard = 0 FOR UPDATE"
WRITERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

END_ALL_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def log(database: Database, clock: SettableClock) -> AsyncIterator[PostgresLog]:
    async with PostgresLog(database, clock) as opened:
        yield opened


@asynccontextmanager
async def held_shard(dsn: str) -> AsyncIterator[Any]:
    """Keeps every commit of the shard waiting for the length of the block."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute(LOCK)
        yield connection
    await connection.close()


async def waiting_backend(dsn: str) -> int:
    """The backend whose commit waits for the shard. (Asked outside transactions: within one, the answer never changes.)"""
    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (pid := await connection.fetchval(WRITERS)) is None:
            await asyncio.sleep(0.005)
    await connection.close()
    return int(pid)


async def until_recorded(log: PostgresLog, wish: Commit) -> Committed:
    """What a client does: the same command again, for as long as the answer is that it should try again."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return await log.append(wish)
            except Unavailable:
                await asyncio.sleep(0.01)


async def test_killed_in_the_middle_of_appends_nothing_is_lost_and_nothing_is_doubled(clock: SettableClock) -> None:
    """Postgres dies twice under 16 callers; a follower sees each event once, in order, and the chain holds."""
    folder = temporary_folder()
    seen: list[Recorded] = []

    async def follow(log: PostgresLog, count: int) -> None:
        async for found in log.subscribe({0: 0}):
            seen.extend(found.recorded)
            if len(seen) >= count:
                return

    async def caller(log: PostgresLog, number: int) -> None:
        for version in range(15):
            done = await until_recorded(log, commit(clock, W1, (Stream(f"thing/{number}"), version, [f"{number}.{version}"])))
            assert texts(done.recorded) == [f"{number}.{version}"]

    async def kill(server: PostgresServer) -> None:
        for count in (40, 120):
            while len(seen) < count:
                await asyncio.sleep(0.002)
            os.kill(server.pid, signal.SIGKILL)

    try:
        async with PostgresServer(folder / "pg") as server, Database(server.dsn) as database:
            async with database.acquire() as connection:
                await migrate(connection)
            async with PostgresLog(database, clock) as log, asyncio.timeout(2 * DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
                tasks.create_task(follow(log, 240))
                tasks.create_task(kill(server))
                for number in range(16):
                    tasks.create_task(caller(log, number))
            assert [one.sequence for one in seen] == list(range(1, 241))
            assert len({(one.stream, one.version) for one in seen}) == 240
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_commit_whose_answer_was_lost_is_answered_from_the_log(dsn: str, clock: SettableClock, tmp_path: Path) -> None:
    async with wired(dsn, tmp_path) as (wire, through), Database(through) as database, PostgresLog(database, clock) as log:
        await log.append(commit(clock, W1, (A, 0, ["before"])))
        await log.append(commit(clock, W2, (B, 0, ["before"])))
        wire.lose_answers()
        first, second = log.append(commit(clock, W1, (A, 1, ["lost answer"]))), log.append(commit(clock, W2, (A, 0, ["same group"])))
        await wire.lost.wait()
        behind = log.append(commit(clock, W1, (A, 2, ["decided on it"])))
        wire.mend()
        async with asyncio.timeout(DEADLINE_SECONDS):
            done = await asyncio.gather(first, second, behind, return_exceptions=True)
        assert [type(one) for one in done] == [Committed, Committed, Unavailable]
        assert not done[0].again and texts(done[0].recorded) == ["lost answer"]  # type: ignore[union-attr]  # it is Committed
        assert texts(await log.read(W1, A)) == ["before", "lost answer"]
        later = await until_recorded(log, commit(clock, W1, (A, 2, ["after"])))
        assert later.recorded[0].sequence == 3
        assert [text for one in await everything(log) for text in texts(one.recorded)] == [
            "before", "before", "lost answer", "same group", "after",
        ]


async def test_a_commit_that_never_happened_is_unavailable_and_can_be_sent_again(dsn: str, log: PostgresLog, clock: SettableClock) -> None:
    wish = commit(clock, W1, (A, 0, ["1"]))
    async with held_shard(dsn) as connection:
        pending = log.append(wish)
        await connection.execute("SELECT pg_terminate_backend($1)", await waiting_backend(dsn))
    with pytest.raises(Unavailable) as refusal:
        await pending
    assert not isinstance(refusal.value, OutcomeUnknown)
    assert not (await until_recorded(log, wish)).again


async def test_a_commit_that_hangs_is_given_up_and_then_known(
    dsn: str, log: PostgresLog, clock: SettableClock, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard, "COMMIT_SECONDS", 0.05)
    async with held_shard(dsn):
        pending = log.append(commit(clock, W1, (A, 0, ["slow"])))
        await waiting_backend(dsn)
        behind: list[asyncio.Future[Committed]] = []
        while not any(one.done() for one in behind):
            behind.append(log.append(commit(clock, W2, (B, 0, ["behind"]))))
            await asyncio.sleep(0.01)
        assert not pending.done()
    outcome = (await asyncio.gather(pending, return_exceptions=True))[0]
    found = texts(await log.read(W1, A))
    assert (isinstance(outcome, Committed), found) in ((True, ["slow"]), (False, []))


async def test_without_postgres_the_outcome_is_unknown_in_the_end(
    dsn: str, clock: SettableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard, "OUTCOME_SECONDS", 0.1)
    monkeypatch.setattr("adapters.postgres.pool.CONNECT_SECONDS", 0.1)
    async with wired(dsn, tmp_path) as (wire, through), Database(through) as database, PostgresLog(database, clock) as log:
        wish = commit(clock, W1, (A, 0, ["1"]))
        wire.lose_answers()
        with pytest.raises(OutcomeUnknown):
            await log.append(wish)
        wire.mend()
        done = await until_recorded(log, wish)
        assert texts(await log.read(W1, A)) == ["1"] == texts(done.recorded)


async def test_appends_over_the_limit_are_refused_while_others_wait(
    dsn: str, log: PostgresLog, clock: SettableClock, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard, "WAITING_MAX", 5)
    async with held_shard(dsn):
        first = log.append(commit(clock, W1, (Stream("thing/first"), 0, ["x"])))
        await waiting_backend(dsn)
        pending = [log.append(commit(clock, W1, (Stream(f"thing/{n}"), 0, ["x"]))) for n in range(7)]
    results = await asyncio.gather(first, *pending, return_exceptions=True)
    assert [type(one) for one in results] == [Committed] * 6 + [Unavailable] * 2


async def test_a_writer_fenced_in_the_middle_of_a_commit_records_nothing(dsn: str, log: PostgresLog, clock: SettableClock) -> None:
    async with held_shard(dsn) as connection:
        pending = log.append(commit(clock, W1, (A, 0, ["stale"])))
        await waiting_backend(dsn)
        await connection.execute("UPDATE shard SET epoch = epoch + 1, opened = opened + 1 WHERE log = 'postgres'")
    with pytest.raises(Unavailable):
        await pending
    assert log.epoch(0) is None
    assert list(await log.read(W1, A)) == []


async def test_a_log_that_lost_its_shard_follows_the_new_owner(dsn: str, log: PostgresLog, clock: SettableClock) -> None:
    await log.append(commit(clock, W1, (A, 0, ["1"])))
    followed = log.subscribe({0: 0})
    async with Database(dsn) as database, PostgresLog(database, clock) as owner, asyncio.timeout(DEADLINE_SECONDS):
        await owner.append(commit(clock, W1, (A, 1, ["2"])))
        await owner.append(commit(clock, W1, (A, 2, ["3"])))
        seen: list[str] = []
        while len(seen) < 3:
            seen += texts((await anext(followed)).recorded)
    assert seen == ["1", "2", "3"]
    await followed.aclose()  # type: ignore[attr-defined]  # the port asks for an iterator that can be closed


async def test_text_that_cannot_be_stored_fails_its_caller_only(log: PostgresLog, clock: SettableClock) -> None:
    good = log.append(commit(clock, W1, (A, 0, ["1"])))
    bad: Sequence[asyncio.Future[Committed]] = [
        log.append(commit(clock, W1, (Stream("thing/\0"), 0, ["x"]))),
        log.append(commit(clock, W1, (Stream("thing/\ud800"), 0, ["x"]))),
        log.append(commit(clock, W1, (B, 0, ["\ud800"]))),
        log.append(commit(clock, W1, (B, 0, ["x"]), correlation="\0")),
        log.append(commit(clock, W1, (B, 0, ["a \0 would stop the read models"]))),
    ]
    after = log.append(commit(clock, W1, (A, 1, ["\\u0000 is fine in an event"])))
    results = await asyncio.gather(*bad, return_exceptions=True)
    assert {getattr(one, "code", None) for one in results} == {"invalid"}
    assert (await good).recorded[0].sequence == 1 and (await after).recorded[0].sequence == 2
    assert texts(await log.read(W1, A))[1] == "\\u0000 is fine in an event"


async def test_command_ids_are_forgotten_after_their_time(dsn: str, database: Database, clock: SettableClock) -> None:
    async with PostgresLog(database, clock) as log:
        await log.append(commit(clock, W1, (A, 0, ["old"])))
        clock.advance(9 * 24 * 3600)
    async with PostgresLog(database, clock) as log:
        await log.append(commit(clock, W1, (A, 1, ["new"])))
        assert await database.fetchval("SELECT count(*) FROM command") == 1
        assert texts(await log.read(W1, A)) == ["old", "new"]


async def test_measurements_are_stored_again_once_postgres_is_back(dsn: str, database: Database, clock: SettableClock) -> None:
    async with PostgresMeasurements(database, clock) as measurements, asyncio.timeout(DEADLINE_SECONDS):
        await measurements.append(batch(sequence=1))
        connection = await asyncpg.connect(dsn)
        await connection.execute(END_ALL_OTHERS)
        await connection.close()
        stored = None
        while stored is None:
            try:
                stored = await measurements.append(batch(sequence=2))
            except Unavailable:
                await asyncio.sleep(0.01)
        read = [one async for one in measurements.subscribe({0: 0}, follow=False)]
        assert {one.batch.sequence for many in read for one in many.measured} == {1, 2}

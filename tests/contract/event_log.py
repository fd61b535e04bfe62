"""What every event log promises. An adapter's test class subclasses `EventLogContract` and gives a fixture `harness`.

    class TestMemoryLog(EventLogContract):
        @pytest.fixture
        async def harness(self) -> AsyncIterator[LogHarness]: ...
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from core.envelope import EVENT_BYTES_MAX, GENESIS, Sealed, link
from core.errors import CommandReused, EventTooLarge, Invalid, KeyExpired, OutcomeUnknown, Refusal, Unavailable, VersionConflict
from core.events import Recorded, Unreadable
from core.ids import ActorId, CommandId, Stream, WorkspaceId, shard_of, uuid7
from core.ports import Batch, Commit, Committed, Context, EventLog, Gained, Lost, Shards, StreamWrite
from core.workspaces import WorkspaceUpdated
from tests.contract.planting import following
from tests.contract.settable_clock import SettableClock

DEADLINE_SECONDS = 20
W1, W2, W3 = (WorkspaceId(f"ws-{name}") for name in ("one", "two", "three"))
A, B, C = (Stream(f"thing/{name}") for name in "abc")


class Log(EventLog, Shards, Protocol):
    """An open log that writes its shards."""


class LogHarness(Protocol):
    """One storage, on which logs are opened. `clock` is the one that every log was given."""

    clock: SettableClock

    async def open(self) -> Log:
        """A log on the storage that writes all its shards, fencing those opened before."""
        ...

    async def close(self, log: Log) -> None:
        """Ends it in order. Logs that a test leaves open are closed by the fixture."""
        ...

    async def plant(self, log: Log, shard: int, sealed: Sealed) -> Log:
        """Writes a record past every check, straight into the storage; returns a log that was opened after it."""
        ...

    async def raw(self, log: Log, shard: int) -> Sequence[tuple[int, Mapping[str, str], bytes]]:
        """The durable records of a shard as they are stored: offset, attributes (without any prefix), value."""
        ...


class Counter:
    """Command ids: UUIDv7 of a given time."""

    def __init__(self) -> None:
        self.count = 0

    def command(self, at: datetime) -> CommandId:
        self.count += 1
        return CommandId(uuid7(int(at.timestamp() * 1000), self.count.to_bytes(10, "big")))


COUNTER = Counter()


def note(text: str) -> WorkspaceUpdated:
    return WorkspaceUpdated(workspace="any", description=text)


def commit(
    clock: SettableClock, workspace: WorkspaceId, *writes: tuple[Stream, int, Sequence[str]],
    command: CommandId | None = None, request: str = "", **context: Any,
) -> Commit:
    """A commit of notes; its request hash covers `request` and the writes, unless the command says otherwise."""
    known = {"actor": ActorId("user/u-1"), "correlation": "c-1", "command": command or COUNTER.command(clock.now())}
    digest = hashlib.sha256(f"{request}{writes}".encode()).hexdigest()
    made = tuple(StreamWrite(stream, version, tuple(note(text) for text in texts)) for stream, version, texts in writes)
    return Commit(workspace, Context(**{**known, **context}), digest, made)


def texts(recorded: Sequence[Recorded]) -> list[str]:
    return [one.event.description for one in recorded if isinstance(one.event, WorkspaceUpdated) and one.event.description is not None]


async def everything(log: EventLog, start: Mapping[int, int] | None = None, batch_max: int = 500) -> list[Batch]:
    wanted = dict.fromkeys(range(log.shards), 0) if start is None else start
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [batch async for batch in log.subscribe(wanted, batch_max=batch_max, follow=False)]


async def next_of(batches: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await anext(batches)


def distinct_workspaces(count: int, shards: int) -> list[WorkspaceId]:
    """Workspaces that all lie in the shard of W1."""
    home, found, number = shard_of(W1, shards), [W1], 0
    while len(found) < count:
        name = WorkspaceId(f"ws-{number}")
        number += 1
        if shard_of(name, shards) == home:
            found.append(name)
    return found


class EventLogContract:
    @pytest.fixture
    def clock(self, harness: LogHarness) -> SettableClock:
        return harness.clock

    @pytest.fixture
    async def log(self, harness: LogHarness) -> Log:
        return await harness.open()

    # -- what an append records ----------------------------------------------------------------------------------------
    async def test_a_recorded_event_carries_its_whole_envelope(self, log: Log, clock: SettableClock) -> None:
        wish = commit(
            clock, W1, (A, 0, ["x"]), actor=ActorId("node/n-1"), correlation="corr", causation="cause",
            traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01",
        )
        done = await log.append(wish)
        (one,) = done.recorded
        assert one.event == note("x")
        assert (one.workspace, one.stream, one.version, one.sequence, one.id) == (W1, A, 1, 1, f"{W1}/1")
        assert (one.actor, one.correlation, one.causation, one.command) == ("node/n-1", "corr", "cause", wish.context.command)
        assert one.traceparent == wish.context.traceparent
        assert one.at == clock.now()
        assert one.position == done.position
        assert (done.position.log, done.position.shard, done.again) == (log.id, shard_of(W1, log.shards), False)

    async def test_what_is_read_back_equals_what_was_answered(self, log: Log, clock: SettableClock) -> None:
        done = await log.append(commit(clock, W1, (A, 0, ["1", "2"]), (B, 0, ["3"])))
        assert [*await log.read(W1, A), *await log.read(W1, B)] == list(done.recorded)
        assert [one for batch in await everything(log) for one in batch.recorded] == list(done.recorded)

    async def test_the_stored_bytes_are_the_event_as_json_without_nulls(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["ü"])))
        ((_, attributes, value),) = await harness.raw(log, shard_of(W1, log.shards))
        assert value == '{"type":"workspace-updated","workspace":"any","description":"ü"}'.encode()
        assert attributes["type"] == "foldline.workspace-updated"
        assert attributes["specversion"] == "1.0"

    async def test_versions_are_dense_in_each_stream(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["1", "2", "3"])))
        await log.append(commit(clock, W1, (B, 0, ["4"]), (A, 3, ["5"])))
        assert [one.version for one in await log.read(W1, A)] == [1, 2, 3, 4]
        assert texts(await log.read(W1, A)) == ["1", "2", "3", "5"]
        assert texts(await log.read(W1, A, after=2)) == ["3", "5"]
        assert list(await log.read(W1, A, after=4)) == []

    async def test_sequences_are_dense_in_each_workspace(self, log: Log, clock: SettableClock) -> None:
        for number in range(5):
            await asyncio.gather(
                log.append(commit(clock, W1, (A, 2 * number, ["a", "b"]))),
                log.append(commit(clock, W2, (A, number, ["c"]))),
            )
        seen: dict[WorkspaceId, list[int]] = {W1: [], W2: []}
        for batch in await everything(log):
            for one in batch.recorded:
                seen[one.workspace].append(one.sequence)
        assert seen == {W1: list(range(1, 11)), W2: list(range(1, 6))}

    async def test_the_chain_can_be_verified_from_the_stored_records(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        await asyncio.gather(*(log.append(commit(clock, W1, (Stream(f"thing/{n}"), 0, ["x", "y"]))) for n in range(20)))
        await log.append(commit(clock, W2, (A, 0, ["z"])))
        chains: dict[str, str] = {}
        count = 0
        for shard in range(log.shards):
            for _, attributes, value in await harness.raw(log, shard):
                workspace = attributes["partitionkey"]
                expected = link(chains.get(workspace, GENESIS), int(attributes["sequence"]), attributes, value)
                assert attributes["chain"] == expected
                chains[workspace] = expected
                count += 1
        assert count == 41

    async def test_another_workspace_does_not_see_a_stream(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["1"])))
        assert list(await log.read(W2, A)) == []
        done = await log.append(commit(clock, W2, (A, 0, ["2"])))
        assert done.recorded[0].version == 1

    async def test_time_never_goes_backwards_in_a_workspace(self, log: Log, clock: SettableClock) -> None:
        first = await log.append(commit(clock, W1, (A, 0, ["1"])))
        clock.advance(-3600)
        second = await log.append(commit(clock, W1, (A, 1, ["2"])))
        other = await log.append(commit(clock, W2, (A, 0, ["3"])))
        assert second.recorded[0].at == first.recorded[0].at
        assert other.recorded[0].at == clock.now()

    # -- expected versions ---------------------------------------------------------------------------------------------
    async def test_a_wrong_expected_version_is_a_conflict_and_records_nothing(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["1"])))
        for wrong in (0, 2):
            with pytest.raises(VersionConflict) as refusal:
                await log.append(commit(clock, W1, (A, wrong, ["no"])))
            assert (refusal.value.expected, refusal.value.actual) == (wrong, 1)
        assert texts(await log.read(W1, A)) == ["1"]
        assert (await log.append(commit(clock, W1, (A, 1, ["2"])))).recorded[0].sequence == 2

    async def test_several_streams_change_together_or_not_at_all(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (B, 0, ["there"])))
        with pytest.raises(VersionConflict):
            await log.append(commit(clock, W1, (A, 0, ["1"]), (B, 0, ["2"]), (C, 0, ["3"])))
        assert list(await log.read(W1, A)) == [] and list(await log.read(W1, C)) == []
        done = await log.append(commit(clock, W1, (A, 0, ["1"]), (B, 1, ["2"]), (C, 0, ["3"])))
        assert [(one.stream, one.version, one.sequence) for one in done.recorded] == [(A, 1, 2), (B, 2, 3), (C, 1, 4)]

    async def test_of_two_writers_of_the_same_version_one_wins(self, log: Log, clock: SettableClock) -> None:
        answers = await asyncio.gather(
            *(log.append(commit(clock, W1, (A, 0, [str(n)]))) for n in range(8)), return_exceptions=True,
        )
        won = [one for one in answers if isinstance(one, Committed)]
        assert len(won) == 1 and isinstance(answers[0], Committed)
        assert all(isinstance(one, VersionConflict | Unavailable) for one in answers[1:])
        assert texts(await log.read(W1, A)) == ["0"]

    # -- order and dependence ------------------------------------------------------------------------------------------
    async def test_an_append_may_depend_on_one_still_in_flight(self, log: Log, clock: SettableClock) -> None:
        pending = [log.append(commit(clock, W1, (A, n, [str(n)]))) for n in range(30)]
        done = await asyncio.gather(*pending)
        assert [one.recorded[0].sequence for one in done] == list(range(1, 31))
        assert texts(await log.read(W1, A)) == [str(n) for n in range(30)]

    async def test_a_text_with_the_character_nul_is_refused_and_its_spelling_is_not(self, log: Log, clock: SettableClock) -> None:
        for text in ("\0", "a\0b", "\\\0", "\\\\\0"):
            with pytest.raises(Invalid):
                await log.append(commit(clock, W1, (A, 0, [text])))
        spelled = ["\\u0000", "a\\\\u0000b"]
        await log.append(commit(clock, W1, (A, 0, spelled)))
        assert texts(await log.read(W1, A)) == spelled

    async def test_what_depends_on_a_refused_append_fails_with_it(self, log: Log, clock: SettableClock) -> None:
        refused = log.append(commit(clock, W1, (A, 7, ["refused"])))
        dependent = log.append(commit(clock, W1, (B, 0, ["decided upon the refused one"])))
        results = await asyncio.gather(refused, dependent, return_exceptions=True)
        assert isinstance(results[0], VersionConflict)
        assert isinstance(results[1], Unavailable)
        assert list(await log.read(W1, B)) == []
        assert (await log.append(commit(clock, W1, (B, 0, ["later"])))).recorded[0].sequence == 1

    async def test_what_is_appended_before_a_refusal_can_be_known_fails_too(self, log: Log, clock: SettableClock) -> None:
        """The moment between the log's refusal and its being heard is the one in which a stale decision slips in."""
        late: list[asyncio.Future[Committed]] = []
        heard: list[object] = []

        async def decide_in_every_round() -> None:
            while not heard:
                late.append(log.append(commit(clock, W1, (Stream(f"late/{len(late)}"), 0, ["late"]))))
                await asyncio.sleep(0)

        refused = log.append(commit(clock, W1, (A, 7, ["refused"])))
        refused.add_done_callback(heard.append)  # as the executor drops what it remembers
        async with asyncio.timeout(DEADLINE_SECONDS):
            await decide_in_every_round()
            results = await asyncio.gather(refused, *late, return_exceptions=True)
        assert isinstance(results[0], VersionConflict)
        assert late and all(isinstance(one, Unavailable) for one in results[1:])

    async def test_a_refusal_in_one_workspace_does_not_disturb_another(self, log: Log, clock: SettableClock) -> None:
        refused = log.append(commit(clock, W1, (A, 7, ["no"])))
        other = log.append(commit(clock, W2, (A, 0, ["yes"])))
        with pytest.raises(VersionConflict):
            await refused
        assert (await other).recorded[0].version == 1

    async def test_an_event_too_large_for_one_caller_fails_no_other(self, log: Log, clock: SettableClock) -> None:
        before = log.append(commit(clock, W1, (A, 0, ["before"])))
        large = log.append(commit(clock, W1, (B, 0, ["x" * EVENT_BYTES_MAX])))
        many = log.append(commit(clock, W1, (B, 0, ["x" * 200_000] * 5)))
        after = log.append(commit(clock, W1, (A, 1, ["after"])))
        for refused in (large, many):
            with pytest.raises(EventTooLarge):
                await refused
        assert [(await one).recorded[0].sequence for one in (before, after)] == [1, 2]

    async def test_a_commit_near_the_limit_is_recorded_whole(self, log: Log, clock: SettableClock) -> None:
        text = "x" * 250_000
        done = await log.append(commit(clock, W1, (A, 0, [text, text, text])))
        assert [one.version for one in done.recorded] == [1, 2, 3]
        assert len(texts(await log.read(W1, A))[2]) == 250_000

    async def test_a_cancelled_caller_cancels_no_commit(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["kept"]))
        pending = log.append(wish)

        async def caller() -> None:
            await pending

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(caller())
            await asyncio.sleep(0)
            task.cancel()
        await log.append(commit(clock, W1, (A, 1, ["after"])))
        assert texts(await log.read(W1, A)) == ["kept", "after"]
        found = await log.find(W1, wish.context.command, wish.request_hash)
        assert found is not None and texts(found.recorded) == ["kept"]

    async def test_256_callers_are_all_answered_in_an_order_without_gaps(self, log: Log, clock: SettableClock) -> None:
        async def caller(number: int) -> list[Committed]:
            stream = Stream(f"thing/{number}")
            return [await log.append(commit(clock, W1 if number % 2 else W2, (stream, version, ["x"]))) for version in range(3)]

        async with asyncio.timeout(2 * DEADLINE_SECONDS):
            answers = [one for many in await asyncio.gather(*(caller(n) for n in range(256))) for one in many]
        for workspace in (W1, W2):
            mine = [one.recorded[0] for one in answers if one.recorded[0].workspace == workspace]
            assert sorted(one.sequence for one in mine) == list(range(1, 385))
            by_offset = sorted(mine, key=lambda one: one.position.offset)
            assert [one.sequence for one in by_offset] == list(range(1, 385))

    # -- command ids ---------------------------------------------------------------------------------------------------
    async def test_the_same_command_again_answers_what_was_recorded(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1", "2"]), (B, 0, ["3"]))
        first = await log.append(wish)
        second = await log.append(wish)
        assert (second.again, second.position, second.recorded) == (True, first.position, first.recorded)
        assert texts(await log.read(W1, A)) == ["1", "2"]

    async def test_the_same_command_twice_at_once_is_recorded_once(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]))
        first, second = await asyncio.gather(log.append(wish), log.append(wish))
        assert (first.again, second.again) == (False, True)
        assert first.recorded == second.recorded
        assert len(await log.read(W1, A)) == 1

    async def test_the_same_command_with_another_body_is_refused(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]))
        await log.append(wish)
        other = commit(clock, W1, (A, 1, ["2"]), command=wish.context.command)
        with pytest.raises(CommandReused):
            await log.append(other)
        with pytest.raises(CommandReused):
            await log.find(W1, wish.context.command, other.request_hash)
        fresh = commit(clock, W1, (A, 1, ["2"]))
        twin = commit(clock, W1, (A, 1, ["3"]), command=fresh.context.command)
        results = await asyncio.gather(log.append(fresh), log.append(twin), return_exceptions=True)
        assert isinstance(results[0], Committed) and isinstance(results[1], CommandReused)

    async def test_a_command_id_belongs_to_its_workspace(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]))
        await log.append(wish)
        assert await log.find(W2, wish.context.command, wish.request_hash) is None
        other = await log.append(commit(clock, W2, (A, 0, ["2"]), command=wish.context.command))
        assert not other.again

    async def test_a_command_can_be_found(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]), (B, 0, ["2"]))
        assert await log.find(W1, wish.context.command, wish.request_hash) is None
        done = await log.append(wish)
        found = await log.find(W1, wish.context.command, wish.request_hash)
        assert found is not None
        assert (found.again, found.position, found.recorded) == (True, done.position, done.recorded)

    async def test_a_command_id_of_eight_days_ago_has_expired(self, log: Log, clock: SettableClock) -> None:
        old = COUNTER.command(clock.now() - timedelta(days=8))
        with pytest.raises(KeyExpired):
            await log.append(commit(clock, W1, (A, 0, ["1"]), command=old))
        with pytest.raises(KeyExpired):
            await log.find(W1, old, "0" * 64)
        assert (await log.append(commit(clock, W1, (A, 0, ["1"])))).recorded[0].sequence == 1

    async def test_a_command_id_of_six_days_ago_still_counts(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]), command=COUNTER.command(clock.now() - timedelta(days=6)))
        await log.append(wish)
        assert (await log.append(wish)).again

    async def test_an_actors_hash_is_a_command_id_too(self, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1"]), command=CommandId("ab" * 32))
        assert not (await log.append(wish)).again
        assert (await log.append(wish)).again

    # -- following -----------------------------------------------------------------------------------------------------
    async def test_a_subscription_from_the_beginning_sees_every_event_in_order(self, log: Log, clock: SettableClock) -> None:
        for number in range(10):
            await log.append(commit(clock, W1, (A, number, [str(number)])))
        batches = await everything(log, batch_max=3)
        assert [text for batch in batches for text in texts(batch.recorded)] == [str(n) for n in range(10)]
        for batch in batches:
            offsets = [one.position.offset for one in batch.recorded]
            assert offsets == sorted(offsets) and batch.next_offset > offsets[-1]
            assert len(batch.recorded) <= 3

    async def test_a_subscription_goes_on_where_a_batch_ended(self, log: Log, clock: SettableClock) -> None:
        for number in range(10):
            await log.append(commit(clock, W1, (A, number, [str(number)])))
        home = shard_of(W1, log.shards)
        batches = [batch for batch in await everything(log, batch_max=4) if batch.shard == home]
        later = await everything(log, {home: batches[0].next_offset})
        assert [text for batch in later for text in texts(batch.recorded)] == [str(n) for n in range(len(batches[0].recorded), 10)]

    async def test_only_the_shards_that_are_named_are_followed(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["1"])))
        assert await everything(log, {}) == []
        assert {batch.shard for batch in await everything(log, {shard_of(W1, log.shards): 0})} == {shard_of(W1, log.shards)}

    async def test_a_batch_never_ends_inside_a_commit(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["a"])))
        await log.append(commit(clock, W1, (A, 1, ["b", "c", "d", "e"])))
        await log.append(commit(clock, W1, (A, 5, ["f", "g"])))
        for size in (1, 2, 3, 4, 5, 6, 100):
            batches = await everything(log, batch_max=size)
            assert [text for batch in batches for text in texts(batch.recorded)] == list("abcdefg")
            for batch in batches:
                assert texts(batch.recorded)[-1] in "aeg"

    async def test_a_follower_hears_what_is_appended_later(self, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["0"])))
        batches = log.subscribe(dict.fromkeys(range(log.shards), 0))
        assert texts((await next_of(batches)).recorded) == ["0"]
        for number in range(1, 4):
            done = await log.append(commit(clock, W1, (A, number, [str(number)])))
            batch = await next_of(batches)
            assert batch.recorded == done.recorded
            assert batch.next_offset > done.position.offset
        await batches.aclose()  # type: ignore[attr-defined]  # the port asks for an iterator that can be closed

    async def test_followers_from_different_places_do_not_disturb_each_other(self, log: Log, clock: SettableClock) -> None:
        home = shard_of(W1, log.shards)
        await log.append(commit(clock, W1, (A, 0, ["0"])))
        early, late = log.subscribe({home: 0}), log.subscribe(dict(await log.ends()))
        async with asyncio.TaskGroup() as tasks:
            heard = tasks.create_task(next_of(late))
            await asyncio.sleep(0)
            await log.append(commit(clock, W1, (A, 1, ["1"])))
        assert texts(heard.result().recorded) == ["1"]
        first = await next_of(early)
        seen = texts(first.recorded) if len(first.recorded) > 1 else texts(first.recorded) + texts((await next_of(early)).recorded)
        assert seen == ["0", "1"]
        await early.aclose()  # type: ignore[attr-defined]  # as above
        await late.aclose()  # type: ignore[attr-defined]  # as above

    async def test_without_follow_it_ends_at_what_was_durable(self, log: Log, clock: SettableClock) -> None:
        assert await everything(log) == []
        await log.append(commit(clock, W1, (A, 0, ["0"])))
        assert len(await everything(log)) == 1
        assert await everything(log, await log.ends()) == []

    async def test_ends_are_the_next_offsets(self, log: Log, clock: SettableClock) -> None:
        home = shard_of(W1, log.shards)
        before = (await log.ends())[home]
        assert set(await log.ends()) == set(range(log.shards))
        done = await log.append(commit(clock, W1, (A, 0, ["0", "1"])))
        assert before <= done.recorded[0].position.offset
        assert (await log.ends())[home] > done.position.offset
        batches = await everything(log)
        assert batches[-1].next_offset <= (await log.ends())[home]

    async def test_a_slow_follower_misses_nothing(self, log: Log, clock: SettableClock) -> None:
        home = shard_of(W1, log.shards)
        batches = log.subscribe({home: 0}, batch_max=7)
        for number in range(0, 200, 4):
            await log.append(commit(clock, W1, (A, number, [str(number + n) for n in range(4)])))
        seen: list[str] = []
        while len(seen) < 200:
            seen += texts((await next_of(batches)).recorded)
        assert seen == [str(n) for n in range(200)]
        await batches.aclose()  # type: ignore[attr-defined]  # as above

    # -- ownership and restarts ----------------------------------------------------------------------------------------
    async def test_the_shards_are_gained_when_the_log_is_open(self, log: Log) -> None:
        changes = log.changes()
        gained = [await next_of(changes) for _ in range(log.shards)]
        assert sorted(one.shard for one in gained) == list(range(log.shards))
        assert all(isinstance(one, Gained) and log.epoch(one.shard) == one.epoch for one in gained)
        await changes.aclose()  # type: ignore[attr-defined]  # as above

    async def test_a_second_writer_fences_the_first(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        home = shard_of(W1, log.shards)
        await log.append(commit(clock, W1, (A, 0, ["first"])))
        before = log.epoch(home)
        second = await harness.open()
        await second.append(commit(clock, W1, (A, 1, ["second"])))
        with pytest.raises((Unavailable, OutcomeUnknown)):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await log.append(commit(clock, W1, (A, 1, ["stale"]), request="stale"))
        assert texts(await second.read(W1, A)) == ["first", "second"]
        after = second.epoch(home)
        assert before is not None and after is not None and after > before

    async def test_the_fenced_writer_says_that_it_lost_its_shards(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        home = shard_of(W1, log.shards)
        changes = log.changes()
        for _ in range(log.shards):
            await next_of(changes)
        await harness.open()
        with pytest.raises(Refusal):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await log.append(commit(clock, W1, (A, 0, ["stale"])))
        while (change := await next_of(changes)).shard != home:
            pass
        assert change == Lost(home)
        assert log.epoch(home) is None
        await changes.aclose()  # type: ignore[attr-defined]  # as above

    async def test_a_restart_keeps_everything(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        wish = commit(clock, W1, (A, 0, ["1", "2"]), (B, 0, ["3"]))
        first = await log.append(wish)
        identity, ends = log.id, await log.ends()
        await harness.close(log)
        again = await harness.open()
        assert again.id == identity
        home = shard_of(W1, again.shards)
        assert (await again.ends())[home] >= ends[home]
        assert [one for batch in await everything(again) for one in batch.recorded] == list(first.recorded)
        found = await again.append(wish)
        assert (found.again, found.recorded) == (True, first.recorded)
        with pytest.raises(VersionConflict):
            await again.append(commit(clock, W1, (A, 1, ["no"])))
        clock.advance(-3600)
        later = await again.append(commit(clock, W1, (A, 2, ["4"])))
        assert (later.recorded[0].version, later.recorded[0].sequence) == (3, 4)
        assert later.recorded[0].at == first.recorded[0].at
        assert later.position.offset > first.position.offset

    async def test_the_chain_goes_on_after_a_restart(self, harness: LogHarness, log: Log, clock: SettableClock) -> None:
        await log.append(commit(clock, W1, (A, 0, ["1"])))
        await harness.close(log)
        again = await harness.open()
        await again.append(commit(clock, W1, (A, 1, ["2"])))
        chain = GENESIS
        for _, attributes, value in await harness.raw(again, shard_of(W1, again.shards)):
            chain = link(chain, int(attributes["sequence"]), attributes, value)
            assert attributes["chain"] == chain

    async def test_a_commit_without_events_is_a_mistake_of_the_caller(self, log: Log, clock: SettableClock) -> None:
        with pytest.raises(ValueError, match="at least one event"):
            _ = log.append(commit(clock, W1))

    async def test_workspaces_of_one_shard_keep_chains_of_their_own(self, log: Log, clock: SettableClock) -> None:
        names = distinct_workspaces(3, log.shards)
        done = await asyncio.gather(*(log.append(commit(clock, name, (A, 0, ["same"]))) for name in names))
        assert [one.recorded[0].sequence for one in done] == [1, 1, 1]
        assert len({one.recorded[0].chain for one in done}) == 3


    # -- what cannot be read -------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(("name", "value"), [("thing-levitated", b'{"type":"thing-levitated"}'), ("workspace-updated", b'{"work')])
    async def test_an_event_that_cannot_be_read_stands_in_its_place_and_ends_no_subscription(
        self, harness: LogHarness, log: Log, clock: SettableClock, name: str, value: bytes,
    ) -> None:
        poisoned, sound = distinct_workspaces(2, log.shards)
        home = shard_of(poisoned, log.shards)
        await log.append(commit(clock, poisoned, (A, 0, ["1"])))
        planted = following(await harness.raw(log, home), poisoned, name, value)
        log = await harness.plant(log, home, planted)
        after = await log.append(commit(clock, sound, (A, 0, ["2"])))

        found = [one for batch in await everything(log) for one in batch.recorded]
        assert texts(found) == ["1", "2"]
        unread = found[1]
        assert isinstance(unread.event, Unreadable)
        assert (unread.event.type, unread.event.sha256) == (name, hashlib.sha256(value).hexdigest())
        assert (unread.workspace, unread.stream, unread.version, unread.sequence) == (poisoned, A, 2, 2)
        assert [one for one in await log.read(poisoned, A) if isinstance(one.event, Unreadable)] == [unread]

        live = log.subscribe({home: 0})
        seen: list[Recorded] = []
        while not seen or seen[-1].position.offset < after.position.offset:
            seen += (await next_of(live)).recorded
        assert seen == found
        await log.append(commit(clock, sound, (A, 1, ["3"])))
        assert texts((await next_of(live)).recorded) == ["3"]

    async def test_the_chain_goes_on_behind_an_event_that_cannot_be_read(
        self, harness: LogHarness, log: Log, clock: SettableClock,
    ) -> None:
        home = shard_of(W1, log.shards)
        await log.append(commit(clock, W1, (A, 0, ["1"])))
        log = await harness.plant(log, home, following(await harness.raw(log, home), W1, "thing-levitated", b"{}"))
        with pytest.raises(VersionConflict):
            await log.append(commit(clock, W1, (A, 1, ["no"])))
        await log.append(commit(clock, W1, (B, 0, ["2"])))
        chain = GENESIS
        for _, attributes, value in await harness.raw(log, home):
            chain = link(chain, int(attributes["sequence"]), attributes, value)
            assert attributes["chain"] == chain

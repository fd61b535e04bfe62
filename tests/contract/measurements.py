"""What every log of measurements promises. An adapter's test class subclasses this and gives a fixture `harness`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

from core.ids import WorkspaceId, shard_of
from core.ports import MeasuredBatch, MeasurementBatch, Measurements
from tests.contract.settable_clock import SettableClock

DEADLINE_SECONDS = 20
W1 = WorkspaceId("ws-one")


class MeasurementsHarness(Protocol):
    """One storage, on which logs of measurements are opened."""

    clock: SettableClock

    async def open(self) -> Measurements: ...

    async def close(self, measurements: Measurements) -> None: ...


def batch(run: str = "amber-otter", sequence: int = 1, body: bytes = b"points", **others: Any) -> MeasurementBatch:
    known = {
        "workspace": W1, "run": run, "attempt": 1, "source": "1/spool", "sequence": sequence, "kind": "points", "body": body,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return MeasurementBatch(**{**known, **others})


async def everything(measurements: Measurements, start: dict[int, int] | None = None, batch_max: int = 500) -> list[MeasuredBatch]:
    wanted = dict.fromkeys(range(measurements.shards), 0) if start is None else start
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [one async for one in measurements.subscribe(wanted, batch_max=batch_max, follow=False)]


async def next_of(batches: AsyncIterator[MeasuredBatch]) -> MeasuredBatch:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await anext(batches)


class MeasurementsContract:
    @pytest.fixture
    async def measurements(self, harness: MeasurementsHarness) -> Measurements:
        return await harness.open()

    async def test_what_is_read_equals_what_was_sent(self, harness: MeasurementsHarness, measurements: Measurements) -> None:
        points = batch()
        lines = batch(sequence=2, kind="log", body=b"\x00\xff lines", log_name="user_logs/std_log.txt", log_offset=2**40, log_bytes=8)
        positions = [await measurements.append(points), await measurements.append(lines)]
        read = [one for many in await everything(measurements) for one in many.measured]
        assert [one.batch for one in read] == [points, lines]
        assert [one.position for one in read] == positions
        assert all(one.position.log == measurements.id for one in read)
        assert abs((read[0].at - harness.clock.now()).total_seconds()) < 600

    async def test_batches_of_a_run_keep_their_order_and_their_shard(self, measurements: Measurements) -> None:
        for sequence in range(1, 21):
            await measurements.append(batch(sequence=sequence))
            await measurements.append(batch(run="other-run", sequence=sequence))
        seen: dict[str, list[int]] = {"amber-otter": [], "other-run": []}
        for many in await everything(measurements, batch_max=3):
            for one in many.measured:
                seen[one.batch.run].append(one.batch.sequence)
                assert many.shard == one.position.shard == shard_of(WorkspaceId(one.batch.run), measurements.shards)
                assert many.next_offset > one.position.offset
        assert seen == {"amber-otter": list(range(1, 21)), "other-run": list(range(1, 21))}

    async def test_many_at_once_are_all_stored(self, measurements: Measurements) -> None:
        positions = await asyncio.gather(*(measurements.append(batch(run=f"run-{n}")) for n in range(300)))
        assert len(set(positions)) == 300
        assert sum(len(many.measured) for many in await everything(measurements)) == 300

    async def test_a_large_batch_is_stored(self, measurements: Measurements) -> None:
        body = bytes(range(256)) * 3000
        await measurements.append(batch(body=body))
        assert (await everything(measurements))[0].measured[0].batch.body == body

    async def test_a_follower_hears_what_is_appended_later(self, measurements: Measurements) -> None:
        batches = measurements.subscribe(dict(await measurements.ends()))
        async with asyncio.TaskGroup() as tasks:
            heard = tasks.create_task(next_of(batches))
            await asyncio.sleep(0)
            await measurements.append(batch(sequence=7))
        assert [one.batch.sequence for one in heard.result().measured] == [7]
        await measurements.append(batch(sequence=8))
        assert [one.batch.sequence for one in (await next_of(batches)).measured] == [8]
        await batches.aclose()  # type: ignore[attr-defined]  # the port asks for an iterator that can be closed

    async def test_a_subscription_goes_on_where_a_batch_ended(self, measurements: Measurements) -> None:
        for sequence in range(1, 11):
            await measurements.append(batch(sequence=sequence))
        first = (await everything(measurements, batch_max=4))[0]
        later = await everything(measurements, {first.shard: first.next_offset})
        assert [one.batch.sequence for many in later for one in many.measured] == list(range(1 + len(first.measured), 11))

    async def test_ends_are_the_next_offsets(self, measurements: Measurements) -> None:
        assert set(await measurements.ends()) == set(range(measurements.shards))
        position = await measurements.append(batch())
        assert (await measurements.ends())[position.shard] > position.offset
        assert await everything(measurements, dict(await measurements.ends())) == []

    async def test_only_the_shards_that_are_named_are_followed(self, measurements: Measurements) -> None:
        await measurements.append(batch())
        assert await everything(measurements, {}) == []

    async def test_a_restart_keeps_everything(self, harness: MeasurementsHarness, measurements: Measurements) -> None:
        position = await measurements.append(batch())
        before = await everything(measurements)
        await harness.close(measurements)
        again = await harness.open()
        assert (again.id, await everything(again)) == (position.log, before)
        assert (await again.append(batch(sequence=2))).offset > position.offset

    async def test_two_servers_append_and_both_follow(self, harness: MeasurementsHarness, measurements: Measurements) -> None:
        other = await harness.open()
        followed = measurements.subscribe(dict(await measurements.ends()))
        followed_there = other.subscribe(dict(await other.ends()))
        await measurements.append(batch(sequence=1))
        await other.append(batch(sequence=2))
        await measurements.append(batch(sequence=3))
        for batches in (followed, followed_there):
            seen: list[int] = []
            while len(seen) < 3:
                seen += [one.batch.sequence for one in (await next_of(batches)).measured]
            assert seen == [1, 2, 3]
            await batches.aclose()  # type: ignore[attr-defined]  # as above

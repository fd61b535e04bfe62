"""The lease table: who writes which shard, by the database's clock."""

from __future__ import annotations

import asyncio

import pytest

from adapters.kafka import lease
from adapters.kafka.lease import Leases
from adapters.postgres.pool import Database

PASS = "UPDATE shard_lease SET until = until - interval '1 hour'"


def leases(database: Database, server: str) -> Leases:
    return Leases(database, "events", 4, server=server, url=f"http://{server}")


async def test_the_first_server_takes_every_shard_and_the_second_none(database: Database) -> None:
    first, second = leases(database, "one"), leases(database, "two")
    assert await first.take() == {0: 1, 1: 1, 2: 1, 3: 1}
    assert await second.take() == {}
    assert await first.take() == {}
    assert await first.renew() == set()
    assert first.epoch(2) == 1 and second.epoch(2) is None
    assert {shard: one.owner for shard, one in (await second.directory()).items()} == dict.fromkeys(range(4), "one")


async def test_a_lease_that_ran_out_goes_to_another_under_a_higher_epoch(database: Database) -> None:
    first, second = leases(database, "one"), leases(database, "two")
    await first.take()
    await database.execute(PASS)
    assert await second.take() == {0: 2, 1: 2, 2: 2, 3: 2}
    assert await first.renew() == {0, 1, 2, 3}
    assert first.held == {} and first.epoch(0) is None


async def test_a_lease_that_nobody_took_meanwhile_is_kept(database: Database) -> None:
    first = leases(database, "one")
    await first.take()
    await database.execute(PASS)
    assert await first.renew() == set()
    assert first.epoch(0) == 1


async def test_a_restarted_server_takes_its_own_shards_at_once(database: Database) -> None:
    before, after = leases(database, "one"), leases(database, "one")
    await before.take()
    assert await after.take() == {0: 2, 1: 2, 2: 2, 3: 2}
    assert await before.renew() == {0, 1, 2, 3}


async def test_what_is_given_back_is_free_at_once(database: Database) -> None:
    first, second = leases(database, "one"), leases(database, "two")
    await first.take()
    await first.release()
    assert await second.directory() == {}
    assert await second.take() == {0: 2, 1: 2, 2: 2, 3: 2}


async def test_without_a_renewal_for_a_term_no_epoch_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TERM_SECONDS", 0.2)
    first = leases(database, "one")
    await first.take()
    assert first.epoch(0) == 1
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.25
    while loop.time() < until:
        await asyncio.sleep(0.01)
    assert first.epoch(0) is None and first.held[0] == 1
    await first.renew()
    assert first.epoch(0) == 1

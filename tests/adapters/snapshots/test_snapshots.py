"""Actors' snapshots: one suite, on Postgres and on the twin."""

from __future__ import annotations

import pytest

from actors.snapshots import Snapshot, Snapshots
from adapters.postgres.pool import Database
from adapters.snapshots.memory import MemorySnapshots
from adapters.snapshots.postgres import PostgresSnapshots


class SnapshotsContract:
    async def test_what_was_saved_last_is_loaded(self, snapshots: Snapshots) -> None:
        assert await snapshots.load("log", 0, "scheduler", 1) is None
        for offset in (5, 9):
            await snapshots.save("log", 0, "scheduler", 1, Snapshot(offset, b'{"a": 1}' * offset))
        assert await snapshots.load("log", 0, "scheduler", 1) == Snapshot(9, b'{"a": 1}' * 9)

    async def test_one_that_is_further_on_is_kept(self, snapshots: Snapshots) -> None:
        await snapshots.save("log", 0, "scheduler", 1, Snapshot(9, b"new"))
        await snapshots.save("log", 0, "scheduler", 1, Snapshot(5, b"old"))
        assert await snapshots.load("log", 0, "scheduler", 1) == Snapshot(9, b"new")

    async def test_another_version_replaces_it_and_is_not_read_as_this_one(self, snapshots: Snapshots) -> None:
        await snapshots.save("log", 0, "scheduler", 1, Snapshot(9, b"one"))
        await snapshots.save("log", 0, "scheduler", 2, Snapshot(3, b"two"))
        assert await snapshots.load("log", 0, "scheduler", 1) is None
        assert await snapshots.load("log", 0, "scheduler", 2) == Snapshot(3, b"two")

    async def test_logs_shards_and_roles_are_apart(self, snapshots: Snapshots) -> None:
        await snapshots.save("log", 0, "scheduler", 1, Snapshot(9, b"one"))
        for log, shard, role in (("other", 0, "scheduler"), ("log", 1, "scheduler"), ("log", 0, "node")):
            assert await snapshots.load(log, shard, role, 1) is None


class TestMemorySnapshots(SnapshotsContract):
    @pytest.fixture
    def snapshots(self) -> Snapshots:
        return MemorySnapshots()


class TestPostgresSnapshots(SnapshotsContract):
    @pytest.fixture
    def snapshots(self, database: Database) -> Snapshots:
        return PostgresSnapshots(database)

"""The runner of migrations: once each, in order, by one server at a time, and never on a database it does not understand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapters.postgres.migrations import MigrationRefused, default_folder, migrate, read_folder
from tests.postgres_fixtures import COUNTER, ServerThread


@pytest.fixture
async def empty(postgres: ServerThread) -> AsyncIterator[str]:
    """The DSN of a database in which nothing is."""
    name = f"empty_{next(COUNTER)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.database(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def connection(empty: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(empty)
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (a integer); INSERT INTO first VALUES (1);")
    (tmp_path / "0003_third.sql").write_text("CREATE TABLE third (a integer);")
    return tmp_path


async def test_every_migration_is_applied_once_and_in_order(connection: asyncpg.Connection[Any], folder: Path) -> None:
    assert await migrate(connection, folder) == ["0001_first.sql", "0003_third.sql"]
    assert await migrate(connection, folder) == []
    assert await connection.fetchval("SELECT count(*) FROM first") == 1


async def test_a_new_file_is_applied_later(connection: asyncpg.Connection[Any], folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0002_second.sql").write_text("CREATE TABLE second (a integer);")
    assert await migrate(connection, folder) == ["0002_second.sql"]


async def test_servers_that_start_at_once_take_turns(empty: str, folder: Path) -> None:
    connections = [await asyncpg.connect(empty) for _ in range(4)]
    applied = await asyncio.gather(*(migrate(one, folder) for one in connections))
    for one in connections:
        await one.close()
    assert sorted(map(len, applied)) == [0, 0, 0, 2]


async def test_the_database_of_a_newer_version_is_refused_and_left_alone(connection: asyncpg.Connection[Any], folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0003_third.sql").unlink()
    (folder / "0004_fourth.sql").write_text("CREATE TABLE fourth (a integer);")
    with pytest.raises(MigrationRefused, match=r"0003_third.sql.* used by a newer"):
        await migrate(connection, folder)
    assert await connection.fetchval("SELECT to_regclass('fourth')") is None


async def test_an_edited_migration_is_refused(connection: asyncpg.Connection[Any], folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE first (b text);")
    with pytest.raises(MigrationRefused, match="never edited"):
        await migrate(connection, folder)


async def test_a_migration_that_fails_leaves_nothing_of_itself(connection: asyncpg.Connection[Any], folder: Path) -> None:
    (folder / "0002_broken.sql").write_text("CREATE TABLE half (a integer); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, folder)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    (folder / "0002_broken.sql").write_text("CREATE TABLE half (a integer);")
    assert await migrate(connection, folder) == ["0002_broken.sql", "0003_third.sql"]


def test_two_files_of_the_same_number_are_refused(folder: Path) -> None:
    (folder / "0001_again.sql").write_text("")
    with pytest.raises(MigrationRefused, match="same number"):
        read_folder(folder)


def test_a_file_of_another_name_is_refused(folder: Path) -> None:
    (folder / "later.sql").write_text("")
    with pytest.raises(MigrationRefused, match="not named like"):
        read_folder(folder)


async def test_the_repositorys_own_migrations_fit_an_empty_database(connection: asyncpg.Connection[Any]) -> None:
    applied = await migrate(connection)
    assert len(applied) == len(list(default_folder().glob("*.sql"))) > 2

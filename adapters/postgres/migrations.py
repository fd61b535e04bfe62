"""Brings a database to the shape that this binary knows: numbered SQL files, each applied once, in its own transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import structlog

log = structlog.get_logger()

LOCK = 0x466F6C64_6C696E65 & 0x7FFFFFFFFFFFFFFF
"""The advisory lock under which one server at a time migrates."""

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""
TAKE_LOCK = "SELECT pg_advisory_lock($1)"
RELEASE_LOCK = "SELECT pg_advisory_unlock($1)"
APPLIED = "SELECT number, name, checksum FROM migration"
RECORD = "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)"

FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class MigrationRefused(Exception):
    """The database and this binary do not fit; the message says why and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def default_folder() -> Path:
    """Where the SQL files lie: beside this module in a wheel, at the root of a checkout."""
    beside = Path(__file__).with_name("migrations")
    return beside if beside.is_dir() else Path(__file__).parents[2] / "migrations"


def read_folder(folder: Path) -> Sequence[Migration]:
    """The migrations in order. Raises: MigrationRefused when two have the same number, or a file is named otherwise."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.match(path.name)
        if match is None:
            raise MigrationRefused(f"{path.name} is not named like 0001_what_it_makes.sql.")
        number = int(match[1])
        if number in found:
            raise MigrationRefused(f"{path.name} and {found[number].name} have the same number.")
        found[number] = Migration(number, path.name, path.read_text(encoding="utf-8"))
    return [found[number] for number in sorted(found)]


async def migrate(connection: asyncpg.Connection[Any], folder: Path | None = None) -> Sequence[str]:
    """Applies what is missing and returns its names. Two servers at once take turns; a second call applies nothing.

    Raises: MigrationRefused.
    """
    migrations = read_folder(folder or default_folder())
    await connection.fetchval(TAKE_LOCK, LOCK)
    try:
        await connection.execute(CREATE_TABLE)
        applied = {row["number"]: row for row in await connection.fetch(APPLIED)}
        _check(migrations, applied)
        missing = [one for one in migrations if one.number not in applied]
        for one in missing:
            async with connection.transaction():
                await connection.execute(one.sql)
                await connection.execute(RECORD, one.number, one.name, one.checksum)
            log.info("migration.applied", name=one.name)
        return [one.name for one in missing]
    finally:
        if not connection.is_closed():
            await connection.fetchval(RELEASE_LOCK, LOCK)


def _check(migrations: Sequence[Migration], applied: dict[int, Any]) -> None:
    known = {one.number: one for one in migrations}
    for number, row in sorted(applied.items()):
        if number not in known:
            raise MigrationRefused(
                f"The database has the migration {row['name']}, which this version of Foldline does not know: it was used by a newer "
                "one. Start that version again, or give this one a database of its own."
            )
        if known[number].checksum != row["checksum"]:
            raise MigrationRefused(
                f"The migration {row['name']} was changed after this database applied it. A migration is never edited: put the file "
                "back, and write a new one."
            )

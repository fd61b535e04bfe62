"""The table of people: names and mails by opaque user id, apart from the log so that they can be deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg

from adapters.people import Person
from adapters.postgres.pool import Database
from core.errors import AlreadyExists

PUT = """
INSERT INTO people (user_id, name, mail) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, mail = excluded.mail"""
GET = "SELECT user_id, name, mail FROM people WHERE user_id = $1"
FIND = "SELECT user_id, name, mail FROM people WHERE name = $1"
NAMES = "SELECT user_id, name FROM people WHERE user_id = ANY($1::text[])"
LIST = "SELECT user_id, name, mail FROM people WHERE name > $1 ORDER BY name LIMIT $2"
ERASE = "DELETE FROM people WHERE user_id = $1"


class PeopleTable:
    """Every call raises Unavailable while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, user: str, name: str, mail: str | None) -> None:
        """Makes or replaces the row. Raises: AlreadyExists when another user has that name."""
        try:
            await self._database.execute(PUT, user, name, mail)
        except asyncpg.UniqueViolationError as error:
            raise AlreadyExists("user", name) from error

    async def get(self, user: str) -> Person | None:
        return _person(await self._database.fetchrow(GET, user))

    async def find(self, name: str) -> Person | None:
        return _person(await self._database.fetchrow(FIND, name))

    async def names(self, users: Collection[str]) -> Mapping[str, str]:
        """Names by id; those who are not there (any more) are left out."""
        return {row["user_id"]: row["name"] for row in await self._database.fetch(NAMES, list(users))}

    async def list(self, after: str, limit: int) -> Sequence[Person]:
        """Ordered by name, those over `after`."""
        return [Person(row["user_id"], row["name"], row["mail"]) for row in await self._database.fetch(LIST, after, limit)]

    async def erase(self, user: str) -> None:
        """Forgets who the user was; events keep the opaque id."""
        await self._database.execute(ERASE, user)


def _person(row: Any) -> Person | None:
    return None if row is None else Person(row["user_id"], row["name"], row["mail"])

"""The in-memory twin of the people table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from adapters.people import Person
from core.errors import AlreadyExists


class MemoryPeople:
    """Same promises as adapters.postgres.people.PeopleTable."""

    def __init__(self) -> None:
        self._rows: dict[str, Person] = {}

    async def put(self, user: str, name: str, mail: str | None) -> None:
        if any(row.name == name and row.user != user for row in self._rows.values()):
            raise AlreadyExists("user", name)
        self._rows[user] = Person(user, name, mail)

    async def get(self, user: str) -> Person | None:
        return self._rows.get(user)

    async def find(self, name: str) -> Person | None:
        return next((row for row in self._rows.values() if row.name == name), None)

    async def names(self, users: Collection[str]) -> Mapping[str, str]:
        return {user: self._rows[user].name for user in users if user in self._rows}

    async def list(self, after: str, limit: int) -> Sequence[Person]:
        return sorted((row for row in self._rows.values() if row.name > after), key=lambda row: row.name)[:limit]

    async def erase(self, user: str) -> None:
        self._rows.pop(user, None)

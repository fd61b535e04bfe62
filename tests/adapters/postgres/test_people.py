"""People's names: the table and its twin keep the same promises."""

from __future__ import annotations

import pytest

from adapters.memory.people import MemoryPeople
from adapters.people import Person
from adapters.postgres.people import PeopleTable
from adapters.postgres.pool import Database
from core.errors import AlreadyExists


@pytest.fixture(params=["memory", "postgres"])
def people(request: pytest.FixtureRequest, database: Database) -> MemoryPeople | PeopleTable:
    return MemoryPeople() if request.param == "memory" else PeopleTable(database)


async def test_a_person_is_found_by_id_and_by_name(people: PeopleTable) -> None:
    await people.put("u-1", "ada", "ada@example.org")
    assert await people.get("u-1") == await people.find("ada") == Person("u-1", "ada", "ada@example.org")
    assert await people.get("u-2") is None and await people.find("bob") is None


async def test_a_name_belongs_to_one_person(people: PeopleTable) -> None:
    await people.put("u-1", "ada", None)
    with pytest.raises(AlreadyExists):
        await people.put("u-2", "ada", None)
    await people.put("u-1", "ada", "new@example.org")
    assert await people.get("u-1") == Person("u-1", "ada", "new@example.org")


async def test_names_are_listed_in_order_and_by_pages(people: PeopleTable) -> None:
    for number, name in enumerate(("cy", "ada", "bob", "Dan")):
        await people.put(f"u-{number}", name, None)
    first = await people.list("", 2)
    assert [one.name for one in first] == ["Dan", "ada"]
    assert [one.name for one in await people.list(first[-1].name, 10)] == ["bob", "cy"]
    assert await people.names(["u-0", "u-2", "u-9"]) == {"u-0": "cy", "u-2": "bob"}


async def test_an_erased_person_leaves_no_trace(people: PeopleTable) -> None:
    await people.put("u-1", "ada", "ada@example.org")
    await people.erase("u-1")
    await people.erase("u-1")
    assert await people.get("u-1") is None and await people.find("ada") is None and await people.names(["u-1"]) == {}
    await people.put("u-2", "ada", None)

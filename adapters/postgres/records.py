"""Rows of the table `event`, to and from what the core knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from adapters.following import Entry, whole_commits
from adapters.ordering import Accepted
from adapters.postgres import statements as sql
from core.envelope import unseal
from core.events import Recorded
from core.ids import Position

_decoder = msgspec.json.Decoder(dict[str, str])


def spell_attributes(attributes: Any) -> str:
    """The attributes as a JSON object, as they are stored."""
    return msgspec.json.encode(attributes).decode()


def parse_attributes(text: str) -> dict[str, str]:
    return _decoder.decode(text)


def to_recorded(log: str, row: Any) -> Recorded:
    return unseal(parse_attributes(row["attributes"]), row["value"], Position(log, row["shard"], row["position"]))


def to_entry(log: str, row: Any) -> Entry[Recorded]:
    return Entry(row["position"], row["last"], to_recorded(log, row), len(row["value"]))


def event_columns(accepted: Sequence[Accepted]) -> tuple[list[Any], ...]:
    """Position, last, workspace, stream, version, sequence, attributes, value: one list per column."""
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [])
    positions, lasts, workspaces, streams, versions, sequences, attributes, values = columns
    for one in accepted:
        last = one.last
        for index, record in enumerate(one.records):
            known = record.attributes
            positions.append(one.first + index)
            lasts.append(last)
            workspaces.append(known["partitionkey"])
            streams.append(known["subject"])
            versions.append(int(known["streamversion"]))
            sequences.append(int(known["sequence"]))
            attributes.append(spell_attributes(known))
            values.append(record.value)
    return columns


def command_columns(accepted: Sequence[Accepted]) -> tuple[list[Any], ...]:
    """Workspace, command, request hash, first, last: one list per column."""
    return (
        [one.waiting.commit.workspace for one in accepted],
        [one.waiting.commit.context.command for one in accepted],
        [one.waiting.commit.request_hash for one in accepted],
        [one.first for one in accepted],
        [one.last for one in accepted],
    )


async def read_range(connection: Any, log: str, shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[Recorded], int]:
    """Records from `offset` and before `end`, about `batch_max` of them, no commit split; and the next offset."""
    rest: list[Entry[Recorded]] = []
    entries = [to_entry(log, row) for row in await connection.fetch(sql.READ_RANGE, shard, offset, end, batch_max)]
    if entries[0].last == entries[-1].last != entries[-1].offset:  # a single commit, larger than the batch
        rows = await connection.fetch(sql.READ_RANGE, shard, entries[-1].offset + 1, entries[-1].last + 1, entries[-1].last)
        rest = [to_entry(log, row) for row in rows]
    return whole_commits(entries, lambda _: rest)

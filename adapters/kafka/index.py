"""The log index in Postgres: of each shard a checkpoint, and below it versions, offsets, chains and command ids.

Written after the commit, compare-and-set on the checkpoint. Part of the log, no read model: no rebuild drops it; without it the
owner makes it anew from offset 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.kafka.errors import CheckpointMoved
from adapters.kafka.tail import Segment
from adapters.ordering import COMMAND_KEPT, CommandKey, StreamKey
from adapters.postgres.pool import Database
from core.envelope import Head, spell_time
from core.ids import CommandId, Stream, WorkspaceId

CHECKPOINT = "SELECT checkpoint FROM kafka_shard WHERE shard = $1"
FIRST_CHECKPOINT = "INSERT INTO kafka_shard (shard, checkpoint) VALUES ($1, $2) ON CONFLICT (shard) DO NOTHING RETURNING shard"
MOVE_CHECKPOINT = "UPDATE kafka_shard SET checkpoint = $3 WHERE shard = $1 AND checkpoint = $2 RETURNING shard"
VERSIONS = """
SELECT wanted.workspace, wanted.stream, found.version
FROM unnest($1::text[], $2::text[]) AS wanted (workspace, stream), LATERAL (
    SELECT version FROM kafka_stream AS one WHERE one.workspace = wanted.workspace AND one.stream = wanted.stream
    ORDER BY version DESC LIMIT 1
) AS found
"""
OFFSETS = "SELECT version, at_offset FROM kafka_stream WHERE workspace = $1 AND stream = $2 AND version > $3 ORDER BY version"
HEADS = "SELECT workspace, sequence, chain, time FROM kafka_head WHERE workspace = ANY($1::text[])"
COMMANDS = """
SELECT one.workspace, one.command, one.request_hash, one.first_offset, one.records
FROM unnest($1::text[], $2::text[]) AS wanted (workspace, command)
JOIN kafka_command AS one ON one.workspace = wanted.workspace AND one.command = wanted.command
"""
ADD_STREAMS = """
INSERT INTO kafka_stream (workspace, stream, version, at_offset)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[]) ON CONFLICT DO NOTHING
"""
ADD_HEADS = """
INSERT INTO kafka_head (workspace, sequence, chain, time)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[])
ON CONFLICT (workspace) DO UPDATE SET sequence = excluded.sequence, chain = excluded.chain, time = excluded.time
"""
ADD_COMMANDS = """
INSERT INTO kafka_command (workspace, command, request_hash, first_offset, records, at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::timestamptz[])
ON CONFLICT (workspace, command) DO UPDATE
SET request_hash = excluded.request_hash, first_offset = excluded.first_offset, records = excluded.records, at = excluded.at
"""
FORGET_COMMANDS = "DELETE FROM kafka_command WHERE at < $1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of a command lie: consecutive offsets."""

    request_hash: str
    first: int
    records: int


class Index:
    """The index of every shard of one log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkpoint(self, shard: int) -> int:
        """The next offset that is not covered; 0 without an index."""
        return await self._database.fetchval(CHECKPOINT, shard) or 0

    async def versions(self, keys: Sequence[StreamKey]) -> Mapping[StreamKey, int]:
        """The last indexed versions; a stream that the index does not know is left out."""
        rows = await self._database.fetch(VERSIONS, [key[0] for key in keys], [key[1] for key in keys])
        return {(WorkspaceId(row["workspace"]), Stream(row["stream"])): row["version"] for row in rows}

    async def heads(self, workspaces: Sequence[WorkspaceId]) -> Mapping[WorkspaceId, Head]:
        rows = await self._database.fetch(HEADS, list(workspaces))
        return {WorkspaceId(row["workspace"]): Head(row["sequence"], row["chain"], row["time"]) for row in rows}

    async def commands(self, keys: Sequence[CommandKey]) -> Mapping[CommandKey, Place]:
        rows = await self._database.fetch(COMMANDS, [key[0] for key in keys], [key[1] for key in keys])
        return {
            (WorkspaceId(row["workspace"]), CommandId(row["command"])): Place(row["request_hash"], row["first_offset"], row["records"])
            for row in rows
        }

    async def offsets(self, workspace: WorkspaceId, stream: Stream, after: int) -> Sequence[tuple[int, int]]:
        """Version and offset of each indexed event of a stream over version `after`, in order."""
        return [(row["version"], row["at_offset"]) for row in await self._database.fetch(OFFSETS, workspace, stream, after)]

    async def write(self, shard: int, checkpoint: int, segment: Segment) -> None:
        """Covers a segment that begins at `checkpoint`. Raises: CheckpointMoved when the index is not there any more."""
        async with self._database.acquire() as connection, connection.transaction():
            move = FIRST_CHECKPOINT if checkpoint == 0 else MOVE_CHECKPOINT
            arguments = (shard, segment.end) if checkpoint == 0 else (shard, checkpoint, segment.end)
            if await connection.fetchval(move, *arguments) is None:
                raise CheckpointMoved(shard)
            await connection.execute(ADD_STREAMS, *_columns(4, (
                (one.workspace, one.stream, one.version, one.position.offset)
                for records in segment.streams.values() for one in records
            )))
            await connection.execute(ADD_HEADS, *_columns(4, (
                (workspace, last.sequence, last.chain, spell_time(last.at)) for workspace, last in segment.lasts.items()
            )))
            await connection.execute(ADD_COMMANDS, *_columns(6, (
                (*key, done.request_hash, done.recorded[0].position.offset, len(done.recorded), done.recorded[-1].at)
                for key, done in segment.commands.items()
            )))

    async def forget_commands(self, now: datetime) -> None:
        """Drops command ids older than the seven days for which they are kept."""
        await self._database.execute(FORGET_COMMANDS, now - COMMAND_KEPT)


def _columns(count: int, rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(count)]

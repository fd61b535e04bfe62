"""Where each table of a read model is in its log, and for which workspaces it stands still. The only file that owns both tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from projections.database import Queries
from projections.readmodel import Item
from projections.topics import name_of, workspace_of

PROBLEM_CHARACTERS_MAX = 2000

READ = "SELECT shard, next_offset, generation, log FROM read_model_checkpoint WHERE table_name = $1"
TAKE = "SELECT next_offset, generation FROM read_model_checkpoint WHERE table_name = $1 AND shard = $2 FOR UPDATE"
"""Its transaction waits for the disk when it commits. Without (`synchronous_commit` off) a killed Postgres loses the newest rows,
and a model that nothing concerns for a while would not notice."""
TAKE_ALL = "SELECT shard, next_offset FROM read_model_checkpoint WHERE table_name = $1 FOR UPDATE"
MOVE = "UPDATE read_model_checkpoint SET next_offset = $3 WHERE table_name = $1 AND shard = $2"
MAKE = """
INSERT INTO read_model_checkpoint (table_name, shard, log, next_offset) SELECT $1, shard, $3, 0 FROM generate_series(0, $2 - 1) AS shard
ON CONFLICT (table_name, shard) DO NOTHING
"""
DROP = "DELETE FROM read_model_checkpoint WHERE table_name = $1"
REPLACE = "UPDATE read_model_checkpoint SET next_offset = $3, generation = generation + 1 WHERE table_name = $1 AND shard = $2"

STOPPED = "SELECT workspace FROM read_model_stopped WHERE table_name = $1"
STOP = """
INSERT INTO read_model_stopped (table_name, workspace, shard, at_offset, event, problem) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (table_name, workspace) DO NOTHING
"""
GO_ON = "DELETE FROM read_model_stopped WHERE table_name = $1"
RENAME_STOPPED = "UPDATE read_model_stopped SET table_name = $2 WHERE table_name = $1"


class Rewound(Exception):
    """The table is further back than this server left it: it was made anew, or the database was put back to an earlier state."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An item that could not be folded."""

    item: Item
    problem: str

    @classmethod
    def at(cls, item: Item, error: Exception) -> Stop:
        problem = f"{type(error).__name__}: {error}".replace("\x00", "").encode("utf-8", "replace").decode()
        return cls(item, problem[:PROBLEM_CHARACTERS_MAX])


async def stop(database: Queries, table: str, stops: Sequence[Stop]) -> None:
    for one in stops:
        position = one.item.position
        await database.execute(STOP, table, workspace_of(one.item), position.shard, position.offset, name_of(one.item), one.problem)

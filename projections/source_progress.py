"""Read model: how much of each source of measurements has arrived, so that a reader knows when curves and logs are complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.ids import WorkspaceId
from core.ports import Measured
from core.runs import SourceEnd
from foldline.wire.measurements import NO_DIGEST, chain_digest
from projections.database import Queries
from projections.readmodel import Key, ReadModel, Table


@dataclass(slots=True)
class SourceRow:
    """One source: one spool of one attempt."""

    workspace: str
    run: str
    source: str
    attempt: int
    last_sequence: int
    digest: str
    """Chained over the batches, as the sender chains it."""
    missing: int
    """Batches before the last that never came, or came too late."""
    last_at: datetime
    position: str
    """Token of the last batch: the read models of measurements hold it once they are past this."""


TABLE: Table[SourceRow] = Table(
    "source_progress", 1, SourceRow, ("workspace", "run", "source"),
    {
        "workspace": "text", "run": "text", "source": "text", "attempt": "integer", "last_sequence": "bigint", "digest": "text",
        "missing": "bigint", "last_at": "timestamptz", "position": "text",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def facts(measured: Measured) -> list[tuple[Key, Measured]]:
    batch = measured.batch
    return [((batch.workspace, batch.run, batch.source), measured)]


def fold(row: SourceRow | None, measured: Measured) -> SourceRow:
    """A sequence at or below the last is a duplicate; one that skips some leaves a gap, which shows in the digest too."""
    batch = measured.batch
    before, digest, missing = (row.last_sequence, row.digest, row.missing) if row else (0, NO_DIGEST, 0)
    if row is not None and batch.sequence <= before:
        return row
    return SourceRow(
        batch.workspace, batch.run, batch.source, batch.attempt, batch.sequence, chain_digest(digest, batch.sha256),
        missing + batch.sequence - before - 1, measured.at, measured.position.token(),
    )


MODEL = ReadModel(TABLE, facts, fold, topic="measurements")

# -- queries -----------------------------------------------------------------------------------------------------------
OF_RUN = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2 ORDER BY attempt, source"  # noqa: S608


async def of_run(database: Queries, workspace: WorkspaceId, run: str) -> list[SourceRow]:
    return TABLE.rows_of(await database.fetch(OF_RUN, workspace, run))


async def complete(database: Queries, workspace: WorkspaceId, run: str, sources: Sequence[SourceEnd]) -> bool:
    """Whether all that the ended attempt sent has arrived: each source up to its last sequence, and with its digest."""
    arrived = {row.source: row for row in await of_run(database, workspace, run)}
    return all(_arrived(arrived.get(source.source), source) for source in sources)


def _arrived(row: SourceRow | None, source: SourceEnd) -> bool:
    if source.last_sequence == 0:
        return True
    return row is not None and row.last_sequence == source.last_sequence and row.digest == source.digest

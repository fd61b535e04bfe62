"""Read model: the experiments of a workspace, with how many runs each has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Recorded
from core.experiments import ExperimentArchived, ExperimentCreated, ExperimentRestored
from core.ids import WorkspaceId
from core.runs import RunSubmitted
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class ExperimentRow:
    workspace: str
    experiment: str
    runs: int
    archived: bool
    created_at: datetime
    last_run_at: datetime | None


TABLE: Table[ExperimentRow] = Table(
    "experiments", 1, ExperimentRow, ("workspace", "experiment"),
    {
        "workspace": "text", "experiment": "text", "runs": "bigint", "archived": "boolean", "created_at": "timestamptz",
        "last_run_at": "timestamptz",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.experiment)  # type: ignore[attr-defined]  # `hears` lets only such events in


def fold(row: ExperimentRow | None, recorded: Recorded) -> ExperimentRow | None:
    event = recorded.event
    if isinstance(event, ExperimentCreated):
        return row or ExperimentRow(recorded.workspace, event.experiment, 0, False, recorded.at, None)
    if row is None:
        raise ValueError(f"{event.type} of an experiment that was never created")
    match event:
        case RunSubmitted():
            return TABLE.changed(row, runs=row.runs + 1, last_run_at=recorded.at)
        case ExperimentArchived():
            return TABLE.changed(row, archived=True)
        case ExperimentRestored():
            return TABLE.changed(row, archived=False)
        case _:
            return row


MODEL = ReadModel(
    TABLE, keyed(key_of), fold, hears=frozenset({ExperimentCreated, ExperimentArchived, ExperimentRestored, RunSubmitted}),
)

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND experiment = $2"  # noqa: S608  names of ours
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND ($2::boolean IS NULL OR archived = $2) AND ($3::text IS NULL OR experiment > $3) ORDER BY experiment LIMIT $4
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId, experiment: str) -> ExperimentRow | None:
    record = await database.fetchrow(GET, workspace, experiment)
    return None if record is None else TABLE.row_of(record)


async def page(
    database: Queries, workspace: WorkspaceId, *, archived: bool | None = False, limit: int = 100, cursor: str | None = None,
) -> Rows[ExperimentRow]:
    """Experiments by name. `archived` None shows both. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, workspace, archived, after and after[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.experiment,))

"""Read model: registered environments and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.environments import EnvironmentSpec, EnvironmentVersionRegistered
from core.events import Recorded
from core.ids import WorkspaceId
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class EnvironmentRow:
    workspace: str
    environment: str
    version: str
    sequence: int
    """Of its registration; the latest version has the highest."""
    build_key: str
    """Hash of what is built: the same content is built once."""
    definition: dict[str, object]
    """`core.environments.EnvironmentSpec` as JSON; see `spec`."""
    description: str | None
    created_at: datetime
    created_by: str

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec.model_validate(self.definition)


TABLE: Table[EnvironmentRow] = Table(
    "environments", 1, EnvironmentRow, ("workspace", "environment", "version"),
    {
        "workspace": "text", "environment": "text", "version": "text", "sequence": "bigint", "build_key": "text", "definition": "jsonb",
        "description": "text", "created_at": "timestamptz", "created_by": "text",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    event = recorded.event
    return (recorded.workspace, event.environment, event.version)  # type: ignore[attr-defined]  # `hears` lets only such in


def fold(row: EnvironmentRow | None, recorded: Recorded) -> EnvironmentRow | None:
    match recorded.event:
        case EnvironmentVersionRegistered() as event:
            return row or EnvironmentRow(
                recorded.workspace, event.environment, event.version, recorded.sequence, event.spec.key,
                event.spec.model_dump(mode="json", exclude_none=True), event.description, recorded.at, recorded.actor,
            )
        case _:
            return row


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset({EnvironmentVersionRegistered}))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND environment = $2 AND ($3::text IS NULL OR version = $3)
ORDER BY sequence DESC LIMIT 1
"""  # noqa: S608  names of ours
VERSIONS = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND environment = $2 AND ($3::bigint IS NULL OR sequence < $3)
ORDER BY sequence DESC LIMIT $4
"""  # noqa: S608
PAGE = f"""
SELECT DISTINCT ON (environment) {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND ($2::text IS NULL OR environment > $2)
ORDER BY environment, sequence DESC LIMIT $3
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId, environment: str, version: str | None = None) -> EnvironmentRow | None:
    """That version, or the one registered last."""
    record = await database.fetchrow(GET, workspace, environment, version)
    return None if record is None else TABLE.row_of(record)


async def versions(
    database: Queries, workspace: WorkspaceId, environment: str, *, limit: int = 100, cursor: str | None = None,
) -> Rows[EnvironmentRow]:
    """Versions of one environment, newest first. Raises: Invalid."""
    before = decode(cursor, int)
    records = await database.fetch(VERSIONS, workspace, environment, before and before[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.sequence,))


async def page(database: Queries, workspace: WorkspaceId, *, limit: int = 100, cursor: str | None = None) -> Rows[EnvironmentRow]:
    """The latest version of each environment, by name. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, workspace, after and after[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.environment,))

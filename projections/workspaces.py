"""Read model: workspaces and their members."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from core import workspaces
from core.events import Recorded
from core.ids import WorkspaceId
from core.workspaces import MemberAdded, MemberRemoved, Role, WorkspaceCreated, WorkspaceDeleted, WorkspaceUpdated
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class WorkspaceRow:
    workspace: str
    name: str
    display_name: str | None
    description: str | None
    default_compute: str | None
    members: dict[str, Role]
    """User -> role."""
    created_at: datetime
    created_by: str


TABLE: Table[WorkspaceRow] = Table(
    "workspaces", 1, WorkspaceRow, ("workspace",),
    {
        "workspace": "text", "name": "text", "display_name": "text", "description": "text", "default_compute": "text", "members": "jsonb",
        "created_at": "timestamptz", "created_by": "text",
    },
    indexes=("(name, workspace)", "USING gin (members)"),
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace,)


def fold(row: WorkspaceRow | None, recorded: Recorded) -> WorkspaceRow | None:
    event = recorded.event
    if isinstance(event, WorkspaceCreated):
        return WorkspaceRow(
            recorded.workspace, event.name, event.display_name, event.description, None, {event.owner: "owner"}, recorded.at,
            recorded.actor,
        )
    if row is None:
        raise ValueError(f"{event.type} of a workspace that was never created")
    match event:
        case WorkspaceUpdated():
            return replace(
                row, display_name=row.display_name if event.display_name is None else event.display_name,
                description=row.description if event.description is None else event.description,
                default_compute=row.default_compute if event.default_compute is None else event.default_compute,
            )
        case MemberAdded():
            return replace(row, members={**row.members, event.user: event.role})
        case MemberRemoved():
            return replace(row, members={user: role for user, role in row.members.items() if user != event.user})
        case WorkspaceDeleted():
            return None
        case _:
            return row


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(workspaces.EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1"  # noqa: S608  names of ours
BY_NAME = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE name = $1 ORDER BY created_at, workspace LIMIT 1"  # noqa: S608
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE ($1::text IS NULL OR members ? $1) AND ($2::text IS NULL OR (name, workspace) > ($2, $3::text)) ORDER BY name, workspace LIMIT $4
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId) -> WorkspaceRow | None:
    record = await database.fetchrow(GET, workspace)
    return None if record is None else TABLE.row_of(record)


async def by_name(database: Queries, name: str) -> WorkspaceRow | None:
    """The workspace that has this name; whether the caller may know of it is the caller's to check."""
    record = await database.fetchrow(BY_NAME, name)
    return None if record is None else TABLE.row_of(record)


async def page(database: Queries, *, member: str | None, limit: int = 100, cursor: str | None = None) -> Rows[WorkspaceRow]:
    """Workspaces of which `member` is one, by name; all of them for None. Raises: Invalid."""
    name, workspace = decode(cursor, str, str) or (None, None)
    records = await database.fetch(PAGE, member, name, workspace, limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.name, row.workspace))

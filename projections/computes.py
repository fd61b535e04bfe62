"""Read model: the computes of a workspace. How many nodes each has is counted from the read model `nodes`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from core import computes
from core.computes import ClusterScaled, ComputeCreated, ComputeDeleted, ComputeUpdated
from core.events import Recorded
from core.ids import WorkspaceId
from projections.database import Queries
from projections.nodes import TABLE as NODES
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class ComputeRow:
    workspace: str
    compute: str
    provider: str
    min_nodes: int
    max_nodes: int
    idle_seconds: float
    slots_per_node: int
    wanted: int
    reason: str | None
    """Why it wants that many nodes."""
    description: str | None
    created_at: datetime
    created_by: str
    deleted_at: datetime | None
    """Its row stays until it is made again, so that its last nodes can be seen going."""


@dataclass(frozen=True, slots=True)
class ComputeView:
    """A compute with its nodes counted."""

    row: ComputeRow
    nodes: int
    """That are there: ready, unreachable or releasing."""
    starting: int
    busy: int

    @property
    def status(self) -> str:
        """steady | resizing | deleting"""
        if self.row.deleted_at is not None:
            return "deleting"
        return "steady" if self.nodes == self.row.wanted and self.starting == 0 else "resizing"


TABLE: Table[ComputeRow] = Table(
    "computes", 1, ComputeRow, ("workspace", "compute"),
    {
        "workspace": "text", "compute": "text", "provider": "text", "min_nodes": "integer", "max_nodes": "integer",
        "idle_seconds": "double precision", "slots_per_node": "integer", "wanted": "integer", "reason": "text", "description": "text",
        "created_at": "timestamptz", "created_by": "text", "deleted_at": "timestamptz",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.compute)  # type: ignore[attr-defined]  # `hears` lets only such events in


def fold(row: ComputeRow | None, recorded: Recorded) -> ComputeRow | None:
    event = recorded.event
    if isinstance(event, ComputeCreated):
        return ComputeRow(
            recorded.workspace, event.compute, event.provider, event.min_nodes, event.max_nodes, event.idle_seconds,
            event.slots_per_node, event.min_nodes, None, event.description, recorded.at, recorded.actor, None,
        )
    if row is None:
        raise ValueError(f"{event.type} of a compute that was never created")
    match event:
        case ComputeUpdated():
            return replace(
                row, min_nodes=row.min_nodes if event.min_nodes is None else event.min_nodes,
                max_nodes=row.max_nodes if event.max_nodes is None else event.max_nodes,
                idle_seconds=row.idle_seconds if event.idle_seconds is None else event.idle_seconds,
            )
        case ClusterScaled():
            return replace(row, wanted=event.wanted, reason=event.reason)
        case ComputeDeleted():
            return replace(row, wanted=0, deleted_at=recorded.at)
        case _:
            return row


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(computes.EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
_COUNTED = f"""
SELECT {TABLE.selected_from("c")},
  count(n.node) FILTER (WHERE n.status IN ('ready', 'unreachable', 'releasing')), count(n.node) FILTER (WHERE n.status = 'starting'),
  count(n.node) FILTER (WHERE n.held <> '{{}}'::jsonb)
FROM {TABLE.sql_name} c LEFT JOIN {NODES.sql_name} n ON n.workspace = c.workspace AND n.compute = c.compute AND n.status <> 'gone'
"""  # noqa: S608  names of ours
_EXISTS = "(c.deleted_at IS NULL OR n.node IS NOT NULL)"
GET = f"{_COUNTED} WHERE c.workspace = $1 AND c.compute = $2 AND {_EXISTS} GROUP BY c.workspace, c.compute"
PAGE = f"""
{_COUNTED} WHERE c.workspace = $1 AND {_EXISTS} AND ($2::text IS NULL OR c.compute > $2)
GROUP BY c.workspace, c.compute ORDER BY c.compute LIMIT $3
"""


async def get(database: Queries, workspace: WorkspaceId, compute: str) -> ComputeView | None:
    """A deleted compute is there, as `deleting`, while it has nodes."""
    record = await database.fetchrow(GET, workspace, compute)
    return None if record is None else _view(record)


async def page(database: Queries, workspace: WorkspaceId, *, limit: int = 100, cursor: str | None = None) -> Rows[ComputeView]:
    """Computes by name. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, workspace, after and after[0], limited(limit) + 1)
    return cut([_view(record) for record in records], limit, lambda view: (view.row.compute,))


def _view(record: tuple[object, ...]) -> ComputeView:
    nodes, starting, busy = record[-3:]
    return ComputeView(TABLE.row_of(tuple(record)[:-3]), nodes, starting, busy)  # type: ignore[arg-type]  # counts

"""Read model: the nodes of each compute, with what they run. A node that is gone stays, so that old runs can name it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core import nodes
from core.events import Recorded
from core.ids import WorkspaceId
from core.nodes import NodeGone, NodeJoined, NodeReachable, NodeReleaseRequested, NodeRequested, NodeUnreachable, SlotFreed, SlotTaken
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class NodeRow:
    workspace: str
    node: str
    compute: str
    status: str
    """starting | ready | unreachable | releasing | gone"""
    slots: int
    held: dict[str, dict[str, int]]
    """What holds its slots: run -> {attempt, slots}."""
    reason: str | None
    """Why it was wanted, is released, or is gone."""
    facts: dict[str, Any]
    """`core.nodes.NodeFacts` as JSON, once the agent is there."""
    requested_at: datetime | None
    joined_at: datetime | None
    gone_at: datetime | None

    @property
    def runs(self) -> list[str]:
        return list(self.held)


TABLE: Table[NodeRow] = Table(
    "nodes", 1, NodeRow, ("workspace", "node"),
    {
        "workspace": "text", "node": "text", "compute": "text", "status": "text", "slots": "integer", "held": "jsonb", "reason": "text",
        "facts": "jsonb", "requested_at": "timestamptz", "joined_at": "timestamptz", "gone_at": "timestamptz",
    },
    indexes=("(workspace, compute, node) WHERE status <> 'gone'", "(workspace, compute, node)"),
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.node)  # type: ignore[attr-defined]  # `hears` lets only events of a node in


def fold(row: NodeRow | None, recorded: Recorded) -> NodeRow | None:
    event = recorded.event
    match event:
        case NodeRequested():
            return NodeRow(
                recorded.workspace, event.node, event.compute, "starting", event.slots, {}, event.reason, {}, recorded.at, None, None,
            )
        case NodeJoined():
            facts = event.facts.model_dump(mode="json")
            if row is None:
                return NodeRow(
                    recorded.workspace, event.node, event.compute, "ready", event.slots, {}, None, facts, None, recorded.at, None,
                )
            return TABLE.changed(row, status="ready", slots=event.slots, facts=facts, joined_at=recorded.at)
    if row is None:
        raise ValueError(f"{event.type} of a node that was never wanted")
    return _known(row, recorded)


def _known(row: NodeRow, recorded: Recorded) -> NodeRow:
    match recorded.event:
        case NodeUnreachable() if row.status == "ready":
            return TABLE.changed(row, status="unreachable")
        case NodeReachable() if row.status == "unreachable":
            return TABLE.changed(row, status="ready")
        case NodeReleaseRequested() as event:
            return TABLE.changed(row, status="releasing", reason=event.reason)
        case NodeGone() as event:
            return TABLE.changed(row, status="gone", reason=event.reason, held={}, gone_at=recorded.at)
        case SlotTaken() as event:
            return TABLE.changed(row, held={**row.held, event.run: {"attempt": event.attempt, "slots": event.slots}})
        case SlotFreed() as event:
            return TABLE.changed(row, held={run: held for run, held in row.held.items() if run != event.run})
        case _:
            return row


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(nodes.EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND node = $2"  # noqa: S608  names of ours
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND ($2::text IS NULL OR compute = $2) AND ($3::boolean OR status <> 'gone') AND ($4::text IS NULL OR node > $4)
ORDER BY node LIMIT $5
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId, node: str) -> NodeRow | None:
    record = await database.fetchrow(GET, workspace, node)
    return None if record is None else TABLE.row_of(record)


async def page(
    database: Queries, workspace: WorkspaceId, compute: str | None = None, *, gone: bool = False, limit: int = 100,
    cursor: str | None = None,
) -> Rows[NodeRow]:
    """Nodes by id, of one compute or of all; with `gone` also those that are no more. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, workspace, compute, gone, after and after[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.node,))

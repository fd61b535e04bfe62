"""Read model: real-time endpoints with their deployments, revisions, ready replicas and traffic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core import endpoints
from core.endpoints import (
    DeploymentDeleted,
    DeploymentFailed,
    DeploymentReady,
    DeploymentRequested,
    DeploymentSpec,
    EndpointCreated,
    EndpointDeleted,
    EndpointKeyRegenerated,
    ReplicaLost,
    ReplicaReady,
    TrafficSet,
)
from core.events import Event, Recorded
from core.ids import WorkspaceId
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A deployment: the revision that serves, and the one on its way."""

    name: str
    state: str
    """creating | updating | succeeded | failed"""
    current: RevisionView | None
    """The one that serves."""
    rolling: RevisionView | None
    """The one on its way to replace it."""
    refused: RevisionView | None
    """The one that failed last, until another is wanted."""
    message: str | None
    """Why it failed."""
    created_at: datetime

    @property
    def shown(self) -> RevisionView:
        """What the deployment is about now: the revision on its way, else the one that serves, else the one that failed."""
        shown = self.rolling or self.current or self.refused
        if shown is None:
            raise ValueError(f"deployment {self.name!r} without a revision")
        return shown


@dataclass(frozen=True, slots=True)
class RevisionView:
    number: int
    spec: DeploymentSpec
    replicas: tuple[str, ...]
    """Those that are ready."""


@dataclass(slots=True)
class EndpointRow:
    workspace: str
    endpoint: str
    description: str | None
    tags: dict[str, str]
    primary_key: str
    """The vault's reference, never the key."""
    secondary_key: str
    traffic: dict[str, int]
    document: dict[str, dict[str, Any]]
    """Deployments as JSON; see `deployments`."""
    created_at: datetime
    created_by: str

    @property
    def deployments(self) -> dict[str, DeploymentView]:
        return {name: _view(name, document) for name, document in self.document.items()}

    @property
    def state(self) -> str:
        """succeeded | updating | failed: the worst of its deployments."""
        states = {_state(document) for document in self.document.values()}
        if states & {"creating", "updating"}:
            return "updating"
        return "failed" if "failed" in states else "succeeded"


TABLE: Table[EndpointRow] = Table(
    "endpoints", 1, EndpointRow, ("workspace", "endpoint"),
    {
        "workspace": "text", "endpoint": "text", "description": "text", "tags": "jsonb", "primary_key": "text", "secondary_key": "text",
        "traffic": "jsonb", "document": "jsonb", "created_at": "timestamptz", "created_by": "text",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.endpoint)  # type: ignore[attr-defined]  # `hears` lets only such events in


def fold(row: EndpointRow | None, recorded: Recorded) -> EndpointRow | None:
    event = recorded.event
    if isinstance(event, EndpointCreated):
        return EndpointRow(
            recorded.workspace, event.endpoint, event.description, event.tags, event.primary_key, event.secondary_key, {}, {},
            recorded.at, recorded.actor,
        )
    if row is None:
        raise ValueError(f"{event.type} of an endpoint that was never created")
    match event:
        case EndpointKeyRegenerated(which="primary"):
            return replace(row, primary_key=event.reference)
        case EndpointKeyRegenerated():
            return replace(row, secondary_key=event.reference)
        case TrafficSet():
            return replace(row, traffic=event.traffic)
        case EndpointDeleted():
            return None
        case DeploymentDeleted():
            return replace(
                row, document={name: d for name, d in row.document.items() if name != event.deployment},
                traffic={name: share for name, share in row.traffic.items() if name != event.deployment},
            )
        case DeploymentRequested() | ReplicaReady() | ReplicaLost() | DeploymentReady() | DeploymentFailed():
            new = {"current": None, "rolling": None, "refused": None, "failed": None, "created_at": recorded.at.isoformat()}
            deployment = _deployment(row.document.get(event.deployment, new), event)
            return replace(row, document={**row.document, event.deployment: deployment})
        case _:
            return row


def _deployment(before: dict[str, Any], event: Event) -> dict[str, Any]:
    rolling = before["rolling"]
    match event:
        case DeploymentRequested():
            spec = event.spec.model_dump(mode="json", exclude_none=True)
            return {**before, "rolling": {"number": event.revision, "spec": spec, "ready": []}, "refused": None, "failed": None}
        case ReplicaReady():
            return _with_ready(before, event.revision, lambda ready: sorted({*ready, event.replica}))
        case ReplicaLost():
            return _with_ready(before, event.revision, lambda ready: [replica for replica in ready if replica != event.replica])
        case DeploymentReady() if rolling is not None and rolling["number"] == event.revision:
            return {**before, "current": rolling, "rolling": None}
        case DeploymentFailed() if rolling is not None and rolling["number"] == event.revision:
            return {**before, "rolling": None, "failed": event.reason, "refused": rolling}
        case _:
            return before


def _with_ready(before: dict[str, Any], number: int, change: Any) -> dict[str, Any]:
    return {
        **before,
        **{
            which: {**revision, "ready": change(revision["ready"])}
            for which in ("current", "rolling")
            if (revision := before[which]) is not None and revision["number"] == number
        },
    }


def _state(document: dict[str, Any]) -> str:
    if document["rolling"] is not None:
        return "creating" if document["current"] is None else "updating"
    return "failed" if document["failed"] is not None else "succeeded"


def _view(name: str, document: dict[str, Any]) -> DeploymentView:
    return DeploymentView(
        name, _state(document), _revision(document["current"]), _revision(document["rolling"]), _revision(document["refused"]),
        document["failed"], datetime.fromisoformat(document["created_at"]),
    )


def _revision(document: dict[str, Any] | None) -> RevisionView | None:
    if document is None:
        return None
    return RevisionView(document["number"], DeploymentSpec.model_validate(document["spec"]), tuple(document["ready"]))


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(endpoints.EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND endpoint = $2"  # noqa: S608  names of ours
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND ($2::text IS NULL OR endpoint > $2) ORDER BY endpoint LIMIT $3
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId, endpoint: str) -> EndpointRow | None:
    record = await database.fetchrow(GET, workspace, endpoint)
    return None if record is None else TABLE.row_of(record)


async def page(database: Queries, workspace: WorkspaceId, *, limit: int = 100, cursor: str | None = None) -> Rows[EndpointRow]:
    """Endpoints by name. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, workspace, after and after[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.endpoint,))

"""Read model: registered models, their versions, tags, and the deployments that use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from core.events import Recorded
from core.ids import WorkspaceId
from core.models import (
    EVENTS,
    ModelVersionDeleted,
    ModelVersionRegistered,
    ModelVersionReleased,
    ModelVersionUpdated,
    ModelVersionUsed,
)
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class ModelVersionRow:
    workspace: str
    model: str
    version: int
    manifest: str
    format: str
    description: str | None
    tags: dict[str, str]
    files: int
    bytes: int
    source_run: str | None
    source_path: str | None
    uses: list[str]
    """`endpoint/deployment#revision` of each revision that uses it, sorted."""
    created_at: datetime
    created_by: str
    updated_at: datetime

    @property
    def deployments(self) -> list[str]:
        """`endpoint/deployment` of each deployment that uses it."""
        return sorted({use.rpartition("#")[0] for use in self.uses})


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model as a whole: its latest version speaks for it."""

    model: str
    latest_version: int
    versions: int
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime


TABLE: Table[ModelVersionRow] = Table(
    "model_registry", 1, ModelVersionRow, ("workspace", "model", "version"),
    {
        "workspace": "text", "model": "text", "version": "bigint", "manifest": "text", "format": "text", "description": "text",
        "tags": "jsonb", "files": "bigint", "bytes": "bigint", "source_run": "text", "source_path": "text", "uses": "jsonb",
        "created_at": "timestamptz", "created_by": "text", "updated_at": "timestamptz",
    },
    indexes=("(workspace, source_run) WHERE source_run IS NOT NULL",),
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    event = recorded.event
    return (recorded.workspace, event.model, event.version)  # type: ignore[attr-defined]  # `hears` lets only such events in


def fold(row: ModelVersionRow | None, recorded: Recorded) -> ModelVersionRow | None:
    event = recorded.event
    if isinstance(event, ModelVersionRegistered):
        return ModelVersionRow(
            workspace=recorded.workspace, model=event.model, version=event.version, manifest=event.manifest, format=event.format,
            description=event.description, tags=event.tags, files=event.files, bytes=event.bytes, source_run=event.source_run,
            source_path=event.source_path, uses=[], created_at=recorded.at, created_by=recorded.actor, updated_at=recorded.at,
        )
    if row is None:
        raise ValueError(f"{event.type} of a version that was never registered")
    match event:
        case ModelVersionUpdated():
            return replace(
                row, tags={k: v for k, v in row.tags.items() if k not in event.tags_removed} | event.tags_set,
                description=row.description if event.description is None else event.description, updated_at=recorded.at,
            )
        case ModelVersionUsed():
            return replace(row, uses=sorted({*row.uses, _use(event)}))
        case ModelVersionReleased():
            return replace(row, uses=[use for use in row.uses if use != _use(event)])
        case ModelVersionDeleted():
            return None
        case _:
            return row


def _use(event: ModelVersionUsed | ModelVersionReleased) -> str:
    return f"{event.endpoint}/{event.deployment}#{event.revision}"


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
VERSION = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND model = $2 AND ($3::bigint IS NULL OR version = $3)
ORDER BY version DESC LIMIT 1
"""  # noqa: S608  names of ours
VERSIONS = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND model = $2 AND tags @> $3::text::jsonb AND ($4::bigint IS NULL OR version < $4) ORDER BY version DESC LIMIT $5
"""  # noqa: S608
MODELS = f"""
WITH latest AS (
  SELECT DISTINCT ON (model) model, version, tags FROM {TABLE.sql_name}
  WHERE workspace = $1 AND ($2::text IS NULL OR model = $2) AND ($3::text IS NULL OR model > $3) ORDER BY model, version DESC
), kept AS (
  SELECT * FROM latest l WHERE EXISTS (
    SELECT FROM {TABLE.sql_name} t WHERE t.workspace = $1 AND t.model = l.model AND t.tags @> $4::text::jsonb) ORDER BY model LIMIT $5
)
SELECT k.model, k.version, count(*), k.tags::text, min(t.created_at), max(t.updated_at)
FROM kept k JOIN {TABLE.sql_name} t ON t.workspace = $1 AND t.model = k.model GROUP BY k.model, k.version, k.tags ORDER BY k.model
"""  # noqa: S608


async def version(database: Queries, workspace: WorkspaceId, model: str, number: int | None = None) -> ModelVersionRow | None:
    """That version, or the latest that is there."""
    record = await database.fetchrow(VERSION, workspace, model, number)
    return None if record is None else TABLE.row_of(record)


async def versions(
    database: Queries, workspace: WorkspaceId, model: str, *, tags: Mapping[str, str] | None = None, limit: int = 100,
    cursor: str | None = None,
) -> Rows[ModelVersionRow]:
    """Versions with all of `tags`, newest first. Raises: Invalid."""
    before = decode(cursor, int)
    records = await database.fetch(VERSIONS, workspace, model, json.dumps(dict(tags or {})), before and before[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.version,))


async def model(database: Queries, workspace: WorkspaceId, name: str) -> ModelView | None:
    found = await models(database, workspace, name=name, limit=1)
    return found.items[0] if found.items else None


async def models(
    database: Queries, workspace: WorkspaceId, *, name: str | None = None, tags: Mapping[str, str] | None = None, limit: int = 100,
    cursor: str | None = None,
) -> Rows[ModelView]:
    """Models by name; with `tags` those of which some version has all of them. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(MODELS, workspace, name, after and after[0], json.dumps(dict(tags or {})), limited(limit) + 1)
    views = [ModelView(r[0], r[1], r[2], json.loads(r[3]), r[4], r[5]) for r in records]
    return cut(views, limit, lambda view: (view.model,))

"""Read model: every run as people see it, newest first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core import runs
from core.events import Recorded
from core.ids import WorkspaceId
from core.runs import (
    RunArchived,
    RunCancelRequested,
    RunEnded,
    RunFileStored,
    RunLateReported,
    RunParametersLogged,
    RunPlaced,
    RunPreempted,
    RunReachable,
    RunRequeued,
    RunRestored,
    RunScriptExited,
    RunStarted,
    RunSubmitted,
    RunUnreachable,
    RunUpdated,
    SourceEnd,
)
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed
from projections.run_sentences import why as why


@dataclass(slots=True)
class RunRow:
    """A run. Treated as immutable: folds make a new one."""

    workspace: str
    run: str
    sequence: int
    """Of its submission: newer runs have higher ones."""
    experiment: str
    compute: str
    parent: str | None
    status: str
    phase: str
    """queued | preparing | running | finalizing | ended: what the attempt does, whatever is wished or heard of it."""
    stopping: str
    """no | canceling | preempted"""
    reachable: bool
    attempt: int
    """The newest attempt, 0 before the first."""
    node: str | None
    """Of the attempt now, or of the last one."""
    note: str | None
    """The reason of the last placement, requeueing, preemption or silence."""
    silent_seconds: float | None
    environment_key: str | None
    environment_lock: str | None
    environment_cached: bool | None
    preparing_seconds: float | None
    sandbox: str | None
    exit_code: int | None
    reason: str | None
    message: str | None
    outputs: str | None
    """Manifest digest of its files."""
    output_files: int
    output_bytes: int
    sources: list[dict[str, Any]]
    """`core.runs.SourceEnd` of each source of measurements, as JSON; see `source_ends`."""
    late: list[str]
    """What came after the end, a sentence each."""
    display_name: str | None
    description: str | None
    tags: dict[str, str]
    parameters: dict[str, str]
    files: dict[str, dict[str, Any]]
    """Files stored beside the outputs: path -> {sha256, bytes}."""
    archived: bool
    submitted_by: str
    submitted_at: datetime
    placed_at: datetime | None
    started_at: datetime | None
    exited_at: datetime | None
    ended_at: datetime | None
    submission: str
    """The event `run-submitted` as JSON; see `submitted`."""

    @property
    def submitted(self) -> RunSubmitted:
        """What was submitted: command, inputs, environment, snapshot, git facts, warnings."""
        return RunSubmitted.model_validate_json(self.submission)

    @property
    def source_ends(self) -> tuple[SourceEnd, ...]:
        return tuple(SourceEnd.model_validate(source) for source in self.sources)

    @property
    def final(self) -> bool:
        return self.phase == "ended"


TABLE: Table[RunRow] = Table(
    "run_history", 1, RunRow, ("workspace", "run"),
    {
        "workspace": "text", "run": "text", "sequence": "bigint", "experiment": "text", "compute": "text", "parent": "text",
        "status": "text", "phase": "text", "stopping": "text", "reachable": "boolean", "attempt": "integer", "node": "text",
        "note": "text", "silent_seconds": "double precision", "environment_key": "text", "environment_lock": "text",
        "environment_cached": "boolean", "preparing_seconds": "double precision", "sandbox": "text", "exit_code": "bigint",
        "reason": "text", "message": "text", "outputs": "text", "output_files": "bigint", "output_bytes": "bigint", "sources": "jsonb",
        "late": "jsonb", "display_name": "text", "description": "text", "tags": "jsonb", "parameters": "jsonb", "files": "jsonb",
        "archived": "boolean", "submitted_by": "text", "submitted_at": "timestamptz", "placed_at": "timestamptz",
        "started_at": "timestamptz", "exited_at": "timestamptz", "ended_at": "timestamptz", "submission": "text",
    },
    indexes=("(workspace, sequence DESC)", "(workspace, experiment, sequence DESC)", "(workspace, parent) WHERE parent IS NOT NULL"),
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.run)  # type: ignore[attr-defined]  # `hears` lets only events of a run in


def fold(row: RunRow | None, recorded: Recorded) -> RunRow | None:
    event = recorded.event
    if isinstance(event, RunSubmitted):
        return _submitted(recorded, event)
    if row is None:
        raise ValueError(f"{event.type} of a run that was never submitted")
    changed = _life(row, recorded) or _facts(row, recorded)
    return row if changed is None else changed


def _submitted(recorded: Recorded, event: RunSubmitted) -> RunRow:
    return RunRow(
        workspace=recorded.workspace, run=event.run, sequence=recorded.sequence, experiment=event.experiment, compute=event.compute,
        parent=event.parent, status="queued", phase="queued", stopping="no", reachable=True, attempt=0, node=None, note=None,
        silent_seconds=None, environment_key=None, environment_lock=None, environment_cached=None, preparing_seconds=None, sandbox=None,
        exit_code=None, reason=None, message=None, outputs=None, output_files=0, output_bytes=0, sources=[], late=[],
        display_name=event.display_name, description=event.description, tags=event.tags, parameters={}, files={}, archived=False,
        submitted_by=recorded.actor, submitted_at=recorded.at, placed_at=None, started_at=None, exited_at=None, ended_at=None,
        submission=event.model_dump_json(exclude_none=True),
    )


def _life(row: RunRow, recorded: Recorded) -> RunRow | None:
    """The row after an event that moves the run on; None for every other event."""
    match recorded.event:
        case RunPlaced() as event:
            return _seen(
                row, phase="preparing", stopping="no", reachable=True, attempt=event.attempt, node=event.node, note=event.reason,
                silent_seconds=None, exit_code=None, placed_at=recorded.at, started_at=None, exited_at=None,
                environment_key=None, environment_lock=None, environment_cached=None, preparing_seconds=None, sandbox=None,
            )
        case RunStarted() as event:
            return _seen(
                row, phase="running", started_at=recorded.at, environment_key=event.environment_key,
                environment_lock=event.environment_lock, environment_cached=event.environment_cached,
                preparing_seconds=event.preparing_seconds, sandbox=event.sandbox,
            )
        case RunScriptExited() as event:
            return _seen(row, phase="finalizing", exit_code=event.exit_code, exited_at=recorded.at)
        case RunCancelRequested():
            return _seen(row, stopping="canceling")
        case RunPreempted() as event:
            return _seen(row, stopping="preempted", note=event.reason)
        case RunUnreachable() as event:
            return _seen(row, reachable=False, silent_seconds=event.silent_seconds)
        case RunReachable():
            return _seen(row, reachable=True, silent_seconds=None)
        case RunRequeued() as event:
            return _seen(row, phase="queued", stopping="no", reachable=True, silent_seconds=None, note=event.message)
        case RunEnded() as event:
            return _ended(row, recorded.at, event)
        case _:
            return None


def _ended(row: RunRow, at: datetime, event: RunEnded) -> RunRow:
    return TABLE.changed(
        row, status=event.outcome, phase="ended", stopping="no", reachable=True, silent_seconds=None, ended_at=at,
        reason=event.reason, message=event.message, outputs=event.outputs, output_files=event.output_files,
        output_bytes=event.output_bytes, exit_code=row.exit_code if event.exit_code is None else event.exit_code,
        attempt=row.attempt if event.attempt is None else event.attempt,
        sources=[source.model_dump() for source in event.sources],
    )


def _seen(row: RunRow, **changes: Any) -> RunRow:
    """The row with its status derived anew, as `core.runs.status` has it."""
    changed = TABLE.changed(row, **changes)
    if changed.phase == "queued":
        changed.status = "queued"
    elif not changed.reachable:
        changed.status = "unreachable"
    else:
        changed.status = changed.phase if changed.stopping == "no" else changed.stopping
    return changed


def _facts(row: RunRow, recorded: Recorded) -> RunRow | None:
    match recorded.event:
        case RunParametersLogged() as event:
            return TABLE.changed(row, parameters={**row.parameters, **event.parameters})
        case RunFileStored() as event:
            return TABLE.changed(row, files={**row.files, event.path: {"sha256": event.sha256, "bytes": event.bytes}})
        case RunUpdated() as event:
            return TABLE.changed(
                row, tags={k: v for k, v in row.tags.items() if k not in event.tags_removed} | event.tags_set,
                display_name=row.display_name if event.display_name is None else event.display_name,
                description=row.description if event.description is None else event.description,
            )
        case RunLateReported() as event:
            return TABLE.changed(row, late=[*row.late, event.message])
        case RunArchived():
            return TABLE.changed(row, archived=True)
        case RunRestored():
            return TABLE.changed(row, archived=False)
        case _:
            return None


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(runs.EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2"  # noqa: S608  names of ours
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name}
WHERE workspace = $1 AND ($2::text IS NULL OR experiment = $2) AND ($3::text IS NULL OR status = $3) AND ($4::text IS NULL OR parent = $4)
  AND tags @> $5::text::jsonb AND ($6::boolean IS NULL OR archived = $6) AND ($7::bigint IS NULL OR sequence < $7)
ORDER BY sequence DESC LIMIT $8
"""  # noqa: S608
COUNTS = f"SELECT status, count(*) FROM {TABLE.sql_name} WHERE workspace = $1 AND ($2::text IS NULL OR experiment = $2) GROUP BY status"  # noqa: S608
ACTIVE = f"""
SELECT run FROM {TABLE.sql_name} WHERE workspace = $1 AND phase <> 'ended' AND ($2::text IS NULL OR compute = $2)
ORDER BY sequence LIMIT 1000
"""  # noqa: S608


async def get(database: Queries, workspace: WorkspaceId, run: str) -> RunRow | None:
    record = await database.fetchrow(GET, workspace, run)
    return None if record is None else TABLE.row_of(record)


async def page(
    database: Queries, workspace: WorkspaceId, *, experiment: str | None = None, status: str | None = None, parent: str | None = None,
    tags: Mapping[str, str] | None = None, archived: bool | None = False, limit: int = 100, cursor: str | None = None,
) -> Rows[RunRow]:
    """Runs, newest first. `archived` None shows both. Raises: Invalid."""
    before = decode(cursor, int)
    records = await database.fetch(
        PAGE, workspace, experiment, status, parent, json.dumps(dict(tags or {})), archived, before and before[0], limited(limit) + 1,
    )
    return cut(TABLE.rows_of(records), limit, lambda row: (row.sequence,))


async def counts(database: Queries, workspace: WorkspaceId, experiment: str | None = None) -> dict[str, int]:
    """How many runs there are of each status."""
    return dict(map(tuple, await database.fetch(COUNTS, workspace, experiment)))


async def active(database: Queries, workspace: WorkspaceId, compute: str | None = None) -> list[str]:
    """Runs that have not ended, oldest first, at most 1,000."""
    return [record[0] for record in await database.fetch(ACTIVE, workspace, compute)]

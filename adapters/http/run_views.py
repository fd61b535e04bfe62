"""A run as `job show` prints it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce

from adapters.http.call import Call
from adapters.http.names import people_behind
from core.errors import NotFound
from core.runs import stream_of
from foldline.wire.jobs import AZURE_STATUS, Run, RunCreated
from foldline.wire.measurements import spell
from projections import run_history, run_metrics, source_progress
from projections.run_history import RunRow

TURN_ROWS = 50
"""After so many rows others get their turn on the event loop."""


async def load_row(call: Call, run: str) -> RunRow:
    """Raises: NotFound, Behind."""
    await call.wait("run_history")
    row = await run_history.get(call.services.pool, call.home, run)
    if row is None:
        raise NotFound("run", run)
    return row


async def newest_row(call: Call, run: str) -> RunRow:
    """The run as its durable events make it, read model or not: what a write is decided upon must not lag. Raises: NotFound."""
    row: RunRow | None = reduce(run_history.fold, await call.services.log.read(call.home, stream_of(run)), None)
    if row is None:
        raise NotFound("run", run)
    return row


async def show(call: Call, row: RunRow) -> Run:
    """One run with its metrics, and whether all that it measured has arrived."""
    pool, home = call.services.pool, call.home
    values = await run_metrics.last_values(pool, home, [row.run])
    complete = await source_progress.complete(pool, home, row.run, row.source_ends) if row.final else None
    names = await people_behind(call.services, [row.submitted_by])
    return of_row(row, values.get(row.run, {}), names, call.services.clock.now(), complete)


async def shows(call: Call, rows: Sequence[RunRow]) -> list[Run]:
    values = await run_metrics.last_values(call.services.pool, call.home, [row.run for row in rows]) if rows else {}
    names = await people_behind(call.services, {row.submitted_by for row in rows})
    now = call.services.clock.now()
    shown: list[Run] = []
    for row in rows:
        shown.append(of_row(row, values.get(row.run, {}), names, now, None))
        if len(shown) % TURN_ROWS == 0:
            await asyncio.sleep(0)
    return shown


def of_row(
    row: RunRow, metrics: Mapping[str, float], names: Mapping[str, str], now: datetime, complete: bool | None, *, link: str | None = None,
) -> Run:
    submitted = row.submitted
    job = submitted.job
    environment = {**job.environment.model_dump(mode="json", exclude_none=True, exclude={"variables"}), "key": job.environment.key}
    facts = {
        "name": row.run, "display_name": row.display_name, "description": row.description, "experiment_name": row.experiment,
        "status": row.status, "azure_status": AZURE_STATUS[row.status], "why": run_history.why(row), "compute": row.compute,
        "node": row.node, "attempt": row.attempt, "command": job.command,
        "inputs": {name: given.literal for name, given in job.inputs.items()},
        "outputs": {name: {"type": output.kind, "mode": output.mode} for name, output in job.outputs.items()},
        "environment": environment, "environment_variables": {**job.environment.variables, **job.environment_variables},
        "environment_lock": row.environment_lock, "snapshot": submitted.snapshot, "code_path": submitted.code_path,
        "parameters": row.parameters, "metrics": {key: spell(value) for key, value in metrics.items()}, "tags": row.tags,
        "parent": row.parent, "git": None if submitted.git is None else submitted.git.model_dump(mode="json", exclude_none=True),
        "warnings": list(submitted.warnings), "exit_code": row.exit_code, "reason": row.reason, "message": row.message,
        "sandbox": row.sandbox, "submitted_by": names.get(row.submitted_by, row.submitted_by), "submitted_at": row.submitted_at,
        "started_at": row.started_at, "ended_at": row.ended_at, "duration_seconds": _duration(row, now), "archived": row.archived,
        "output_files": row.output_files, "output_bytes": row.output_bytes, "curves_complete": complete,
    }
    return Run.model_validate(facts) if link is None else RunCreated.model_validate({**facts, "link": link})


def _duration(row: RunRow, now: datetime) -> float | None:
    """From the script's start to its end, or to now."""
    if row.started_at is None:
        return None
    return max(0.0, ((row.ended_at or (now if not row.final else row.started_at)) - row.started_at).total_seconds())

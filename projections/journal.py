"""Read model: the journal. One row an event: who did what, when, because of what, in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.events import Recorded
from core.ids import WorkspaceId
from projections.database import Queries
from projections.journal_sentences import summary
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(slots=True)
class JournalRow:
    workspace: str
    sequence: int
    at: datetime
    actor: str
    type: str
    subject: str
    """The stream: `run/amber-otter-7k2m`."""
    version: int
    """The stream's version after it: what If-Match would carry."""
    run: str | None
    """The run that it is about, in whatever stream: a slot taken, say."""
    summary: str
    correlation: str
    causation: int | None
    """The sequence of the event that caused it."""
    command: str
    content: str
    """The event as JSON; see `event`."""
    cause: str | None = None
    """`<type> #<sequence>` of the event that caused it; looked up by the queries."""

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.content))


TABLE: Table[JournalRow] = Table(
    "journal", 1, JournalRow, ("workspace", "sequence"),
    {
        "workspace": "text", "sequence": "bigint", "at": "timestamptz", "actor": "text", "type": "text", "subject": "text",
        "version": "bigint", "run": "text", "summary": "text", "correlation": "text", "causation": "bigint", "command": "text",
        "content": "text",
    },
    indexes=(
        "(workspace, subject, sequence)", "(workspace, run, sequence) WHERE run IS NOT NULL",
        "(workspace, correlation, sequence) WHERE run IS NULL",
    ),
    fill_percent=100,
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.sequence)


def fold(row: JournalRow | None, recorded: Recorded) -> JournalRow | None:
    event = recorded.event
    return JournalRow(
        recorded.workspace, recorded.sequence, recorded.at, recorded.actor, event.type, recorded.stream, recorded.version,
        _run(recorded), summary(event), recorded.correlation, _sequence(recorded), recorded.command,
        event.model_dump_json(exclude_none=True),
    )


def _run(recorded: Recorded) -> str | None:
    """The run that the event is about: its own, or the one that a model came from."""
    event = recorded.event
    run: str | None = getattr(event, "run", None) or getattr(event, "source_run", None)
    return run


def _sequence(recorded: Recorded) -> int | None:
    """The sequence inside a causation `<workspace>/<sequence>`, when it is of this workspace."""
    if recorded.causation is None:
        return None
    workspace, _, number = recorded.causation.rpartition("/")
    return int(number) if workspace == recorded.workspace and number.isdecimal() and len(number) < 19 else None


MODEL = ReadModel(TABLE, keyed(key_of), fold, insert_only=True)

# -- queries -----------------------------------------------------------------------------------------------------------
_WITH_CAUSE = f"""
SELECT {TABLE.selected_from("j")}, CASE WHEN c.type IS NOT NULL THEN c.type || ' #' || c.sequence END
FROM {TABLE.sql_name} j LEFT JOIN {TABLE.sql_name} c ON c.workspace = j.workspace AND c.sequence = j.causation
"""  # noqa: S608  names of ours
_MATCHES = """
WHERE j.workspace = $1 AND ($2::text IS NULL OR j.subject = $2) AND ($3::text IS NULL OR j.actor = $3) AND ($4::text IS NULL OR j.type = $4)
  AND ($5::timestamptz IS NULL OR j.at >= $5) AND ($6::timestamptz IS NULL OR j.at < $6)
"""
NEWEST = f"{_WITH_CAUSE} {_MATCHES} AND ($7::bigint IS NULL OR j.sequence < $7) ORDER BY j.sequence DESC LIMIT $8"
OLDEST = f"{_WITH_CAUSE} {_MATCHES} AND ($7::bigint IS NULL OR j.sequence > $7) ORDER BY j.sequence LIMIT $8"
STORY = f"""
WITH begun AS (
  SELECT DISTINCT correlation FROM {TABLE.sql_name}
  WHERE workspace = $1 AND run = $2 AND type IN ('run-submitted', 'run-cancel-requested', 'run-requeued')
), told AS (
  SELECT sequence FROM {TABLE.sql_name} WHERE workspace = $1 AND run = $2 AND sequence > $3
  UNION
  SELECT t.sequence FROM {TABLE.sql_name} t JOIN begun USING (correlation) WHERE t.workspace = $1 AND t.run IS NULL AND t.sequence > $3
  ORDER BY sequence LIMIT $4
)
{_WITH_CAUSE} JOIN told ON told.sequence = j.sequence WHERE j.workspace = $1 ORDER BY j.sequence
"""  # noqa: S608


async def page(
    database: Queries, workspace: WorkspaceId, *, subject: str | None = None, actor: str | None = None, event_type: str | None = None,
    since: datetime | None = None, until: datetime | None = None, limit: int = 100, cursor: str | None = None, newest_first: bool = True,
) -> Rows[JournalRow]:
    """What happened; `subject` is a stream, `until` is exclusive. Raises: Invalid."""
    past = decode(cursor, int)
    statement = NEWEST if newest_first else OLDEST
    records = await database.fetch(
        statement, workspace, subject, actor, event_type, since, until, past and past[0], limited(limit) + 1,
    )
    return cut(_rows(records), limit, lambda row: (row.sequence,))


async def story(database: Queries, workspace: WorkspaceId, run: str, *, limit: int = 1000, cursor: str | None = None) -> Rows[JournalRow]:
    """The story of one run, in order: its own events, the slots it held, and what its submission or end caused elsewhere.

    Empty when there is no such run. Raises: Invalid.
    """
    after = decode(cursor, int)
    records = await database.fetch(STORY, workspace, run, after[0] if after else 0, limited(limit) + 1)
    return cut(_rows(records), limit, lambda row: (row.sequence,))


def _rows(records: Iterable[Any]) -> list[JournalRow]:
    return [JournalRow(*record) for record in records]

"""Read model: users and their tokens, by opaque ids. Names and mails live elsewhere, where they can be deleted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.events import Recorded
from core.ids import SYSTEM
from core.users import USER_EVENTS, TokenCreated, TokenRevoked, UserCreated, UserDeleted, UserDisabled, UserEnabled
from projections.database import Queries
from projections.page import Rows, cut, decode, limited
from projections.readmodel import Key, ReadModel, Table, keyed


@dataclass(frozen=True, slots=True)
class TokenView:
    """A personal token; its hash stays in the log."""

    token: str
    label: str | None
    created_at: datetime
    expires_at: datetime | None


@dataclass(slots=True)
class UserRow:
    workspace: str
    """Always `system`."""
    user_id: str
    admin: bool
    enabled: bool
    document: dict[str, dict[str, Any]]
    """Tokens as JSON; see `tokens`."""
    created_at: datetime

    @property
    def tokens(self) -> dict[str, TokenView]:
        """Tokens that were not revoked, oldest first; one may have expired."""
        return {
            token: TokenView(token, facts["label"], datetime.fromisoformat(facts["created_at"]), _time(facts["expires_at"]))
            for token, facts in sorted(self.document.items(), key=lambda item: (item[1]["created_at"], item[0]))
        }


TABLE: Table[UserRow] = Table(
    "users", 1, UserRow, ("workspace", "user_id"),
    {
        "workspace": "text", "user_id": "text", "admin": "boolean", "enabled": "boolean", "document": "jsonb", "created_at": "timestamptz",
    },
)


# -- fold --------------------------------------------------------------------------------------------------------------
def key_of(recorded: Recorded) -> Key:
    return (recorded.workspace, recorded.event.user)  # type: ignore[attr-defined]  # `hears` lets only events of a user in


def fold(row: UserRow | None, recorded: Recorded) -> UserRow | None:
    event = recorded.event
    if isinstance(event, UserCreated):
        return UserRow(recorded.workspace, event.user, event.admin, True, {}, recorded.at)
    if row is None:
        raise ValueError(f"{event.type} of a user who was never created")
    match event:
        case UserDisabled():
            return replace(row, enabled=False)
        case UserEnabled():
            return replace(row, enabled=True)
        case UserDeleted():
            return None
        case TokenCreated():
            expires = event.expires_at.isoformat() if event.expires_at else None
            facts = {"label": event.label, "created_at": recorded.at.isoformat(), "expires_at": expires}
            return replace(row, document={**row.document, event.token: facts})
        case TokenRevoked():
            return replace(row, document={token: facts for token, facts in row.document.items() if token != event.token})
        case _:
            return row


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


MODEL = ReadModel(TABLE, keyed(key_of), fold, hears=frozenset(USER_EVENTS))

# -- queries -----------------------------------------------------------------------------------------------------------
GET = f"SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND user_id = $2"  # noqa: S608  names of ours
PAGE = f"""
SELECT {TABLE.selected} FROM {TABLE.sql_name} WHERE workspace = $1 AND ($2::text IS NULL OR user_id > $2) ORDER BY user_id LIMIT $3
"""  # noqa: S608


async def get(database: Queries, user: str) -> UserRow | None:
    record = await database.fetchrow(GET, SYSTEM, user)
    return None if record is None else TABLE.row_of(record)


async def page(database: Queries, *, limit: int = 100, cursor: str | None = None) -> Rows[UserRow]:
    """Users by id. Raises: Invalid."""
    after = decode(cursor, str)
    records = await database.fetch(PAGE, SYSTEM, after and after[0], limited(limit) + 1)
    return cut(TABLE.rows_of(records), limit, lambda row: (row.user_id,))

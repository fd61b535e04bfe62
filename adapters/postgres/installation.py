"""What this installation and its logs are called: made once, kept in the database."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import statements as sql
from adapters.postgres.pool import Database
from core.ports import Clock


@dataclass(frozen=True, slots=True)
class LogRow:
    id: str
    shards: int


async def installation_id(database: Database, clock: Clock) -> str:
    """Names this installation for ever: in the source of every event, and in Kafka's transactional ids."""
    await database.execute(sql.MAKE_INSTALLATION, clock.random(6).hex())
    found: str = await database.fetchval(sql.READ_INSTALLATION)
    return found


async def ensure_log(database: Database, clock: Clock, name: str, prefix: str, shards: int) -> LogRow:
    """The row of a log and its shards, made when they are not there. How many shards it has is fixed when it is made."""
    await database.execute(sql.MAKE_LOG, name, f"{prefix}-{clock.random(6).hex()}", shards)
    await database.execute(sql.MAKE_SHARDS, name)
    row = await database.fetchrow(sql.READ_LOG, name)
    return LogRow(row["id"], row["shards"])

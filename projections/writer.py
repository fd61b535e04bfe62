"""Writes one table of one read model: slices of the log in, rows and checkpoint out, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from core.errors import UnreadableEvent
from core.events import Unreadable
from projections import checkpoints
from projections.checkpoints import Rewound, Stop
from projections.database import Connection, Database
from projections.readmodel import Item, Key, ReadModel, statements
from projections.topics import Slice, name_of, workspace_of

ROWS_CACHED_MAX = 2_000
UNWRITTEN_OFFSETS_MAX = 10_000
"""How far a table may be ahead of its checkpoint when nothing on the way concerned it."""
_DATA_ERRORS = ("21", "22", "23", "54")
"""Classes of SQLSTATE that come from what was to be written."""
_LOCK = 0x666F6C64
_FOUND = "SELECT to_regclass($1) IS NOT NULL"

Facts = Sequence[tuple[Key, Any]] | Exception
"""What an item says to the model; an Exception when it could not be read."""

log = structlog.get_logger()
_ABSENT: Any = object()


@dataclass(slots=True)
class _Work:
    """What one transaction is about."""

    facts: list[tuple[Item, Facts]]
    rows: dict[Key, Any]
    before: dict[Key, Any]
    stops: list[Stop] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)


class Writer:
    """One table, live or under construction, with what this server knows of it. Not for several tasks but under `lock`."""

    def __init__(self, model: ReadModel[Any], log_id: str, shards: int, suffix: str = "") -> None:
        self.model, self._log_id, self._shards = model, log_id, shards
        self.table = f"{model.table.sql_name}{suffix}"
        self.side = f"{model.side.sql_name}{suffix}" if model.side else None
        self._sql = statements(model.table, self.table)
        self._side_sql = statements(model.side, self.side) if model.side and self.side else None
        self.lock = asyncio.Lock()
        self.reached: dict[int, int] = {}
        """Per shard the next offset up to which the rows are right."""
        self.stopped: set[str] = set()
        self._written: dict[int, int] = {}
        self._generation: dict[int, int] = {}
        self._cache: dict[Key, Any] = {}

    async def prepare(self, database: Database, *, fresh: bool = False) -> None:
        """Makes the tables where they are not there, and reads where they are. `fresh`, or rows of another log: begins anew."""
        async with self.lock, database.acquire() as connection, connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            found = await connection.fetchval(_FOUND, self.table)
            logs = {record[3] for record in await connection.fetch(checkpoints.READ, self.table)}
            if fresh or not found or not logs or logs != {self._log_id}:
                await self._make(connection)
            await connection.execute(checkpoints.MAKE, self.table, self._shards, self._log_id)
            await self.load(connection)

    async def load(self, connection: Connection) -> None:
        """Takes over what the database says."""
        self._cache.clear()
        records = await connection.fetch(checkpoints.READ, self.table)
        self._written = {shard: offset for shard, offset, _, _ in records}
        self._generation = {shard: generation for shard, _, generation, _ in records}
        self.reached = dict(self._written)
        self.stopped = {record[0] for record in await connection.fetch(checkpoints.STOPPED, self.table)}

    async def apply(self, database: Database, piece: Slice) -> None:
        """Folds what is new in the slice. Raises: Rewound, and whatever the database raises; then nothing has changed."""
        async with self.lock:
            start = self.reached[piece.shard]
            if piece.next_offset <= start:
                return
            items = piece.heard_by(self.model)
            if piece.items and piece.items[0].position.offset < start:
                items = [item for item in items if item.position.offset >= start]
            if self.stopped:
                items = [item for item in items if workspace_of(item) not in self.stopped]
            if not items and piece.next_offset - self._written[piece.shard] < UNWRITTEN_OFFSETS_MAX:
                self.reached[piece.shard] = piece.next_offset
                return
            work = self._work(items)
            try:
                await self._commit(database, piece, work, careful=False)
            except Exception as error:
                if not _from_data(error):
                    raise
                work = self._work(items)
                await self._commit(database, piece, work, careful=True)
            self._remember(work)

    def _work(self, items: Sequence[Item]) -> _Work:
        facts: list[tuple[Item, Facts]] = []
        for item in items:
            try:
                unread = getattr(item, "event", None)
                if type(unread) is Unreadable:
                    raise UnreadableEvent(unread.reason)
                facts.append((item, self.model.facts(item)))
            except Exception as error:
                facts.append((item, error))
        return _Work(facts, {}, {}, stopped=set(self.stopped))

    async def _commit(self, database: Database, piece: Slice, work: _Work, *, careful: bool) -> None:
        shard = piece.shard
        async with database.acquire() as connection, connection.transaction():
            taken = await connection.fetchrow(checkpoints.TAKE, self.table, shard)
            if taken is None or taken[0] < self._written[shard]:
                raise Rewound(self.table)
            found, generation = taken[0], taken[1]
            if found != self._written[shard] or generation != self._generation[shard]:
                self._cache.clear()
                work.stopped = {record[0] for record in await connection.fetch(checkpoints.STOPPED, self.table)}
                work.facts = [fact for fact in work.facts if fact[0].position.offset >= found]
            await self._load_rows(connection, work)
            if careful:
                await self._write_each(connection, work)
            else:
                self._fold(work, work.facts)
                await self._write(connection, work, copy=self.model.insert_only)
            await checkpoints.stop(connection, self.table, work.stops)
            next_offset = max(found, piece.next_offset)
            await connection.execute(checkpoints.MOVE, self.table, shard, next_offset)
        self._written[shard] = self.reached[shard] = next_offset
        self._generation[shard] = generation
        self.stopped = work.stopped

    async def _load_rows(self, connection: Connection, work: _Work) -> None:
        if self.model.insert_only:
            return
        wanted: dict[Key, None] = {key: None for _, facts in work.facts if not isinstance(facts, Exception) for key, _ in facts}
        missing: list[Key] = []
        for key in wanted:
            known = self._cache.get(key, _ABSENT)
            if known is _ABSENT:
                missing.append(key)
            else:
                work.rows[key] = known
        if missing:
            keys = [list(column) for column in zip(*missing, strict=True)]
            columns = list(self.model.table.columns)
            places = [columns.index(column) for column in self.model.table.key]
            for record in await connection.fetch(self._sql.load, *keys):
                work.rows[tuple(record[place] for place in places)] = self.model.table.row_of(record)
        work.before = dict(work.rows)

    def _fold(self, work: _Work, pieces: Sequence[tuple[Item, Facts]]) -> None:
        """Folds item by item; one that cannot be folded stops its workspace, and changes nothing."""
        fold, rows, stopped = self.model.fold, work.rows, work.stopped
        for item, facts in pieces:
            if stopped and workspace_of(item) in stopped:
                continue
            try:
                if isinstance(facts, Exception):
                    raise facts
                if len(facts) == 1:
                    key, fact = facts[0]
                    rows[key] = fold(rows.get(key), fact)
                else:
                    rows.update([(key, fold(rows.get(key), fact)) for key, fact in facts])
            except Exception as error:
                work.stops.append(Stop.at(item, error))
                stopped.add(workspace_of(item))

    async def _write(self, connection: Connection, work: _Work, *, copy: bool = False) -> None:
        """The rows that are not what they were before."""
        spill, side_table, before = self.model.spill, self.model.side, work.before
        changed, gone, side = list[Any](), list[Key](), dict[Key, Any]()
        for key, row in work.rows.items():
            if row is before.get(key):
                continue
            if row is None:
                gone.append(key)
                continue
            if spill is not None and side_table is not None:
                row, grown_out = spill(row)
                work.rows[key] = row
                side.update((tuple(getattr(one, column) for column in side_table.key), one) for one in grown_out)
            changed.append(row)
        if changed and copy:
            records = self._sql.records_of(changed)
            await connection.copy_records_to_table(self.table, records=records, columns=list(self.model.table.columns))
        elif changed:
            await connection.execute(self._sql.upsert, *self._sql.sent(changed))
        if gone:
            await connection.execute(self._sql.delete, *[list(column) for column in zip(*gone, strict=True)])
        if side and self._side_sql is not None:
            await connection.execute(self._side_sql.upsert, *self._side_sql.sent(list(side.values())))

    async def _write_each(self, connection: Connection, work: _Work) -> None:
        """Item by item, to find the one that the database refuses."""
        for piece in work.facts:
            rows, before, stopped = dict(work.rows), work.before, set(work.stopped)
            try:
                async with connection.transaction():
                    self._fold(work, [piece])
                    await self._write(connection, work)
                work.before = dict(work.rows)
            except Exception as error:
                if not _from_data(error):
                    raise
                work.rows, work.before, work.stopped = rows, before, stopped
                work.stops.append(Stop.at(piece[0], error))
                work.stopped.add(workspace_of(piece[0]))

    def _remember(self, work: _Work) -> None:
        """What was committed, and the alarms; nothing that fails here may fold it again."""
        for one in work.stops:
            log.error(
                "read_model.stopped", model=self.model.name, workspace=workspace_of(one.item), record=name_of(one.item),
                problem=one.problem,
            )
        if self.model.insert_only:
            return
        for key, row in work.rows.items():
            self._cache.pop(key, None)
            if row is not None:
                self._cache[key] = row
        for key in list(self._cache)[: max(0, len(self._cache) - ROWS_CACHED_MAX)]:
            del self._cache[key]

    async def _make(self, connection: Connection) -> None:
        await self.drop(connection)
        await connection.execute(self._sql.create)
        if self._side_sql is not None:
            await connection.execute(self._side_sql.create)

    async def drop(self, connection: Connection) -> None:
        """Takes the tables and all that is known of them away."""
        await connection.execute(self._sql.drop)
        if self._side_sql is not None:
            await connection.execute(self._side_sql.drop)
        await connection.execute(checkpoints.DROP, self.table)
        await connection.execute(checkpoints.GO_ON, self.table)


def _from_data(error: Exception) -> bool:
    """Whether the error comes from what was to be written, not from the state of the database: trying again would not help."""
    return isinstance(error, (ValueError, TypeError)) or str(getattr(error, "sqlstate", None) or "")[:2] in _DATA_ERRORS

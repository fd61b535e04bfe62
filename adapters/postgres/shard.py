"""The writer of one shard: takes what waits, writes it in one statement, answers; opens the shard again after a failure.

Opening = fence (an update that waits for whatever commit is still under way, ours included) and then, since nothing can be
written behind it, an answer from the log itself to every caller whose commit's outcome was not known.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from adapters.following import Bell, Entry, Tail
from adapters.ordering import CommandKey, Doubt, Known, Plan, StreamKey, Waiting, answer, committed, dropped, plan
from adapters.postgres import statements as sql
from adapters.postgres.pool import CONNECTION_ERRORS, Database, pause_seconds
from adapters.postgres.records import command_columns, event_columns, parse_attributes, to_recorded
from core.envelope import Head
from core.errors import CommandReused, OutcomeUnknown, Unavailable
from core.events import Recorded
from core.ids import WorkspaceId
from core.ports import Clock, Committed

log = structlog.get_logger()

GROUP_COMMITS_MAX = 256
GROUP_BYTES_MAX = 4 * 1024 * 1024
WAITING_MAX = 10_000
STREAMS_CACHED_MAX = 100_000
COMMIT_SECONDS = 5.0
OUTCOME_SECONDS = 10.0
TIDY = timedelta(days=8)

FAILURES = (*CONNECTION_ERRORS, asyncpg.PostgresError, asyncpg.InterfaceError, Unavailable)


class Fenced(Exception):
    """Another server has the shard."""


class ShardWriter:
    """Implements the order of one shard. `run` is its task; everything else may be called from the same loop."""

    def __init__(
        self, shard: int, *, database: Database, clock: Clock, installation: str, log_id: str, tail: Tail[Recorded], bell: Bell,
        changed: Callable[[int, int | None], None],
    ) -> None:
        self._shard, self._database, self._clock, self._installation, self._log_id = shard, database, clock, installation, log_id
        self._tail, self._bell, self._changed = tail, bell, changed
        self._queue: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._doubt = Doubt()
        self._connection: asyncpg.Connection[Any] | None = None
        self.epoch: int | None = None
        """Under which we own the shard; None before it is open and after it is lost."""
        self._opened = 0
        self._open = False
        self._closing = False
        self._head = 0
        self._versions: OrderedDict[StreamKey, int] = OrderedDict()
        self._heads: dict[WorkspaceId, Head] = {}
        self._unknown: list[Waiting] = []
        """Appends whose commit failed in a way that leaves its outcome open."""

    def append(self, waiting: Waiting) -> None:
        """Gives the append its place, or refuses it at once."""
        if self._closing or (self.epoch is None and self._opened):
            waiting.fail(Unavailable("Another server writes this part of the log now." if not self._closing else "The log is closing."))
        elif not self._open:
            waiting.fail(Unavailable("The log is being opened again; try again.", retry_after_seconds=0.2))
        elif len(self._queue) >= WAITING_MAX:
            waiting.fail(Unavailable(f"Over {WAITING_MAX} changes wait to be written; try again."))
        elif waiting.commit.workspace in self._doubt:
            waiting.fail(dropped())
        else:
            waiting.since = time.monotonic()
            self._doubt.watch(waiting)
            self._queue.append(waiting)
            self._wake.set()

    def taken(self, epoch: int) -> None:
        """A server has taken the shard under this epoch; ours is over when it is higher."""
        if self.epoch is not None and epoch > self.epoch:
            self._lose()

    async def run(self, opened: asyncio.Event) -> None:
        """Serves until cancelled, `close`d or fenced."""
        failures = 0
        try:
            while not self._closing:
                try:
                    await self._open_shard()
                    opened.set()
                    failures = 0
                    await self._serve()
                except Fenced:
                    await self._resolve_after_loss()
                    return
                except FAILURES as error:
                    log.warning("log.shard_failed", shard=self._shard, error=f"{type(error).__name__}: {error}", waiting=len(self._queue))
                    self._suspend()
                    self._disconnect()
                    self._give_up_on_old()
                    await asyncio.sleep(pause_seconds(failures))
                    failures += 1
        finally:
            self._suspend()
            self._fail(self._unknown, OutcomeUnknown)
            self._disconnect()

    async def drain(self) -> None:
        """Takes no more appends and returns once those that wait are answered."""
        self._closing = True
        while self._queue or self._unknown:
            last = (self._queue or self._unknown)[-1]
            await asyncio.wait({last.future})
        self._wake.set()

    # -- opening -------------------------------------------------------------------------------------------------------
    async def _open_shard(self) -> None:
        connection = self._connection = await self._database.connect()
        first = self.epoch is None
        row = await (connection.fetchrow(sql.TAKE, self._shard) if first else connection.fetchrow(sql.OPEN_AGAIN, self._shard, self.epoch))
        if row is None:
            raise Fenced
        await self._answer_unknown(connection)
        self._opened, self._head = row["opened"], row["head"]
        self._versions.clear()
        self._heads.clear()
        await connection.execute(sql.FORGET_COMMANDS, self._clock.now() - TIDY)
        self._tail.advance(self._head)
        self.epoch = row["epoch"]
        self._open = True
        self._bell.ring()
        if first:
            self._changed(self._shard, self.epoch)
        log.info("log.shard_open", shard=self._shard, epoch=self.epoch, head=self._head)

    async def _answer_unknown(self, connection: Any) -> None:
        """Behind the fence the log says for certain what became of each."""
        if not self._unknown:
            return
        known = await self._commands(connection, self._unknown)
        unknown, self._unknown = self._unknown, []
        lost = [one for one in unknown if one.key not in known]
        self._fail(lost, lambda: Unavailable("The database failed before the change was recorded; try again.", retry_after_seconds=0.2))
        told: set[CommandKey] = set()
        for one in unknown:
            if one.key not in known:
                continue
            request_hash, found = known[one.key]
            if request_hash != one.commit.request_hash:
                one.fail(CommandReused(one.commit.context.command))
            elif found.recorded[0].position.offset < self._head:  # recorded before this group was written
                one.answer(found)
            else:
                one.answer(committed(found.recorded, again=one.key in told))
                told.add(one.key)

    async def _resolve_after_loss(self) -> None:
        """Fenced by another server: what it found in the log stays; what we had not written is not there."""
        self._lose()
        if self._unknown and self._connection is not None:
            try:
                await self._answer_unknown(self._connection)
            except FAILURES:
                self._fail(self._unknown, OutcomeUnknown)

    def _lose(self) -> None:
        self._open = False
        if self.epoch is not None:
            self.epoch = None
            log.warning("log.shard_lost", shard=self._shard)
            self._changed(self._shard, None)
        self._suspend()
        self._wake.set()

    def _suspend(self) -> None:
        """Takes nothing more until the shard is open again; what waited is dropped."""
        self._open = False
        waiting, self._queue = list(self._queue), deque()
        self._fail(waiting, lambda: Unavailable("The database failed before the change was recorded; try again.", retry_after_seconds=0.2))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _give_up_on_old(self) -> None:
        late = [one for one in self._unknown if time.monotonic() - one.since > OUTCOME_SECONDS]
        self._unknown = [one for one in self._unknown if one not in late]
        self._fail(late, OutcomeUnknown)

    def _fail(self, waiting: Sequence[Waiting], error: Callable[[], Unavailable]) -> None:
        self._doubt.rise({one.commit.workspace for one in waiting})
        for one in waiting:
            one.fail(error())

    # -- serving -------------------------------------------------------------------------------------------------------
    async def _serve(self) -> None:
        while not self._closing or self._queue:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._commit(self._take())
            if self.epoch is None:
                raise Fenced

    def _take(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = 0
        while self._queue and len(group) < GROUP_COMMITS_MAX and size + self._queue[0].size <= GROUP_BYTES_MAX:
            group.append(self._queue.popleft())
            size += group[-1].size
        return group

    async def _commit(self, group: list[Waiting]) -> None:
        """Writes a group and answers it. Most groups need one round trip; a surprise costs a look-up and another."""
        connection = self._connected
        self._unknown = group
        await self._learn(connection, group)
        planned = self._plan(group, {})
        if planned.refused:  # perhaps because it is in the log already
            planned = self._plan(group, await self._commands(connection, group))
        try:
            await self._write(connection, planned)
        except asyncpg.UniqueViolationError:
            self._versions.clear()
            await self._learn(connection, group, everything=True)
            planned = self._plan(group, await self._commands(connection, group))
            await self._write(connection, planned)
        self._unknown = []
        self._finish(planned)

    def _plan(self, group: list[Waiting], commands: dict[CommandKey, tuple[str, Committed]]) -> Plan:
        return plan(self._installation, group, Known(self._versions, self._heads, commands), self._head, self._clock.now())

    async def _write(self, connection: Any, planned: Plan) -> None:
        if not planned.accepted:
            return
        async with asyncio.timeout(COMMIT_SECONDS):
            head = await connection.fetchval(
                sql.COMMIT, self._shard, self._opened, self._head, planned.end - self._head,
                *event_columns(planned.accepted), *command_columns(planned.accepted), self._clock.now(),
            )
        if head is None:
            raise Fenced

    def _finish(self, planned: Plan) -> None:
        first, self._head = self._head, planned.end
        self._heads.update(planned.heads)
        for key, version in planned.versions.items():
            self._versions[key] = version
            self._versions.move_to_end(key)
        while len(self._versions) > STREAMS_CACHED_MAX:
            self._versions.popitem(last=False)
        self._doubt.rise(planned.broken)
        recorded = answer(planned, self._log_id, self._shard)
        if planned.broken:
            self._drop_queued(planned.broken)
        if self._tail.end == first:
            self._tail.extend([
                Entry(one.position.offset, accepted.last, one, len(record.value))
                for accepted in planned.accepted for record, one in zip(accepted.records, recorded[accepted.first], strict=True)
            ])
        else:  # we have lost the shard meanwhile, and followers hear of it from the new owner
            self._tail.advance(planned.end)
        self._bell.ring()

    def _drop_queued(self, broken: set[WorkspaceId]) -> None:
        queue, self._queue = self._queue, deque()
        for one in queue:
            if one.commit.workspace in broken:
                one.fail(dropped())
            else:
                self._queue.append(one)

    # -- looking up ----------------------------------------------------------------------------------------------------
    @property
    def _connected(self) -> Any:
        if self._connection is None:
            raise Unavailable("The shard is not open.")
        return self._connection

    async def _learn(self, connection: Any, group: list[Waiting], *, everything: bool = False) -> None:
        """Versions and chain ends that the group needs and that are not remembered.

        A stream that is expected not to exist is believed so: a unique index catches the mistake, for the price of a retry.
        """
        streams = {
            (one.commit.workspace, write.stream) for one in group for write in one.commit.writes
            if (everything or write.expected_version > 0) and (one.commit.workspace, write.stream) not in self._versions
        }
        if streams:
            keys = sorted(streams)
            for row in await connection.fetch(sql.VERSIONS, [key[0] for key in keys], [key[1] for key in keys]):
                self._versions[row["workspace"], row["stream"]] = row["version"] or 0
        workspaces = {one.commit.workspace for one in group} - self._heads.keys()
        if workspaces:
            for row in await connection.fetch(sql.HEADS, sorted(workspaces)):
                attributes = parse_attributes(row["attributes"])
                self._heads[row["workspace"]] = Head(row["sequence"], attributes["chain"], attributes["time"])

    async def _commands(self, connection: Any, group: Sequence[Waiting]) -> dict[CommandKey, tuple[str, Committed]]:
        """Those of the group's command ids that the log has, with what they recorded."""
        keys = [one.key for one in group]
        found: dict[CommandKey, tuple[str, Committed]] = {}
        for row in await connection.fetch(sql.COMMANDS, [key[0] for key in keys], [key[1] for key in keys]):
            rows = await connection.fetch(sql.READ_RANGE, row["shard"], row["first"], row["last"] + 1, row["last"] + 1 - row["first"])
            recorded = [to_recorded(self._log_id, one) for one in rows]
            found[row["workspace"], row["command"]] = row["request_hash"], committed(recorded, again=True)
        return found

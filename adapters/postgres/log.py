"""The event log on Postgres.

`async with PostgresLog(database, clock) as log:` takes every shard over, fencing the server that had them. Local followers are
woken right after a commit, from memory; other processes by LISTEN/NOTIFY. While the database is away, appends are refused with
Unavailable and followers wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType

import structlog

from adapters.following import ENTRIES_MAX, Bell, Tail, follow
from adapters.ordering import Waiting, admit, check_age, committed
from adapters.postgres import statements as sql
from adapters.postgres.background import Background
from adapters.postgres.installation import ensure_log, installation_id
from adapters.postgres.pool import Database, pause_seconds
from adapters.postgres.records import read_range, to_recorded
from adapters.postgres.shard import ShardWriter
from core.errors import CommandReused, Refusal, Unavailable
from core.events import Recorded
from core.ids import CommandId, Stream, WorkspaceId, shard_of
from core.ports import Batch, Clock, Commit, Committed, Gained, Lost

log = structlog.get_logger()

DRAIN_SECONDS = 5.0
OPEN_SECONDS = 30.0


class PostgresLog:
    """Implements core.ports.EventLog and core.ports.Shards. `shards` counts when the log is made, and never after.

    `tail_max` is how many of the newest events of a shard are kept in memory for followers.
    """

    def __init__(self, database: Database, clock: Clock, *, shards: int = 1, tail_max: int = ENTRIES_MAX) -> None:
        self._database, self._clock, self._wanted_shards, self._tail_max = database, clock, shards, tail_max
        self._id = self._installation = ""
        self._tails: dict[int, Tail[Recorded]] = {}
        self._writers: dict[int, ShardWriter] = {}
        self._bell = Bell()
        self._ownership = Bell()
        self._background = Background()

    @property
    def id(self) -> str:
        return self._id

    @property
    def shards(self) -> int:
        return len(self._tails)

    async def __aenter__(self) -> PostgresLog:
        self._installation = await installation_id(self._database, self._clock)
        row = await ensure_log(self._database, self._clock, sql.LOG, "pg", self._wanted_shards)
        self._id = row.id
        self._tails = {one["shard"]: Tail(one["head"], entries_max=self._tail_max) for one in await self._database.fetch(sql.ENDS, sql.LOG)}
        await self._database.listen({sql.CHANNEL_HEAD: self._on_head, sql.CHANNEL_TAKEN: self._on_taken}, self._on_reconnected)
        await self._background.open()
        opened = [self._start(shard) for shard in self._tails]
        async with asyncio.timeout(OPEN_SECONDS):
            for event in opened:
                await event.wait()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(*(writer.drain() for writer in self._writers.values()))
        except TimeoutError:
            log.warning("log.not_drained", seconds=DRAIN_SECONDS)
        await self._background.close(kind, error, trace)

    def append(self, commit: Commit) -> asyncio.Future[Committed]:
        waiting = Waiting(commit, (), asyncio.get_running_loop().create_future())
        try:
            waiting.values = admit(self._installation, commit, self._clock.now())
        except Refusal as error:
            waiting.fail(error)
        else:
            self._writers[shard_of(commit.workspace, len(self._tails))].append(waiting)
        return waiting.future

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int = 0) -> Sequence[Recorded]:
        rows = await self._database.fetch(sql.READ_STREAM, workspace, stream, after)
        return [to_recorded(self._id, row) for row in rows]

    async def find(self, workspace: WorkspaceId, command: CommandId, request_hash: str) -> Committed | None:
        check_age(command, self._clock.now())
        row = await self._database.fetchrow(sql.COMMANDS, [workspace], [command])
        if row is None:
            return None
        if row["request_hash"] != request_hash:
            raise CommandReused(command)
        first, end = row["first"], row["last"] + 1
        rows = await self._database.fetch(sql.READ_RANGE, row["shard"], first, end, end - first)
        return committed([to_recorded(self._id, one) for one in rows], again=True)

    async def ends(self) -> Mapping[int, int]:
        known = self._known_ends()
        if known is not None:
            return known
        return {row["shard"]: row["head"] for row in await self._database.fetch(sql.ENDS, sql.LOG)}

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[Batch]:
        return self._batches(dict(start), batch_max, follow, self._known_ends())

    async def changes(self) -> AsyncGenerator[Gained | Lost, None]:
        """core.ports.Shards: what is held now, then each change."""
        woken = self._ownership.join()
        told: dict[int, int | None] = dict.fromkeys(self._writers)
        try:
            while True:
                woken.clear()
                for shard, before in list(told.items()):
                    now = self._writers[shard].epoch
                    if now == before:
                        continue
                    told[shard] = now
                    if before is not None:
                        yield Lost(shard)
                    if now is not None:
                        yield Gained(shard, now)
                await woken.wait()
        finally:
            self._ownership.leave(woken)

    def epoch(self, shard: int) -> int | None:
        return self._writers[shard].epoch if shard in self._writers else None

    def _start(self, shard: int) -> asyncio.Event:
        opened = asyncio.Event()
        writer = self._writers[shard] = ShardWriter(
            shard, database=self._database, clock=self._clock, installation=self._installation, log_id=self._id,
            tail=self._tails[shard], bell=self._bell, changed=lambda _shard, _epoch: self._ownership.ring(),
        )
        self._background.start(writer.run(opened))
        return opened

    def _known_ends(self) -> dict[int, int] | None:
        """What is durable, when every shard is ours and so nobody else can add to it."""
        if any(writer.epoch is None for writer in self._writers.values()):
            return None
        return {shard: tail.end for shard, tail in self._tails.items()}

    async def _batches(
        self, start: dict[int, int], batch_max: int, following: bool, until: dict[int, int] | None,
    ) -> AsyncGenerator[Batch, None]:
        if until is None:
            until = dict(await self.ends())
            for shard, end in until.items():
                self._tails[shard].advance(end)

        async def read(shard: int, offset: int, end: int, batch_max: int) -> tuple[Sequence[Recorded], int]:
            return await self._read_range(shard, offset, end, batch_max, patient=following)

        batches = follow(self._tails, self._bell, read, start, batch_max, None if following else until)
        try:
            async for shard, items, next_offset in batches:
                yield Batch(shard, tuple(items), next_offset)
        finally:
            await batches.aclose()

    async def _read_range(self, shard: int, offset: int, end: int, batch_max: int, *, patient: bool) -> tuple[Sequence[Recorded], int]:
        """What is durable there; a follower waits while the database is away."""
        failures = 0
        while True:
            try:
                async with self._database.acquire() as connection:
                    return await read_range(connection, self._id, shard, offset, end, batch_max)
            except Unavailable:
                if not patient:
                    raise
                await asyncio.sleep(pause_seconds(failures))
                failures += 1

    def _on_head(self, payload: str) -> None:
        shard, head = (int(part) for part in payload.split(":"))
        if shard in self._writers and self._writers[shard].epoch is None:
            self._tails[shard].advance(head)
            self._bell.ring()

    def _on_taken(self, payload: str) -> None:
        shard, epoch = (int(part) for part in payload.split(":"))
        if shard in self._writers:
            self._writers[shard].taken(epoch)

    def _on_reconnected(self) -> None:
        """Notifications may have been missed: of a take-over our next commit tells; followers of others' shards look now."""
        if self._known_ends() is None:
            self._background.start(self._look_at_ends())

    async def _look_at_ends(self) -> None:
        try:
            for shard, end in (await self.ends()).items():
                if self._writers[shard].epoch is None:
                    self._tails[shard].advance(end)
        except Unavailable:
            log.warning("log.ends_unknown")
        self._bell.ring()

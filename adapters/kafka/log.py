"""The event log on Apache Kafka: implements core.ports.EventLog and core.ports.Shards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from adapters.following import Bell
from adapters.kafka.connection import Connection
from adapters.kafka.errors import unavailable
from adapters.kafka.feed import Feed
from adapters.kafka.follower import Follower
from adapters.kafka.index import Index
from adapters.kafka.knowledge import Knowledge
from adapters.kafka.lease import RENEW_SECONDS, Lease, Leases
from adapters.kafka.owner import Owner, Surroundings
from adapters.kafka.reader import Places, Reader
from adapters.kafka.topics import Topic
from adapters.ordering import Waiting, admit, check_age
from adapters.postgres.pool import Database
from core.errors import Refusal, Unavailable
from core.events import Recorded
from core.ids import CommandId, Stream, WorkspaceId, shard_of
from core.ports import Batch, Clock, Commit, Committed, Gained, Lost

INDEX_SECONDS = 0.5
FORGET_SECONDS = 3600.0
CLOSE_SECONDS = 8.0
AWAY = (Unavailable, asyncpg.PostgresError, KafkaError, OSError, TimeoutError)

log = structlog.get_logger()


class KafkaLog:
    """The log of one installation, as one of n equal servers sees it: it writes the shards whose leases it holds.

    `topic` is what `setup.set_up` checked. `server` names this server for ever (a restarted one takes its shards back at once),
    `url` is where others forward to. Opening it takes every free shard and returns once those can be written.
    """

    def __init__(
        self, connection: Connection, database: Database, topic: Topic, clock: Clock, *, installation: str, server: str, url: str,
    ) -> None:
        self._connection, self._topic, self._clock, self._installation = connection, topic, clock, installation
        self._bell = Bell()
        self._index = Index(database)
        self._places = Places(connection, topic.name)
        self._leases = Leases(database, topic.name, topic.partitions, server=server, url=url)
        self._owners: dict[int, Owner] = {}
        self._gained: dict[int, int] = {}
        self._around = Surroundings(
            connection, topic, installation, clock, self._index, self._places, self._bell,
            lambda shard: shard in self._leases.held, self._read_leases,
        )
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chores: list[asyncio.Task[None]] = []
        self._closing = False

    async def __aenter__(self) -> KafkaLog:
        await self._group.__aenter__()
        try:
            self._own(await self._leases.take())
            await asyncio.gather(*(owner.opened.wait() for owner in self._owners.values()))
            log.info("kafka.log_opened", topic=self._topic.name, shards=self.shards, owned=len(self._owners))
            self._chores = [self._start(self._renew_leases()), self._start(self._write_indexes())]
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing = True
        with suppress(*AWAY):
            async with asyncio.timeout(CLOSE_SECONDS):
                owners = list(self._owners.values())
                await asyncio.gather(*(owner.drained() for owner in owners))
                await asyncio.gather(*(owner.write_index() for owner in owners))
        await self._end()

    @property
    def id(self) -> str:
        """The topic's own id: a topic made anew is another log."""
        return self._topic.id

    @property
    def shards(self) -> int:
        return self._topic.partitions

    def append(self, commit: Commit) -> asyncio.Future[Committed]:
        waiting = Waiting(commit, (), asyncio.get_running_loop().create_future())
        try:
            waiting.values = admit(self._installation, commit, self._clock.now())
            if self._closing:
                raise Unavailable("The server is stopping; try again.")
            self._owner(commit.workspace).append(waiting)
        except Refusal as error:
            waiting.fail(error)
        return waiting.future

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int = 0) -> Sequence[Recorded]:
        with unavailable():
            return await self._knowledge(workspace).read(workspace, stream, after)

    async def find(self, workspace: WorkspaceId, command: CommandId, request_hash: str) -> Committed | None:
        check_age(command, self._clock.now())
        with unavailable():
            return await self._knowledge(workspace).find(workspace, command, request_hash)

    async def ends(self) -> Mapping[int, int]:
        with unavailable():
            return await self._ends(range(self.shards))

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[Batch]:
        until = None if follow else {shard: feed.end for shard in start if (feed := self._feed(shard)) is not None}
        return self._batches(start, batch_max, until)

    async def changes(self) -> AsyncGenerator[Gained | Lost, None]:
        """core.ports.Shards: what is held now, then each change."""
        woken = self._bell.join()
        told: dict[int, int] = {}
        try:
            while True:
                woken.clear()
                for shard in [shard for shard, epoch in told.items() if self._gained.get(shard) != epoch]:
                    del told[shard]
                    yield Lost(shard)
                for shard, epoch in list(self._gained.items()):
                    if shard not in told:
                        told[shard] = epoch
                        yield Gained(shard, epoch)
                await woken.wait()
        finally:
            self._bell.leave(woken)

    def epoch(self, shard: int) -> int | None:
        return self._leases.epoch(shard) if shard in self._gained else None

    async def directory(self) -> Mapping[int, Lease]:
        """Which server writes each shard, and where it is reached: for forwarding. Raises: Postgres errors."""
        return await self._leases.directory()

    async def stable_lag(self) -> Mapping[int, int]:
        """Per own shard: records between what readers may see and the end of the partition. Over 0 for long: a transaction hangs."""
        with unavailable():
            return await self._places.stable_lag(sorted(self._gained))

    def _owner(self, workspace: WorkspaceId) -> Owner:
        owner = self._owners.get(shard_of(workspace, self.shards))
        if owner is None:
            raise Unavailable("Another server writes this part of the log; try again.")
        return owner

    def _knowledge(self, workspace: WorkspaceId) -> Knowledge:
        knowledge = self._owner(workspace).knowledge
        if knowledge is None:
            raise Unavailable("This part of the log is being opened; try again.")
        return knowledge

    def _feed(self, shard: int) -> Feed | None:
        owner = self._owners.get(shard)
        return owner.knowledge.feed if owner is not None and owner.knowledge is not None else None

    async def _ends(self, shards: Sequence[int]) -> Mapping[int, int]:
        near = {shard: feed.end for shard in shards if (feed := self._feed(shard)) is not None}
        far = [shard for shard in shards if shard not in near]
        return {**near, **(await self._places.ends(far) if far else {})}

    async def _batches(self, start: Mapping[int, int], batch_max: int, until: dict[int, int] | None) -> AsyncGenerator[Batch, None]:
        if until is not None and (missing := [shard for shard in start if shard not in until]):
            with unavailable():
                until.update(await self._ends(missing))

        def open_reader(offsets: Mapping[int, int]) -> Reader:
            return Reader(self._connection, self._topic.name, offsets)

        batches = Follower(self.id, self._feed, self._bell, open_reader, start, batch_max, until).batches()
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    def _own(self, taken: Mapping[int, int]) -> None:
        for shard, epoch in taken.items():
            owner = self._owners[shard] = Owner(shard, self._around)
            self._start(self._run(owner, epoch))

    async def _run(self, owner: Owner, epoch: int) -> None:
        """One shard from its lease to its loss."""
        telling = self._start(self._tell(owner, epoch))
        try:
            await owner.run()
        finally:
            telling.cancel()
            if self._owners.get(owner.shard) is owner:
                del self._owners[owner.shard]
                self._gained.pop(owner.shard, None)
            self._bell.ring()

    async def _tell(self, owner: Owner, epoch: int) -> None:
        await owner.opened.wait()
        if self._owners.get(owner.shard) is owner:
            self._gained[owner.shard] = epoch
            log.debug("kafka.shard_gained", shard=owner.shard, epoch=epoch)
            self._bell.ring()

    async def _read_leases(self) -> None:
        try:
            for shard in await self._leases.renew():
                log.warning("kafka.shard_lost", shard=shard)
                if shard in self._owners:
                    self._owners[shard].look_again()
        except AWAY as error:
            log.warning("kafka.leases_away", error=repr(error))

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._read_leases()
            with suppress(*AWAY):
                # a shard whose owner of before still ends is taken on the next round
                self._own({shard: epoch for shard, epoch in (await self._leases.take()).items() if shard not in self._owners})

    async def _write_indexes(self) -> None:
        forget_at = 0.0
        while True:
            await asyncio.sleep(INDEX_SECONDS)
            try:
                for owner in list(self._owners.values()):
                    await owner.write_index()
                now = asyncio.get_running_loop().time()
                if now >= forget_at:
                    forget_at = now + FORGET_SECONDS
                    await self._index.forget_commands(self._clock.now())
            except AWAY as error:
                log.warning("kafka.index_not_written", error=repr(error))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self) -> None:
        for owner in list(self._owners.values()):
            owner.end()
        for task in self._chores:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with suppress(*AWAY):
                await self._leases.release()
            await self._places.close()

"""What the owner of a shard knows of it: asks memory, then the tail, then the index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog
from aiokafka import ConsumerRecord

from adapters.kafka.codec import from_record
from adapters.kafka.feed import Feed
from adapters.kafka.index import Index, Place
from adapters.kafka.reader import Places
from adapters.kafka.tail import Done, ShardTail
from adapters.ordering import CommandKey, Known, Plan, StreamKey, Waiting
from core.envelope import Head, unseal
from core.errors import CommandReused, UnreadableEvent
from core.events import Recorded
from core.ids import CommandId, Position, Stream, WorkspaceId
from core.ports import Committed

REMEMBERED_MAX = 100_000

logger = structlog.get_logger()


class Knowledge:
    """Of one opened shard. Made anew with each opening, so that nothing of a failed group survives."""

    def __init__(self, log: str, shard: int, index: Index, places: Places, checkpoint: int) -> None:
        self._log, self._shard, self._index, self._places = log, shard, index, places
        self.tail = ShardTail(checkpoint)
        self.feed = Feed(checkpoint)
        self._versions: dict[StreamKey, int] = {}
        self._heads: dict[WorkspaceId, Head] = {}
        self._writing = asyncio.Lock()

    def add(self, request_hash: str, recorded: tuple[Recorded, ...]) -> None:
        """Takes a durable commit."""
        self.tail.add(request_hash, recorded)
        self.feed.add(recorded)

    def learn(self, group: Plan) -> None:
        """Takes over where a group that is durable now leaves its streams and chains."""
        if len(self._versions) > REMEMBERED_MAX:
            self._versions.clear()
            self._heads.clear()
        self._versions.update(group.versions)
        self._heads.update(group.heads)

    async def of(self, waiting: Sequence[Waiting]) -> Known:
        """All that deciding these appends needs. Raises: Postgres errors, KafkaError, RecordLost."""
        streams = {(one.commit.workspace, write.stream) for one in waiting for write in one.commit.writes}
        commands, _, _ = await asyncio.gather(
            self._commands({one.key for one in waiting}),
            self._know_versions(streams.difference(self._versions)),
            self._know_heads({one.commit.workspace for one in waiting}.difference(self._heads)),
        )
        return Known(self._versions, self._heads, commands)

    async def find(self, workspace: WorkspaceId, command: CommandId, request_hash: str) -> Committed | None:
        """What the log holds for a command id. Raises: CommandReused, Postgres errors, KafkaError."""
        key = (workspace, command)
        found = (await self._commands({key})).get(key)
        if found is None:
            return None
        if found[0] != request_hash:
            raise CommandReused(command)
        return found[1]

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int) -> Sequence[Recorded]:
        """The durable events of a stream over version `after`, in order. Raises: Postgres errors, KafkaError, RecordLost."""
        recent = self.tail.stream((workspace, stream))
        indexed: Sequence[tuple[int, int]] = ()
        if not recent or recent[0].version > after + 1:
            indexed = await self._index.offsets(workspace, stream, after)
        before = [offset for version, offset in indexed if not recent or version < recent[0].version]
        return (*await self._at(before), *(one for one in recent if one.version > after))

    async def write_index(self) -> bool:
        """Writes the oldest part of the tail to the index; whether there was anything. Raises: CheckpointMoved, Postgres errors."""
        async with self._writing:
            segment = self.tail.cut()
            if segment is None:
                return False
            await self._index.write(self._shard, self.tail.checkpoint, segment)
            self.tail.covered(segment)
            return True

    async def _know_versions(self, keys: Iterable[StreamKey]) -> None:
        unknown: list[StreamKey] = []
        for key in keys:
            version = self.tail.version(key)
            if version is None:
                unknown.append(key)
            else:
                self._versions[key] = version
        if unknown:
            found = await self._index.versions(unknown)
            for key in unknown:
                self._versions.setdefault(key, found.get(key, 0))

    async def _know_heads(self, workspaces: Iterable[WorkspaceId]) -> None:
        unknown: list[WorkspaceId] = []
        for workspace in workspaces:
            head = self.tail.head(workspace)
            if head is None:
                unknown.append(workspace)
            else:
                self._heads[workspace] = head
        if unknown:
            found = await self._index.heads(unknown)
            for workspace in unknown:
                self._heads.setdefault(workspace, found.get(workspace, Head()))

    async def _commands(self, keys: Iterable[CommandKey]) -> dict[CommandKey, tuple[str, Committed]]:
        found: dict[CommandKey, tuple[str, Committed]] = {}
        unknown: list[CommandKey] = []
        for key in keys:
            done = self.tail.command(key)
            if done is None:
                unknown.append(key)
            else:
                found[key] = _again(done)
        for key, place in (await self._index.commands(unknown)).items() if unknown else ():
            found[key] = _again(Done(place.request_hash, await self._records(place)))
        return found

    async def _records(self, place: Place) -> tuple[Recorded, ...]:
        return tuple(await self._at(range(place.first, place.first + place.records)))

    async def _at(self, offsets: Sequence[int]) -> Sequence[Recorded]:
        near = self.feed.at(offsets)
        far = await self._places.read(self._shard, [offset for offset in offsets if offset not in near])
        near.update((one.position.offset, one) for _, one in readable(self._log, far))
        return [near[offset] for offset in offsets]


def recorded_of(log: str, record: ConsumerRecord) -> tuple[str, Recorded]:
    """A consumed record with its request's hash. Raises: UnreadableEvent when it is none of ours."""
    sealed = from_record(record.headers, record.value)
    return sealed.attributes.get("requesthash", ""), unseal(sealed.attributes, sealed.value, Position(log, record.partition, record.offset))


def readable(log: str, records: Iterable[ConsumerRecord]) -> list[tuple[str, Recorded]]:
    """Consumed records, each with its request's hash. One that is none of ours is left out, with an alarm."""
    found: list[tuple[str, Recorded]] = []
    for record in records:
        try:
            found.append(recorded_of(log, record))
        except UnreadableEvent as error:
            logger.error("kafka.foreign_record", topic=record.topic, partition=record.partition, offset=record.offset, problem=str(error))
    return found


def _again(done: Done) -> tuple[str, Committed]:
    return done.request_hash, Committed(done.recorded[-1].position, done.recorded, again=True)

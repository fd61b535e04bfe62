"""The owner of one shard: fences, opens, commits in groups, and opens anew after any error.

Opening = fence, read the checkpoint of the index, read the log from there into the tail, serve. Any exception or deadline in a
commit means that its outcome is unknown: the producer is thrown away, the shard is opened anew, and whoever waits is then
answered from what the log holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from adapters.following import Bell
from adapters.kafka.connection import Connection
from adapters.kafka.errors import CheckpointMoved
from adapters.kafka.index import Index
from adapters.kafka.knowledge import Knowledge, readable
from adapters.kafka.producer import FencedProducer
from adapters.kafka.reader import Places, Reader
from adapters.kafka.tail import commits
from adapters.kafka.topics import Topic
from adapters.ordering import Accepted, Doubt, Plan, Waiting, as_recorded, committed, dropped, plan
from core.errors import OutcomeUnknown, Refusal, Unavailable
from core.ids import WorkspaceId
from core.ports import Clock

COMMIT_SECONDS = 5.0
OPEN_SECONDS = 20.0
ANSWER_SECONDS = 15.0
"""How long a caller waits for a shard to be opened anew before it hears that its outcome is unknown."""
BACK_OFF_SECONDS = (0.0, 0.1, 0.3, 1.0, 2.0)
GROUP_BYTES_MAX = 768 * 1024
ENVELOPE_BYTES = 1_200
QUEUE_MAX = 10_000
TAIL_EVENTS_MAX = 50_000
SEGMENT_EVENTS_MAX = 5_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the owners of all shards share."""

    connection: Connection
    topic: Topic
    installation: str
    clock: Clock
    index: Index
    places: Places
    bell: Bell
    still_held: Callable[[int], bool]
    """Whether the lease table named this server as the owner when it was last read."""
    read_leases: Callable[[], Awaitable[None]]
    """Reads the lease table now. Never raises: without Postgres what was known stays."""


class Owner:
    """Writes one shard while its lease is held. `run` is its task; `append` gives a commit its place.

    `uncertain` are the appends of the group that is being written, each with whether it repeats another of the group.
    """

    def __init__(self, shard: int, around: Surroundings) -> None:
        self.shard = shard
        self._around = around
        self._queue: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._doubt = Doubt()
        self._uncertain: list[tuple[Waiting, bool]] = []
        self._reopen = asyncio.Event()
        self._ended = False
        self.opened = asyncio.Event()
        self.knowledge: Knowledge | None = None
        """Of the opened shard; None while it is not served."""

    def append(self, waiting: Waiting) -> None:
        """Takes the commit's place in the shard's order, or refuses it."""
        knowledge = self.knowledge
        if waiting.commit.workspace in self._doubt:
            waiting.fail(dropped())
        elif knowledge is None:
            waiting.fail(Unavailable("This part of the log is being opened; try again."))
        elif knowledge.tail.events >= TAIL_EVENTS_MAX:
            waiting.fail(Unavailable("The log's index is too far behind (is Postgres there?); try again.", 2.0))
        elif len(self._queue) >= QUEUE_MAX:
            waiting.fail(Unavailable("Too many changes wait to be recorded; try again."))
        else:
            self._doubt.watch(waiting)
            self._queue.append(waiting)
            self._arrived.set()

    async def run(self) -> None:
        """Serves until `end`, or until the lease is lost. Opens nothing that the lease table gives to another."""
        failures = 0
        try:
            while self._around.still_held(self.shard) and not self._ended:
                await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
                failures = 1 if await self._serve_once() else failures + 1
                if not self._ended:
                    await self._around.read_leases()
        finally:
            self.knowledge = None
            self.opened.set()
            self._drop_queue(Unavailable("Another server writes this part of the log now."))
            for waiting, _ in self._uncertain:
                waiting.fail(OutcomeUnknown())
            self._around.bell.ring()

    async def write_index(self) -> None:
        """Brings the index up to the log as it is now; opens the shard anew when somebody else wrote the index."""
        knowledge = self.knowledge
        try:
            while knowledge is not None and await knowledge.write_index():
                if knowledge.tail.events < SEGMENT_EVENTS_MAX:
                    break
        except CheckpointMoved as error:
            log.warning("kafka.index_moved", shard=self.shard, error=str(error))
            self.look_again()

    def look_again(self) -> None:
        """Ends the service of the shard after the group in hand; it is opened anew when the lease is still held."""
        self._reopen.set()
        self._arrived.set()

    def end(self) -> None:
        """Ends `run` after the group in hand. A cancellation would not do: aiokafka swallows some while it closes."""
        self._ended = True
        self.look_again()

    async def drained(self) -> None:
        """Returns once everything that has its place is answered."""
        while self._queue or self._uncertain:
            await asyncio.wait({one.future for one in self._queue} | {one.future for one, _ in self._uncertain})
            await asyncio.sleep(0)

    async def _serve_once(self) -> bool:
        """One opening and its service until an error or `look_again`; False when it could not be opened."""
        name = f"foldline/{self._around.installation}/{self._around.topic.name}/{self.shard}"
        producer = FencedProducer(self._around.connection, self._around.topic.name, self.shard, name)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await producer.open()
                knowledge = await self._read_log()
                await self._answer_uncertain(knowledge)
        except Exception as error:
            log.warning("kafka.shard_not_opened", shard=self.shard, error=repr(error))
            await producer.throw_away()
            return False
        except BaseException:
            await producer.throw_away()
            raise
        if not self._ended:
            self._reopen.clear()
        self.knowledge = knowledge
        self.opened.set()
        self._around.bell.ring()
        log.debug("kafka.shard_opened", shard=self.shard, end=knowledge.tail.end)
        try:
            await self._commit_groups(producer, knowledge)
        except Exception as error:
            log.warning("kafka.commit_unknown", shard=self.shard, error=repr(error), waiting=len(self._uncertain))
        finally:
            self.knowledge = None
            self._drop_queue(Unavailable("The log did not answer in time and nothing of this was recorded; try again."))
            for waiting, _ in self._uncertain:
                asyncio.get_running_loop().call_later(ANSWER_SECONDS, waiting.fail, OutcomeUnknown())
            await producer.throw_away()
        return True

    async def _read_log(self) -> Knowledge:
        around, shard = self._around, self.shard
        checkpoint = await around.index.checkpoint(shard)
        end = await around.places.end(shard)
        knowledge = Knowledge(around.topic.id, shard, around.index, around.places, checkpoint)
        if end - checkpoint <= 1:
            return knowledge  # at most the marker of the last covered transaction
        async with Reader(around.connection, around.topic.name, {shard: checkpoint}) as reader:
            while (await reader.positions())[shard] < end:
                for fetched in await reader.fetch(1.0):
                    for request_hash, recorded in commits(readable(around.topic.id, fetched.records)):
                        knowledge.add(request_hash, recorded)
                if knowledge.tail.events > SEGMENT_EVENTS_MAX:
                    await knowledge.write_index()
        return knowledge

    async def _answer_uncertain(self, knowledge: Knowledge) -> None:
        """Tells those whose group failed what became of it: in the log, or surely not."""
        for waiting, again in self._uncertain:
            commit = waiting.commit
            try:
                found = await knowledge.find(commit.workspace, commit.context.command, commit.request_hash)
            except Refusal as error:
                waiting.fail(error)
                continue
            if found is None:
                waiting.fail(Unavailable("The log failed while this was written, and it was not recorded; try again."))
            else:
                waiting.answer(replace(found, again=again))
        self._uncertain.clear()

    async def _commit_groups(self, producer: FencedProducer, knowledge: Knowledge) -> None:
        while not self._reopen.is_set():
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue and not self._reopen.is_set():
                await self._commit_group(producer, knowledge, _next_group(self._queue))

    async def _commit_group(self, producer: FencedProducer, knowledge: Knowledge, waiting: Sequence[Waiting]) -> None:
        self._uncertain = [(one, False) for one in waiting]
        try:
            known = await knowledge.of(waiting)
        except Exception as error:
            self._uncertain = []
            workspaces = {one.commit.workspace for one in waiting}
            self._doubt.rise(workspaces)
            for one in waiting:
                one.fail(Unavailable("The log's index does not answer, and nothing was recorded; try again."))
            self._drop_queued(workspaces)
            log.warning("kafka.index_away", shard=self.shard, error=repr(error))
            return
        group = plan(self._around.installation, waiting, known, 0, self._around.clock.now())
        self._uncertain = [*((one.waiting, False) for one in group.accepted), *((one, True) for one, _ in group.twins)]
        self._refuse(group)
        if group.accepted:
            records = [record for accepted in group.accepted for record in accepted.records]
            async with asyncio.timeout(COMMIT_SECONDS):
                first = await producer.commit(records)
            self._deliver(knowledge, group, first)
        self._uncertain = []

    def _refuse(self, group: Plan) -> None:
        self._doubt.rise(group.broken)
        for one, error in group.refused:
            one.fail(error)
        for one, before in group.again:
            one.answer(before)
        self._drop_queued(group.broken)

    def _drop_queued(self, workspaces: set[WorkspaceId]) -> None:
        """What waits behind a refusal may depend on it."""
        for one in [one for one in self._queue if one.commit.workspace in workspaces]:
            self._queue.remove(one)
            one.fail(dropped())

    def _deliver(self, knowledge: Knowledge, group: Plan, first: int) -> None:
        knowledge.learn(group)
        placed: dict[int, Accepted] = {}
        for accepted in group.accepted:
            recorded = as_recorded(self._around.topic.id, self.shard, replace(accepted, first=accepted.first + first))
            knowledge.add(accepted.waiting.commit.request_hash, recorded)
            accepted.waiting.answer(committed(recorded))
            placed[accepted.first] = accepted
        self._around.bell.ring()
        for waiting, twin in group.twins:
            waiting.answer(replace(placed[twin.first].waiting.future.result(), again=True))

    def _drop_queue(self, error: Refusal) -> None:
        while self._queue:
            self._queue.popleft().fail(error)


def _next_group(queue: deque[Waiting]) -> list[Waiting]:
    """Takes from the front what fits into one transaction; at least one append."""
    group: list[Waiting] = []
    size = 0
    while queue:
        size += queue[0].size + ENVELOPE_BYTES * len(queue[0].values)
        if group and size > GROUP_BYTES_MAX:
            break
        group.append(queue.popleft())
    return group

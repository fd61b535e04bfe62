"""Two tasks that follow the log and the measurements, and hand what is new to whoever follows a workspace or a run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

import structlog

from core.errors import Refusal
from core.events import Recorded
from core.ids import WorkspaceId
from core.ports import EventLog, MeasurementBatch, Measurements

Item = TypeVar("Item")
RESTART_SECONDS = 0.5

log = structlog.get_logger("foldline.http")


class Follower(Generic[Item]):
    """A bounded queue of what is new. One that is read too slowly is cut: what does not fit is never kept."""

    def __init__(self, items_max: int) -> None:
        self._items: deque[Item] = deque()
        self._items_max = items_max
        self._news = asyncio.Event()
        self.cut = False
        self.ended = False

    def put(self, item: Item) -> None:
        if len(self._items) >= self._items_max:
            self.cut = True
            self._items.clear()
        elif not self.cut:
            self._items.append(item)
        self._news.set()

    def end(self) -> None:
        """The server stops: the follower comes back elsewhere."""
        self.ended = True
        self._news.set()

    async def take(self, wait_seconds: float) -> list[Item]:
        """All that is there, once something is; nothing after `wait_seconds`, when cut or ended."""
        if not self._items and not self.cut and not self.ended:
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._news.wait()
            except TimeoutError:
                pass
        self._news.clear()
        taken = list(self._items)
        self._items.clear()
        return taken


class Live:
    """Fan-out of the newest records. Nothing is remembered here: history comes from the log and from read models."""

    def __init__(self, events: EventLog, measurements: Measurements, followed_max: int) -> None:
        self._events, self._measurements, self._items_max = events, measurements, followed_max
        self._of_workspace: dict[WorkspaceId, set[Follower[Recorded]]] = {}
        self._of_run: dict[tuple[WorkspaceId, str], set[Follower[Recorded | MeasurementBatch]]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows as long as the block lasts; on leaving, every follower is ended."""
        async with asyncio.TaskGroup() as group:
            ready = [asyncio.Event(), asyncio.Event()]
            tasks = [group.create_task(self._follow_events(ready[0])), group.create_task(self._follow_measurements(ready[1]))]
            for event in ready:
                await event.wait()
            try:
                yield
            finally:
                self.end()
                for task in tasks:
                    task.cancel()

    def end(self) -> None:
        for followers in self._of_workspace.values():
            for follower in followers:
                follower.end()
        for others in self._of_run.values():
            for other in others:
                other.end()

    @contextmanager
    def follow_workspace(self, workspace: WorkspaceId) -> Iterator[Follower[Recorded]]:
        """All events of the workspace from now on."""
        follower: Follower[Recorded] = Follower(self._items_max)
        followers = self._of_workspace.setdefault(workspace, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers:
                self._of_workspace.pop(workspace, None)

    @contextmanager
    def follow_run(self, workspace: WorkspaceId, run: str) -> Iterator[Follower[Recorded | MeasurementBatch]]:
        """The run's own events and its log segments from now on."""
        follower: Follower[Recorded | MeasurementBatch] = Follower(self._items_max)
        followers = self._of_run.setdefault((workspace, run), set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers:
                self._of_run.pop((workspace, run), None)

    def heard(self, recorded: Recorded) -> None:
        for follower in self._of_workspace.get(recorded.workspace, ()):
            follower.put(recorded)
        kind, _, name = recorded.stream.partition("/")
        if kind == "run":
            for one in self._of_run.get((recorded.workspace, name), ()):
                one.put(recorded)

    def measured(self, batch: MeasurementBatch) -> None:
        if batch.kind == "log":
            for follower in self._of_run.get((batch.workspace, batch.run), ()):
                follower.put(batch)

    async def _follow_events(self, ready: asyncio.Event) -> None:
        start = dict(await self._events.ends())
        start = {shard: start.get(shard, 0) for shard in range(self._events.shards)}
        ready.set()
        while True:
            try:
                async for batch in self._events.subscribe(start):
                    for recorded in batch.recorded:
                        self.heard(recorded)
                    start[batch.shard] = batch.next_offset
            except (Refusal, OSError, ConnectionError) as error:
                log.warning("http.follow_again", log="events", error=str(error))
            await asyncio.sleep(RESTART_SECONDS)

    async def _follow_measurements(self, ready: asyncio.Event) -> None:
        start = dict(await self._measurements.ends())
        ready.set()
        while True:
            try:
                async for batch in self._measurements.subscribe(start):
                    for measured in batch.measured:
                        self.measured(measured.batch)
                    start[batch.shard] = batch.next_offset
            except (Refusal, OSError, ConnectionError) as error:
                log.warning("http.follow_again", log="measurements", error=str(error))
            await asyncio.sleep(RESTART_SECONDS)



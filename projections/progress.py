"""How far each read model of this server is: what makes everybody read their own writes, without polling."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from core.errors import Behind, OtherLog, Unavailable
from core.ids import Position, WorkspaceId

WAIT_SECONDS = 1.5
_WHOLE = -1
"""Stands beside the shards; it is reached once the model has held everything that was durable when it began."""


class Stopped(Unavailable):
    """The read model met an event of this workspace that it cannot fold, and stands still there."""

    code = "read_model_stopped"

    def __init__(self, model: str, workspace: str) -> None:
        super().__init__(
            f"The read model {model!r} met something in this workspace that it cannot read and stands still; an administrator can "
            "rebuild it once the server is updated. Nothing is lost: the log has everything.", retry_after_seconds=60,
        )
        self.model = model


@dataclass(slots=True)
class _Model:
    log: str
    reached: dict[int, int]
    waiting: dict[int, list[tuple[int, int, asyncio.Future[None]]]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)


class Progress:
    """Told by the runner, asked by every read. The next offset of each shard, per read model; only in memory."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._logs: set[str] = set()
        self._count = 0

    # -- asked by reads ------------------------------------------------------------------------------------------------
    async def wait(
        self, model: str, position: Position | None = None, timeout_seconds: float = WAIT_SECONDS,
        workspace: WorkspaceId | None = None,
    ) -> None:
        """Returns once the model is past the position, or at once without one; a position of the other topic is no matter.

        Raises: Behind after `timeout_seconds`, also while the model is filled for the first time; OtherLog; Stopped when the
        model stands still for `workspace`.
        """
        known = self._models.get(model)
        if known is None:
            raise Behind(f"The read model {model!r} is not there yet; try again in a moment.")
        if workspace is not None and workspace in known.stopped:
            raise Stopped(model, workspace)
        with self._futures(known, self._goals(known, position)) as futures:
            if not futures:
                return
            _, late = await asyncio.wait(futures, timeout=timeout_seconds)
            if late:
                raise Behind(f"The read model {model!r} has not reached what you ask for yet; try again in a moment.")
        if workspace is not None and workspace in known.stopped:  # it stopped on the way there
            raise Stopped(model, workspace)

    def stopped(self, model: str) -> frozenset[str]:
        """The workspaces for which the model stands still."""
        return frozenset(self._models[model].stopped) if model in self._models else frozenset()

    def reached(self, model: str) -> Mapping[int, int]:
        """The next offset of each shard."""
        known = self._models.get(model)
        return {} if known is None else {shard: offset for shard, offset in known.reached.items() if shard != _WHOLE}

    def models(self) -> tuple[str, ...]:
        return tuple(self._models)

    # -- told by the runner --------------------------------------------------------------------------------------------
    def know(self, logs: Iterable[str]) -> None:
        """The logs whose positions are ours."""
        self._logs.update(logs)

    def begin(self, model: str, log: str, reached: Mapping[int, int], stopped: Iterable[str], *, whole: bool = False) -> None:
        """Where the model is, and for which workspaces it stands still. Reads wait until it is whole."""
        known = self._models.setdefault(model, _Model(log, {}))
        known.log, known.reached, known.stopped = log, {**reached, _WHOLE: int(whole)}, set(stopped)
        for shard in list(known.waiting):
            self._wake(known, shard)

    def whole(self, model: str) -> None:
        """The model holds everything that was durable when it began."""
        self._models[model].reached[_WHOLE] = 1
        self._wake(self._models[model], _WHOLE)

    def advance(self, model: str, shard: int, next_offset: int) -> None:
        """The model holds everything of the shard before `next_offset`. Lower than before when the table was put back."""
        known = self._models[model]
        known.reached[shard] = next_offset
        self._wake(known, shard)

    def stop(self, model: str, workspace: str) -> None:
        self._models[model].stopped.add(workspace)

    def _goals(self, known: _Model, position: Position | None) -> dict[int, int]:
        goals = {} if known.reached[_WHOLE] else {_WHOLE: 1}
        if position is None:
            return goals
        if position.log not in self._logs:
            raise OtherLog
        if position.log == known.log and known.reached.get(position.shard, 0) <= position.offset:
            goals[position.shard] = position.offset + 1
        return goals

    @contextlib.contextmanager
    def _futures(self, known: _Model, goals: Mapping[int, int]) -> Iterator[set[asyncio.Future[None]]]:
        futures: set[asyncio.Future[None]] = set()
        for shard, offset in goals.items():
            self._count += 1
            future = asyncio.get_running_loop().create_future()
            heapq.heappush(known.waiting.setdefault(shard, []), (offset, self._count, future))
            futures.add(future)
        try:
            yield futures
        finally:
            for future in futures:
                future.cancel()
            for shard in goals:
                known.waiting[shard] = [entry for entry in known.waiting.get(shard, ()) if entry[2] not in futures]
                heapq.heapify(known.waiting[shard])

    def _wake(self, known: _Model, shard: int) -> None:
        waiting = known.waiting.get(shard, [])
        while waiting and waiting[0][0] <= known.reached.get(shard, 0):
            future = heapq.heappop(waiting)[2]
            if not future.done():
                future.set_result(None)

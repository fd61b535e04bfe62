"""Sends an actor's wishes: each once at a time, refused ones only when something new was heard, failed calls after a back-off."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from actors.role import Call, Hands, Send
from core.errors import Refusal, Unavailable
from core.execute import Executor
from core.ids import ActorId, CommandId, WorkspaceId, derived_command
from core.ports import Clock, Context

log = structlog.get_logger()

TASKS_MAX = 256
REMEMBERED_MAX = 10_000
QUIET_SECONDS = 5.0
"""For how long a wish that was granted is not sent again while its event has not been heard."""
BACKOFF_MAX_SECONDS = 60.0

Key = tuple[WorkspaceId, str]
Value = TypeVar("Value")


@dataclass(slots=True)
class _Failure:
    count: int
    until: float


class Outbox:
    """Everything that one actor has under way."""

    def __init__(
        self, role: str, executor: Executor, clock: Clock, epoch: Callable[[WorkspaceId], int | None], hands: Hands | None,
        tell: Callable[[WorkspaceId, Sequence[object]], None],
    ) -> None:
        self._role, self._executor, self._clock, self._epoch, self._hands, self._tell = role, executor, clock, epoch, hands, tell
        self._under_way: set[Key] = set()
        self._granted: OrderedDict[Key, float] = OrderedDict()
        self._failures: OrderedDict[Key, _Failure] = OrderedDict()
        self._heard: dict[WorkspaceId, int] = {}

    def heard(self, workspace: WorkspaceId) -> None:
        self._heard[workspace] = self._heard.get(workspace, 0) + 1

    def send(self, tasks: asyncio.TaskGroup, workspace: WorkspaceId, wish: Send | Call) -> None:
        """Starts it, unless it is under way, was just granted, or failed a moment ago. What finds no room waits for the next tick."""
        name = derived_command(self._role, wish.stream, wish.version, wish.ordinal) if isinstance(wish, Send) else wish.key
        key: Key = (workspace, name)
        now = self._clock.monotonic()
        failure = self._failures.get(key)
        if key in self._under_way or len(self._under_way) >= TASKS_MAX or (failure is not None and failure.until > now):
            return
        if now - self._granted.get(key, now - QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._under_way.add(key)
        if isinstance(wish, Send):
            tasks.create_task(self._execute(workspace, wish, key, self._heard.get(workspace, 0)))
        else:
            tasks.create_task(self._perform(workspace, wish, key))

    async def _execute(self, workspace: WorkspaceId, wish: Send, key: Key, heard: int) -> None:
        """`heard` is how much had been heard when the wish was made: a refusal after more was heard is worth another look."""
        actor, because = ActorId(f"actor/{self._role}"), wish.because
        context = Context(actor=actor, command=CommandId(key[1]), correlation=because.correlation, causation=because.event)
        name = type(wish.command).__name__
        try:
            done = await self._executor.execute(workspace, wish.command, context)
            _remember(self._granted, key, self._clock.monotonic())
            log.info("actor.sent", role=self._role, workspace=workspace, command=name, stream=wish.stream, events=len(done.recorded))
        except Unavailable as error:
            log.warning("actor.unavailable", role=self._role, workspace=workspace, command=name, stream=wish.stream, problem=str(error))
        except Refusal as error:
            log.info("actor.refused", role=self._role, workspace=workspace, command=name, stream=wish.stream, code=error.code)
        finally:
            self._under_way.discard(key)
        if key not in self._granted and self._heard.get(workspace, 0) != heard:
            self._tell(workspace, ())

    async def _perform(self, workspace: WorkspaceId, wish: Call, key: Key) -> None:
        epoch = self._epoch(workspace)
        try:
            if epoch is None or self._hands is None:
                return
            signals = await self._hands.perform(workspace, wish.action, epoch)
            self._failures.pop(key, None)
            self._tell(workspace, signals)
        except Exception as error:
            count = self._failures[key].count + 1 if key in self._failures else 1
            wait = min(BACKOFF_MAX_SECONDS, 2.0 ** (count - 1))
            _remember(self._failures, key, _Failure(count, self._clock.monotonic() + wait))
            log.error("actor.call_failed", role=self._role, workspace=workspace, call=wish.key, tries=count, error=repr(error))
        finally:
            self._under_way.discard(key)


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)

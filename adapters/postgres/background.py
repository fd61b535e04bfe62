"""Tasks that live as long as a block: a task group whose end cancels them, and which leaves the block's own error as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class Background:
    """`open` and `close` in the `__aenter__` and `__aexit__` of what owns the tasks, from the same task.

    When one of them fails, the block is cancelled and `close` raises an exception group with that failure.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        await self._group.__aenter__()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Once it is closed nothing is started any more: a connection that comes back may still tell its old listeners."""
        if self._closed:
            work.close()
            return
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:  # a task group would wrap the block's own error
            await self._group.__aexit__(None, None, None)

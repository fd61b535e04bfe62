"""Server-sent events: a stream that says where to resume, beats when there is nothing, and ends for whoever lost access."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from core.errors import Refusal, Unavailable

SEND_SECONDS = 30.0
RECHECK_SECONDS = 1.0
LAST_WORD_SECONDS = 3.0
"""How long a stream has, once its reader may not read it any more, to say so by itself."""


def event(name: str, data: Mapping[str, Any], identifier: str | int | None = None) -> bytes:
    """One event. `data` is one line of JSON, so nothing in it can end the event early."""
    head = "" if identifier is None else f"id: {identifier}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'), default=str)}\n\n".encode()


def comment(text: str) -> bytes:
    return f": {text}\n\n".encode()


class EventStream(Response):
    """Sends what the iterator gives until it ends, the reader leaves, or the reader takes nothing for `SEND_SECONDS`.

    `recheck` raises once the reader may not read it any more: then it ends too, within 5 s, whatever it waits for or is busy with.
    """

    media_type = "text/event-stream"

    def __init__(
        self, chunks: AsyncIterator[bytes], recheck: Callable[[], Awaitable[None]], headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers=dict(headers or {}))
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"
        self._chunks = chunks
        self._recheck = recheck

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            ends = {tasks.create_task(end) for end in (self._send_all(scope, send), _gone(receive), self._revoked())}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                task.cancel()

    async def _revoked(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._recheck()
            except Unavailable:
                continue
            except Refusal:
                await asyncio.sleep(LAST_WORD_SECONDS)
                return

    async def _send_all(self, scope: Scope, send: Send) -> None:
        try:
            await _patiently(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for chunk in self._chunks:
                    await _patiently(send, {"type": "http.response.body", "body": chunk, "more_body": True})
            await _patiently(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return


async def _patiently(send: Send, message: Message) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

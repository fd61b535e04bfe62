"""A run followed live: its log and its states over one SSE stream, resumed where it broke off."""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foldline.connection import Connection
from foldline.problems import ServerUnavailable

EVENT_BYTES_MAX = 4 << 20
PATIENCE_SECONDS = 300.0
"""How long a follower tries to come back after it lost the server."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Text of the log, not always whole lines."""

    text: str


@dataclass(frozen=True, slots=True)
class StatusChange:
    """The run is in another state; `why` says so in a sentence."""

    status: str
    why: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The stream broke off and is being taken up again."""

    reason: str


Happening = LogPiece | StatusChange | Interrupted


@dataclass(slots=True)
class _Place:
    """How far the log was read, so that nothing comes twice."""

    event_id: str = ""
    attempt: Any = None
    offset: int = 0
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def take(self, data: Mapping[str, Any]) -> str:
        """The part of a `log` event that is new."""
        raw = base64.b64decode(data["data64"])
        attempt = data.get("attempt", self.attempt)
        if attempt != self.attempt and self.attempt is not None:
            self.offset = 0
        self.attempt = attempt
        start = int(data.get("offset", self.offset))
        new = raw[max(0, self.offset - start) :]
        self.offset = max(self.offset, start + len(raw))
        return self.decoder.decode(new)


async def follow(
    connection: Connection,
    address: str,
    *,
    name: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    now: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Happening, None]:
    """What happens, from the beginning of the log `name` (the script's own unless told) until the run is final and its log complete.

    Raises: ServerUnavailable when the server stays away for `patience_seconds`; FoldlineError when it refuses.
    """
    import httpx2

    place, heard, reason = _Place(), now(), ""
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": place.event_id} if place.event_id else {})}
        cut = False
        try:
            async with connection.open("GET", address, params={"name": name}, headers=headers, patience_seconds=0.0) as response:
                async for event in httpx2.EventSource(response, EVENT_BYTES_MAX):
                    heard = now()
                    place.event_id = event.id or place.event_id
                    if event.event == "end":
                        return
                    cut = event.event == "cut"
                    happening = _read(event.event, event.data, place)
                    if happening is not None:
                        yield happening
            reason = "the server closed the stream"
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
        except ServerUnavailable as error:
            reason = error.detail
        if cut:  # we read too slowly for the server's queue: nothing is lost, the log goes on from here
            continue
        if now() - heard > patience_seconds:
            raise ServerUnavailable(
                f"The run's log cannot be followed any longer: {reason}. The run itself is not touched by this.", code="unreachable"
            )
        yield Interrupted(reason)
        await sleep(min(2.0, 0.2 + (now() - heard) / 10))


def _read(kind: str, text: str, place: _Place) -> Happening | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if kind == "log":
        new = place.take(data)
        return LogPiece(new) if new else None
    if kind == "status":
        return StatusChange(str(data.get("status", "")), str(data.get("why", "")))
    return None

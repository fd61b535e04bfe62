"""From a file that grows to batches that the server has acknowledged: nothing lost, nothing doubled, whenever the agent dies.

A source has one batch in flight. Its bytes in the file are written down before it is sent, its sequence and digest once it is
acknowledged; a restarted agent sends the same bytes under the same sequence, which the server counts once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

NO_DIGEST = "0" * 64

Send = Callable[[int, int, bytes], Awaitable[bytes | None]]
"""(sequence, offset, bytes of the file) → the body that was posted and acknowledged, None when the bytes held nothing for a batch."""

Cut = Callable[[bytes], int]
"""How many of these bytes make the next batch."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a source is: the last acknowledged batch, and the end of the one in flight."""

    sequence: int = 0
    offset: int = 0
    digest: str = NO_DIGEST
    until: int | None = None

    @classmethod
    def load(cls, path: Path) -> Place:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """By rename: the agent may die at any moment."""
        making = path.with_suffix(".new")
        making.write_text(json.dumps(asdict(self)))
        making.rename(path)


class Shipper:
    """Sends one file of a run as one source of batches, in a task of its own."""

    def __init__(
        self, source: str, file: int, state: Path, *, cut: Cut, send: Send, read_max: int, line_max: int = 0, pace_seconds: float = 0.1,
    ) -> None:
        """`read_max` bytes are looked at for a batch, up to `line_max` where those hold no end of a line."""
        self.source = source
        self.wake = asyncio.Event()
        self._file = file
        self._state = state
        self._cut, self._send = cut, send
        self._read_max, self._line_max = read_max, line_max
        self._pace_seconds = pace_seconds
        self._closing = asyncio.Event()
        self._place = Place.load(state)
        self.first_seen: float | None = None
        """When the first bytes were seen, and when they were acknowledged (the loop's clock)."""
        self.first_sent: float | None = None

    async def run(self) -> None:
        """Ships until `close`, the first bytes at once, then at most a batch per pace."""
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            shipped = await self._ship_one()
            if shipped:
                if self.first_sent is None:
                    self.first_sent = loop.time()
                if shipped < self._read_max // 2:
                    await self._rest(self._pace_seconds - (loop.time() - begin))
                continue
            if self._closing.is_set() and self._next()[0] == 0:
                return
            await self.wake.wait()
            self.wake.clear()

    def close(self) -> None:
        """Nothing more will be written: `run` returns once all is acknowledged."""
        self._closing.set()
        self.wake.set()

    def end(self) -> dict[str, object]:
        """The source's end as the server is told it."""
        return {"source": self.source, "last_sequence": self._place.sequence, "digest": self._place.digest}

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass

    def _next(self) -> tuple[int, bytes]:
        """How many bytes the next batch has, and they."""
        if self._place.until is not None:
            count = self._place.until - self._place.offset
            return count, os.pread(self._file, count, self._place.offset)
        data = os.pread(self._file, self._read_max, self._place.offset)
        count = self._cut(data) if data else 0
        if not count and len(data) == self._read_max < self._line_max:
            data = os.pread(self._file, self._line_max, self._place.offset)
            count = self._cut(data)
        return count, data[:count]

    async def _ship_one(self) -> int:
        """Sends one batch; how many bytes of the file it was."""
        count, data = self._next()
        if count == 0:
            return 0
        if self.first_seen is None:
            self.first_seen = asyncio.get_running_loop().time()
        if self._place.until is None:
            self._place = replace(self._place, until=self._place.offset + count)
            self._place.save(self._state)
        body = await self._send(self._place.sequence + 1, self._place.offset, data)
        place = replace(self._place, offset=self._place.offset + count, until=None)
        if body is not None:
            place = replace(place, sequence=place.sequence + 1, digest=chained(place.digest, body))
        self._place = place
        place.save(self._state)
        return count


def chained(digest: str, body: bytes) -> str:
    """As `foldline.wire.measurements.chain_digest`; that module would import pydantic."""
    return hashlib.sha256(f"{digest}{hashlib.sha256(body).hexdigest()}".encode()).hexdigest()

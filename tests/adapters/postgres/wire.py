"""A Unix socket between the log and Postgres that can lose an answer, as a broken connection does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

SOCKET = ".s.PGSQL.5432"


class Wire:
    """Passes bytes both ways. After `lose_answers` the answer to whatever is asked is thrown away and the connection breaks."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._losing = False
        self.lost = asyncio.Event()
        """Set when an answer has been lost."""

    def lose_answers(self) -> None:
        self._losing = True

    def mend(self) -> None:
        self._losing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        asked = asyncio.Event()
        await asyncio.gather(self._ask(reader, there_writer, asked), self._answer(there_reader, writer, asked))
        for one in (writer, there_writer):
            one.close()

    async def _ask(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65_536):
                if self._losing:
                    asked.set()
                sink.write(content)
                await sink.drain()
        sink.close()

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65_536):
                if self._losing and asked.is_set():
                    self.lost.set()
                    break
                sink.write(content)
                await sink.drain()
        sink.close()


@contextlib.asynccontextmanager
async def wired(dsn: str, folder: Path) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the Postgres of `dsn`, and the DSN that goes through it."""
    host = unquote(urlsplit(dsn).query.partition("host=")[2])
    wire = Wire(f"{host}/{SOCKET}")
    server = await asyncio.start_unix_server(wire.serve, str(folder / SOCKET))
    try:
        yield wire, dsn.partition("?")[0] + f"?host={quote(str(folder))}"
    finally:
        server.close()

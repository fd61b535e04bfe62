"""The agent's HTTP client: HTTP/1.1 over asyncio streams with kept-alive connections, and nothing more.

httpx2 with its parts costs the agent 240 ms of start and some 25 MB; this costs neither, and a held request needs no thread. TLS is
imported only for an https server. Every request of the agent may be sent twice, so a connection that died is simply replaced.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    import ssl

IDLE_MAX = 8
BODY_BYTES_MAX = 64 << 20
CHUNK = 1 << 18
CONNECT_SECONDS = 10.0
RETRIED = frozenset({408, 421, 425, 429})


class Unanswered(Exception):
    """The server did not answer; nobody knows whether it heard."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether asking again would bring the same."""
        return self.status < 500 and self.status not in RETRIED

    def json(self) -> dict[str, Any]:
        """The body; an empty object when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        """The problem's stable code, or ''."""
        return str(self.json().get("code", ""))

    @property
    def sentence(self) -> str:
        """What the server said, for people."""
        said = self.json()
        return str(said.get("detail") or said.get("title") or f"HTTP {self.status}")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, in seconds: doubled from `first` to `longest`."""

    first: float = 0.1
    longest: float = 5.0

    def pause(self, tries: int) -> float:
        return min(self.longest, self.first * 2.0 ** min(tries, 16))


class Server:
    """The control plane as the agent sees it: one origin, one bearer token."""

    def __init__(
        self, url: str, token: str, *, ca_file: str | None = None, backoff: Backoff | None = None, timeout_seconds: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self.url = url.rstrip("/")
        self.token = token
        self.backoff = backoff or Backoff()
        self._host, self._prefix = parts.hostname, parts.path.rstrip("/")
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._timeout = timeout_seconds
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._away = False
        self._back = asyncio.Event()

    async def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    async def request(
        self, method: str, path: str, *, data: Any = None, body: bytes = b"", file: int | None = None, size: int = 0,
        timeout_seconds: float | None = None, kind: str = "application/octet-stream",
    ) -> Answer:
        """One exchange. `data` goes as JSON; `file` is a descriptor of which `size` bytes are sent from its start.

        Raises: Unanswered.
        """
        if data is not None:
            body, kind = json.dumps(data, separators=(",", ":")).encode(), "application/json"
        length = size if file is not None else len(body)
        head = self._head(method, path, length, kind if length or method != "GET" else "")
        try:
            async with asyncio.timeout(timeout_seconds or self._timeout):
                async with self._exchange(head, body, file, size) as (status, headers, chunks):
                    got = bytearray()
                    async for chunk in chunks:
                        got += chunk
                        if len(got) > BODY_BYTES_MAX:
                            raise Unanswered("the answer is larger than this agent takes")
                return Answer(status, headers, bytes(got))
        except TimeoutError:
            raise Unanswered(f"no answer within {timeout_seconds or self._timeout:g} s") from None

    async def answered(self, method: str, path: str, **request: Any) -> Answer:
        """The first final answer: asks again for as long as there is none."""
        tries = 0
        while True:
            try:
                answer = await self.request(method, path, **request)
                if answer.final:
                    return answer
                pause = max(self.backoff.pause(tries), _retry_after(answer))
            except Unanswered:
                pause = self.backoff.pause(tries)
            tries += 1
            await self.pause(pause)

    async def pause(self, seconds: float) -> None:
        """Waits before asking again: so long, or until the server answers anything after it did not."""
        self._away = True
        try:
            async with asyncio.timeout(seconds):
                await self._back.wait()
        except TimeoutError:
            pass

    def _heard(self) -> None:
        if self._away:
            self._away = False
            self._back.set()
            self._back = asyncio.Event()

    async def download(self, path: str, target: int) -> Answer:
        """Writes the body of a 200 into the descriptor; of another answer it is in `body`. Raises: Unanswered."""
        head = self._head("GET", path, 0, "")
        async with self._exchange(head, b"", None, 0) as (status, headers, chunks):
            other = bytearray()
            async for chunk in chunks:
                if status == 200:
                    _write_all(target, chunk)
                else:
                    other += chunk
            return Answer(status, headers, bytes(other))

    def _head(self, method: str, path: str, length: int, kind: str) -> bytes:
        lines = [
            f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._authority}", f"Authorization: Bearer {self.token}",
            "Foldline-Protocol: 1", "User-Agent: foldline-agent", "Accept-Encoding: identity", f"Content-Length: {length}",
        ]
        if kind:
            lines.append(f"Content-Type: {kind}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @asynccontextmanager
    async def _exchange(
        self, head: bytes, body: bytes, file: int | None, size: int,
    ) -> AsyncIterator[tuple[int, dict[str, str], AsyncIterator[bytes]]]:
        try:
            reader, writer, status, headers = await self._sent(head, body, file, size)
        except (OSError, EOFError, ValueError, TimeoutError) as problem:
            raise Unanswered(f"{type(problem).__name__}: {problem}") from None
        keep = False
        if status < 500:
            self._heard()
        try:
            yield status, headers, _body(reader, status, headers)
            keep = headers.get("connection", "").lower() != "close"
        except (OSError, EOFError, ValueError) as problem:
            raise Unanswered(f"{type(problem).__name__}: {problem}") from None
        finally:
            if keep and len(self._idle) < IDLE_MAX:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _sent(
        self, head: bytes, body: bytes, file: int | None, size: int,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int, dict[str, str]]:
        """Sends on a kept connection, or, when that one is dead, on a new one."""
        while True:
            kept = bool(self._idle)
            reader, writer = self._idle.pop() if kept else await self._connect()
            try:
                writer.write(head + body if len(body) < CHUNK else head)
                if len(body) >= CHUNK:
                    writer.write(body)
                if file is not None:
                    await _send_file(writer, file, size)
                await writer.drain()
                status, headers = await _read_head(reader)
                return reader, writer, status, headers
            except (OSError, EOFError):
                writer.close()
                if not kept:
                    raise
            except BaseException:
                writer.close()
                raise

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=CHUNK)


def quoted(text: str) -> str:
    """Text as one component of a path or a value of a query."""
    return quote(text, safe="")


def _tls(ca_file: str | None) -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context(cafile=ca_file)


async def _send_file(writer: asyncio.StreamWriter, file: int, size: int) -> None:
    at = 0
    while at < size:
        chunk = os.pread(file, min(CHUNK, size - at), at)
        if not chunk:
            raise EOFError("the file became shorter while it was sent")
        at += len(chunk)
        writer.write(chunk)
        await writer.drain()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        first = await reader.readline()
        if not first:
            raise EOFError("the connection was closed")
        status = int(first.split(None, 2)[1])
        headers: dict[str, str] = {}
        while (line := (await reader.readline()).decode("latin-1")) not in ("\r\n", "\n"):
            if not line or len(headers) > 100:
                raise EOFError("the answer broke off")
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if status >= 200:
            return status, headers


async def _body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if status in (204, 304):
        return
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            async for chunk in _some(reader, size):
                yield chunk
            await reader.readexactly(2)
        while (await reader.readline()).strip():
            pass
        return
    async for chunk in _some(reader, int(headers.get("content-length", "0"))):
        yield chunk


async def _some(reader: asyncio.StreamReader, count: int) -> AsyncIterator[bytes]:
    while count > 0:
        chunk = await reader.read(min(count, CHUNK))
        if not chunk:
            raise EOFError("the answer broke off")
        count -= len(chunk)
        yield chunk


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _retry_after(answer: Answer) -> float:
    try:
        return min(60.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0

"""Folders as archives and files as downloads, streamed: nothing is held but one chunk."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapters.http.manifests import File
from core.ids import WorkspaceId
from core.ports import Blobs

ZIP64_FROM_BYTES = 1 << 31
STALL_SECONDS = 60.0
MADE = (1980, 1, 1, 0, 0, 0)
"""The same folder is the same archive: no clock in it."""


class _Sink:
    """What ZipFile writes into; it cannot seek, so sizes follow the content."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


async def archive(blobs: Blobs, workspace: WorkspaceId, files: Iterable[File]) -> AsyncIterator[bytes]:
    """The bytes of a zip with these files. Their paths were checked when the manifest was parsed."""
    sink = _Sink()
    made = zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True)  # type: ignore[call-overload]  # only `write` is used
    for file in files:
        info = zipfile.ZipInfo(file.path, MADE)
        info.external_attr = (0o100755 if file.executable else 0o100644) << 16
        info.create_system = 3
        with made.open(info, "w", force_zip64=file.bytes >= ZIP64_FROM_BYTES) as entry:
            async for chunk in blobs.open(workspace, file.sha256):
                entry.write(chunk)
                yield sink.take()
    await anyio.to_thread.run_sync(made.close)
    yield sink.take()


def disposition(name: str) -> str:
    """Content-Disposition per RFC 6266: always an attachment, whatever the name holds."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._- ") else "_" for char in name)[:200] or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name[:400], safe='')}"


class Streamed(Response):
    """A body of chunks to a reader who may be slow, but not for ever."""

    def __init__(self, chunks: AsyncIterator[bytes], *, media_type: str, name: str, size: int | None = None) -> None:
        super().__init__(media_type=media_type)
        self._chunks = chunks
        self.headers["Content-Disposition"] = disposition(name)
        self.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        del self.headers["content-length"]
        if size is not None:
            self.headers["Content-Length"] = str(size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.timeout(STALL_SECONDS):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async for chunk in self._chunks:
                if chunk:
                    async with asyncio.timeout(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

"""Blobs on a local disk, through fsspec's local file system.

`<root>/<workspace>/<first two digits>/<digest>`: a path is made of a checked workspace id and a checked digest, nothing else. A
blob appears under its name only when it is complete, right and on the disk.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from core.errors import EventTooLarge, Invalid, NotFound, Unavailable
from core.ids import WorkspaceId, is_name

FSSPEC_MIN = (2026, 7, 0)
DIGEST = re.compile(r"[0-9a-f]{64}")
INCOMING = ".incoming"
INCOMING_KEPT_SECONDS = 24 * 3600
CHUNK_BYTES = 256 * 1024
BUFFER_BYTES = 1024 * 1024


class BlobsRefused(Exception):
    """The store cannot be used; the message says why and what to do."""


def check_fsspec(version: str) -> None:
    """Raises: BlobsRefused when fsspec is too old."""
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if parts < FSSPEC_MIN:
        wanted = ".".join(map(str, FSSPEC_MIN))
        raise BlobsRefused(f"fsspec {version} is installed, and Foldline needs {wanted} or newer: run `pip install 'fsspec>={wanted}'`.")


class FileBlobs:
    """Implements core.ports.Blobs. Makes `root` (0700) and clears what uploads left unfinished a day ago."""

    def __init__(self, root: Path) -> None:
        check_fsspec(fsspec.__version__)
        self._root = root.absolute()
        self._files: Any = LocalFileSystem(auto_mkdir=False)
        for folder in (self._root, self._root / INCOMING):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear_incoming()

    async def missing(self, workspace: WorkspaceId, digests: Sequence[str]) -> Sequence[str]:
        """In the order asked, each once. Raises: Invalid for what is no digest."""
        wanted = {digest: self._path(workspace, digest) for digest in digests}
        return await asyncio.to_thread(lambda: [digest for digest, path in wanted.items() if not self._files.isfile(str(path))])

    async def put(self, workspace: WorkspaceId, digest: str, chunks: AsyncIterator[bytes], bytes_max: int) -> int:
        path = self._path(workspace, digest)
        half = self._root / INCOMING / secrets.token_hex(16)
        with _full_disk():
            file = await asyncio.to_thread(self._files.open, str(half), "wb")
            try:
                size, found = await _write(file, chunks, digest, bytes_max)
                if found != digest:
                    raise Invalid(f"The content's SHA-256 is {found}, not {digest}; send it again.", field="digest")
                await asyncio.to_thread(self._keep, file, half, path)
            finally:
                await asyncio.shield(asyncio.to_thread(_discard, file, half))
        return size

    async def put_bytes(self, workspace: WorkspaceId, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()

        async def once() -> AsyncGenerator[bytes, None]:
            yield content

        await self.put(workspace, digest, once(), len(content))
        return digest

    async def open(
        self, workspace: WorkspaceId, digest: str, start: int = 0, length: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of at most 256 KiB. Raises: NotFound, Invalid."""
        path = self._path(workspace, digest)
        try:
            file = await asyncio.to_thread(self._files.open, str(path), "rb")
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound("file", digest) from None
        try:
            await asyncio.to_thread(file.seek, start)
            left = length
            while left is None or left > 0:
                chunk: bytes = await asyncio.to_thread(file.read, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

    async def size(self, workspace: WorkspaceId, digest: str) -> int | None:
        path = self._path(workspace, digest)
        try:
            known = await asyncio.to_thread(self._files.info, str(path))
        except FileNotFoundError:
            return None
        return int(known["size"])

    async def read_bytes(self, workspace: WorkspaceId, digest: str, bytes_max: int = 64 * 1024 * 1024) -> bytes:
        """Raises: NotFound, Invalid, EventTooLarge over `bytes_max`."""
        size = await self.size(workspace, digest)
        if size is not None and size > bytes_max:
            raise EventTooLarge(digest, size, bytes_max)
        return b"".join([chunk async for chunk in self.open(workspace, digest)])

    def _path(self, workspace: WorkspaceId, digest: str) -> Path:
        if not is_name(workspace):
            raise Invalid("This is no workspace's id.", field="workspace")
        if not DIGEST.fullmatch(digest):
            raise Invalid("A digest is 64 lower-case hexadecimal digits (SHA-256).", field="digest")
        return self._root / workspace / digest[:2] / digest

    def _keep(self, file: Any, half: Path, path: Path) -> None:
        """Puts a complete file on the disk and in its place; one that is there already is the same."""
        file.flush()
        os.fsync(file.fileno())
        file.close()
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        half.replace(path)
        for folder in (path.parent, path.parent.parent, self._root):
            _sync_folder(folder)

    def _clear_incoming(self) -> None:
        for half in (self._root / INCOMING).iterdir():
            if half.stat().st_mtime < time.time() - INCOMING_KEPT_SECONDS:
                half.unlink(missing_ok=True)


async def _write(file: Any, chunks: AsyncIterator[bytes], digest: str, bytes_max: int) -> tuple[int, str]:
    """Writes the stream; returns its size and its digest. Raises: EventTooLarge as soon as it is."""
    seen, size = hashlib.sha256(), 0
    buffer = bytearray()

    def flush(content: bytes) -> None:
        seen.update(content)
        file.write(content)

    async for chunk in chunks:
        size += len(chunk)
        if size > bytes_max:
            raise EventTooLarge(digest, size, bytes_max)
        buffer += chunk
        if len(buffer) >= BUFFER_BYTES:
            await asyncio.to_thread(flush, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(flush, bytes(buffer))
    return size, seen.hexdigest()


def _discard(file: Any, half: Path) -> None:
    file.close()
    half.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("The disk of the artifact store is full; free some space and send it again.", 60.0) from error
        raise

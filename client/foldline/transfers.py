"""Files on their way: uploads by hash of what the server has not got, downloads checked by hash into one folder and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foldline.connection import Connection, path_of
from foldline.problems import BadInput, DamagedFile, UnsafePath
from foldline.snapshots import Folder, LocalFile

AT_ONCE_MAX = 4
PIECE_BYTES = 1 << 18
DIGESTS_PER_REQUEST_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a transfer is; handed to a progress callback after each piece."""

    files_total: int
    bytes_total: int
    files_done: int = 0
    bytes_done: int = 0
    path: str = ""


Progress = Callable[[Transfer], None]


class _Meter:
    """Adds up what the concurrent transfers did, and tells."""

    def __init__(self, files: int, size: int, progress: Progress | None) -> None:
        self._state = Transfer(files, size)
        self._progress = progress
        self._tell()

    def moved(self, path: str, size: int) -> None:
        self._state = replace(self._state, bytes_done=self._state.bytes_done + size, path=path)
        self._tell()

    def finished(self, path: str) -> None:
        self._state = replace(self._state, files_done=self._state.files_done + 1, path=path)
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._state)


async def store_folder(connection: Connection, workspace: str, folder: Folder, progress: Progress | None = None) -> str:
    """Uploads the files that the server has not got, then the manifest; returns the folder's digest. Raises: FoldlineError."""
    by_digest = {file.sha256: file for file in folder.files}
    missing = [by_digest[digest] for digest in await _missing(connection, workspace, list(by_digest)) if digest in by_digest]
    meter = _Meter(len(missing), sum(file.bytes for file in missing), progress)
    await _at_once(missing, lambda file: _put(connection, workspace, file, meter))
    files = [{"path": f.path, "sha256": f.sha256, "bytes": f.bytes, "executable": f.executable} for f in folder.files]
    stored = await connection.call("POST", path_of("workspaces", workspace, "snapshots"), body={"files": files})
    if stored["digest"] != folder.digest:
        raise DamagedFile(
            "The server computed another digest for the folder than this client; upgrade the older of the two.", code="digest_differs"
        )
    return str(stored["digest"])


async def _missing(connection: Connection, workspace: str, digests: Sequence[str]) -> list[str]:
    missing: list[str] = []
    for start in range(0, len(digests), DIGESTS_PER_REQUEST_MAX):
        body = {"digests": list(digests[start : start + DIGESTS_PER_REQUEST_MAX])}
        answer = await connection.call("POST", path_of("workspaces", workspace, "blobs", "missing"), body=body)
        missing += answer["missing"]
    return missing


async def _put(connection: Connection, workspace: str, file: LocalFile, meter: _Meter) -> None:
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.bytes)}
    told = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal told
        meter.moved(file.path, -told)
        sent = told = 0
        async for piece in _read(file.place):
            sent += len(piece)
            if sent > file.bytes:
                break
            yield piece
            told = sent
            meter.moved(file.path, len(piece))
        if sent != file.bytes:
            raise BadInput(f"{file.place} changed while it was sent; submit again.", code="file_changed")

    address = path_of("workspaces", workspace, "blobs", file.sha256)
    async with connection.open("PUT", address, content=pieces, headers=headers) as response:
        await response.aread()
    meter.finished(file.path)


async def _read(place: Path) -> AsyncIterator[bytes]:
    with place.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


async def send_file(connection: Connection, address: str, place: Path, params: dict[str, Any]) -> Any:
    """PUTs one file's bytes and returns the JSON answer."""
    size = (await asyncio.to_thread(place.stat)).st_size
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    async with connection.open("PUT", address, content=lambda: _read(place), params=params, headers=headers) as response:
        await response.aread()
        return response.json()


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that the server lists."""

    path: str
    bytes: int
    sha256: str


async def fetch_folder(
    connection: Connection,
    address: str,
    files: Iterable[RemoteFile],
    destination: Path,
    progress: Progress | None = None,
) -> list[Path]:
    """Downloads `files` (each at `address?path=`) below `destination`. All names are checked before anything is written.

    Raises: UnsafePath, DamagedFile, FoldlineError.
    """
    wanted = [(file, safe_target(destination, file.path)) for file in files]
    meter = _Meter(len(wanted), sum(file.bytes for file, _ in wanted), progress)
    await _at_once(wanted, lambda pair: _fetch(connection, address, pair[0], pair[1], destination, meter))
    return [target for _, target in wanted]


def safe_target(destination: Path, name: str) -> Path:
    """Where the server's `name` lies below `destination`. Raises: UnsafePath when that could be anywhere else."""
    parts = name.split("/")
    bad = (
        not name or "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts)
        or any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in name)
    )  # fmt: skip
    if bad:
        raise UnsafePath(f"The server named a file {name!r}, which is no path inside a folder; nothing was written.", code="unsafe_path")
    return destination.joinpath(*parts)


async def _fetch(connection: Connection, address: str, file: RemoteFile, target: Path, destination: Path, meter: _Meter) -> None:
    _make_parents(destination, target)
    part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    digest, size = hashlib.sha256(), 0
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as out:
            async with connection.open("GET", address, params={"path": file.path}) as response:
                async for piece in response.aiter_bytes(PIECE_BYTES):
                    size += len(piece)
                    if size > file.bytes:
                        break
                    digest.update(piece)
                    await asyncio.to_thread(out.write, piece)
                    meter.moved(file.path, len(piece))
        if size != file.bytes or digest.hexdigest() != file.sha256:
            raise DamagedFile(
                f"{file.path} arrived damaged (its SHA-256 is not the one announced); nothing was kept of it.", code="damaged_file"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    meter.finished(file.path)


def _make_parents(destination: Path, target: Path) -> None:
    """Makes the folders between, none of which may be a link."""
    destination.mkdir(parents=True, exist_ok=True)
    here = destination
    for part in target.relative_to(destination).parts[:-1]:
        here = here / part
        if here.is_symlink():
            raise UnsafePath(f"{here} is a link; downloads do not go through links.", code="unsafe_path")
        here.mkdir(exist_ok=True)


async def _at_once(items: Iterable[Any], work: Callable[[Any], Any]) -> None:
    """Runs `work` over the items, a few at a time; the first error ends all."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE_MAX):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

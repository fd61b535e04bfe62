"""Models and scoring code on disk: laid out from blobs by their manifest, each file checked by its hash, kept by digest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.errors import Refusal
from core.ids import WorkspaceId
from core.ports import Blobs

MANIFEST_BYTES_MAX = 64 * 1024 * 1024
SPARE_MAX = 6
"""Folders that no replica uses are kept up to this many: the next revision or a roll-back finds them."""


class ContentFailed(Exception):
    """The folder cannot be laid out; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    path: str
    sha256: str
    bytes: int
    executable: bool


class ContentCache:
    """Folders by (workspace, manifest digest), read-only for everybody but us."""

    def __init__(self, directory: Path, blobs: Blobs) -> None:
        self._directory, self._blobs = directory, blobs
        self._locks: dict[tuple[WorkspaceId, str], asyncio.Lock] = {}

    async def folder(self, workspace: WorkspaceId, digest: str) -> Path:
        """The folder with the manifest's files; laid out once. Raises: ContentFailed."""
        place = self._directory / workspace / digest
        async with self._locks.setdefault((workspace, digest), asyncio.Lock()):
            if place.exists():
                os.utime(place)
                return place
            new = place.with_name(f".{digest}.{secrets.token_hex(6)}")
            try:
                new.mkdir(parents=True)
                await self._lay_out(workspace, digest, new)
                new.rename(place)
            except Refusal as refusal:
                raise ContentFailed(str(refusal)) from refusal
            finally:
                await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        return place

    def forget_all_but(self, used: Collection[tuple[WorkspaceId, str]]) -> None:
        """Removes what no replica uses, except for the few used last."""
        spare = [
            place for place in self._directory.glob("*/*")
            if not place.name.startswith(".") and (place.parent.name, place.name) not in used
        ]
        spare.sort(key=lambda place: place.stat().st_mtime, reverse=True)
        for place in spare[SPARE_MAX:]:
            shutil.rmtree(place, ignore_errors=True)

    async def _lay_out(self, workspace: WorkspaceId, digest: str, folder: Path) -> None:
        manifest = await self._blobs.read_bytes(workspace, digest, MANIFEST_BYTES_MAX)
        if hashlib.sha256(manifest).hexdigest() != digest:
            raise ContentFailed(f"The manifest {digest[:12]} does not match its own hash.")
        for entry in entries(manifest):
            place = folder / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            await self._fetch(workspace, entry, place)
            place.chmod(0o555 if entry.executable else 0o444)

    async def _fetch(self, workspace: WorkspaceId, entry: Entry, place: Path) -> None:
        found = hashlib.sha256()
        size = 0
        with place.open("xb") as file:
            async for chunk in self._blobs.open(workspace, entry.sha256):
                size += len(chunk)
                found.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if found.hexdigest() != entry.sha256 or size != entry.bytes:
            raise ContentFailed(f"The file {entry.path!r} in the store does not match its hash; it is not used.")


def entries(manifest: bytes) -> list[Entry]:
    """The lines of `foldline.wire.files.Manifest.canonical()`. Raises: ContentFailed for one that would climb out of its folder."""
    found: list[Entry] = []
    for line in manifest.decode().split("\n"):
        if not line:
            continue
        with contextlib.suppress(ValueError):
            sha256, size, mode, path = line.split(" ", 3)
            parts = PurePosixPath(path).parts
            if parts and not path.startswith("/") and ".." not in parts and "\0" not in path:
                found.append(Entry(path, sha256, int(size), mode == "x"))
                continue
        raise ContentFailed("The manifest has a line that names no file inside its folder.")
    return found

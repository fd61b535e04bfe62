"""The code of a run: a manifest and its files, fetched once per node by hash, checked, and laid out for the script."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foldline.node.http import Answer, Server, Unanswered, quoted

FILES_MAX = 100_000
FETCHES_MAX = 4
CACHE_BYTES_MAX = 10 << 30
COMPONENT_BYTES_MAX = 255


class SnapshotFailed(Exception):
    """`str()` is a sentence for the person who submitted the job."""


@dataclass(frozen=True, slots=True)
class Entry:
    path: str
    sha256: str
    size: int
    executable: bool


class SnapshotCache:
    """Manifests and blobs by digest, in one folder shared by the agents of a machine; only root (or the agent's user) reads it."""

    def __init__(self, directory: Path, *, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.directory = directory
        self._bytes_max = bytes_max
        for name in ("manifests", "blobs"):
            (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    async def lay_out(self, server: Server, workspace: str, digest: str, target: Path) -> int:
        """Writes the folder's files below `target`, fetching what is not here; how many there are. Raises: SnapshotFailed."""
        entries = await self._manifest(server, workspace, digest)
        gate = asyncio.Semaphore(FETCHES_MAX)
        wanted = {entry.sha256 for entry in entries if not self._blob(workspace, entry.sha256).exists()}
        async with asyncio.TaskGroup() as group:
            for sha256 in wanted:
                group.create_task(self._fetch(gate, server, workspace, sha256))
        if len(entries) < 200:
            self._copy(workspace, entries, target)
        else:
            await asyncio.to_thread(self._copy, workspace, entries, target)
        if wanted:
            await asyncio.to_thread(self._evict)
        return len(entries)

    async def _manifest(self, server: Server, workspace: str, digest: str) -> Sequence[Entry]:
        kept = self.directory / "manifests" / f"{workspace}.{digest}"
        try:
            return parse(kept.read_bytes(), digest)
        except (OSError, SnapshotFailed):
            pass
        answer = await server.answered("GET", f"/api/v1/workspaces/{quoted(workspace)}/snapshots/{digest}")
        if not answer.ok:
            raise SnapshotFailed(f"The run's code cannot be fetched: {answer.sentence}")
        entries = parse(answer.body, digest)
        _write(kept, answer.body)
        return entries

    async def _fetch(self, gate: asyncio.Semaphore, server: Server, workspace: str, sha256: str) -> None:
        target = self._blob(workspace, sha256)
        target.parent.mkdir(exist_ok=True)
        path = f"/api/v1/workspaces/{quoted(workspace)}/blobs/{sha256}"
        tries = 0
        async with gate:
            while True:
                answer = await self._download(server, path, sha256, target)
                if answer is not None and answer.ok:
                    return
                if answer is not None and answer.final:
                    raise SnapshotFailed(f"A file of the run's code cannot be fetched: {answer.sentence}")
                tries += 1
                await server.pause(server.backoff.pause(tries))

    async def _download(self, server: Server, path: str, sha256: str, target: Path) -> Answer | None:
        making = target.with_name(f"{sha256}.{uuid.uuid4().hex[:8]}")
        file = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            answer = await server.download(path, file)
            if answer.ok:
                os.lseek(file, 0, os.SEEK_SET)
                with os.fdopen(os.dup(file), "rb") as source:
                    if hashlib.file_digest(source, "sha256").hexdigest() != sha256:
                        raise SnapshotFailed(f"A file of the run's code does not have its hash {sha256[:12]}….")
                making.rename(target)
            return answer
        except Unanswered:
            return None
        finally:
            os.close(file)
            making.unlink(missing_ok=True)

    def _blob(self, workspace: str, sha256: str) -> Path:
        return self.directory / "blobs" / sha256[:2] / f"{sha256}.{workspace}"

    def _copy(self, workspace: str, entries: Sequence[Entry], target: Path) -> None:
        for entry in entries:
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            blob = self._blob(workspace, entry.sha256)
            shutil.copyfile(blob, path)
            path.chmod(0o755 if entry.executable else 0o644)
            os.utime(blob)

    def _evict(self) -> None:
        """The least recently used files go once the cache is over its size."""
        found = [(path, path.stat()) for path in (self.directory / "blobs").glob("*/*")]
        total = sum(facts.st_size for _, facts in found)
        for path, facts in sorted(found, key=lambda one: one[1].st_mtime):
            if total <= self._bytes_max or time.time() - facts.st_mtime < 600:
                return
            path.unlink(missing_ok=True)
            total -= facts.st_size


def parse(body: bytes, digest: str) -> Sequence[Entry]:
    """The manifest's files, once paths and digest are found right. Raises: SnapshotFailed."""
    try:
        files = json.loads(body)["files"]
        entries = [Entry(str(one["path"]), str(one["sha256"]), int(one["bytes"]), bool(one.get("executable", False))) for one in files]
    except (ValueError, KeyError, TypeError):
        raise SnapshotFailed("The manifest of the run's code cannot be read.") from None
    if len(entries) > FILES_MAX:
        raise SnapshotFailed(f"The run's code has {len(entries)} files; at most {FILES_MAX} are taken.")
    for entry in entries:
        if not safe(entry.path) or len(entry.sha256) != 64 or not set(entry.sha256) <= set("0123456789abcdef"):
            raise SnapshotFailed(f"The manifest of the run's code names a path that is not allowed: {entry.path[:200]!r}.")
    if digest_of(entries) != digest:
        raise SnapshotFailed("The manifest of the run's code does not have its hash.")
    return entries


def safe(path: str) -> bool:
    """Whether a path of a manifest stays below its folder."""
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError:
        return False
    return "\0" not in path and all(part not in (b"", b".", b"..") and len(part) <= COMPONENT_BYTES_MAX for part in parts)


def digest_of(entries: Sequence[Entry]) -> str:
    """As `foldline.wire.files.Manifest.canonical` has it: one line a file, sorted by path."""
    lines = sorted((entry.path, f"{entry.sha256} {entry.size} {'x' if entry.executable else '-'} {entry.path}\n") for entry in entries)
    return hashlib.sha256("".join(line for _, line in lines).encode()).hexdigest()


def _write(target: Path, content: bytes) -> None:
    making = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
    making.write_bytes(content)
    making.rename(target)

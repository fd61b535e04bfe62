"""What a run keeps: ./outputs, ./logs, named outputs and its logs, as a manifest of content-addressed files.

A script decides what lies there, so each file is opened beneath the run's folder and through no link (see `beneath`); what is no plain
file is left out and named in a warning.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from foldline.node.beneath import Refused, open_file, open_folder, open_root
from foldline.node.http import Answer, Server, Unanswered, quoted
from foldline.node.snapshot import COMPONENT_BYTES_MAX, Entry, digest_of

FILES_MAX = 100_000
DEPTH_MAX = 64
PATH_BYTES_MAX = 4096
WARNINGS_MAX = 20
UPLOADS_MAX = 4
CHUNK = 1 << 20


class OutputsRefused(Exception):
    """The server takes no outputs of this attempt; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.sentence)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Source:
    """A folder (or one file of it) on disk and the path that it has in the run's outputs."""

    root: str
    """A folder that the agent made."""
    inside: str
    """Beneath it; '' is the folder itself."""
    kept_as: str


@dataclass(slots=True)
class Collected:
    entries: list[Entry] = field(default_factory=list)
    where: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Per digest a root and a path beneath it."""
    warnings: list[str] = field(default_factory=list)
    size: int = 0
    left_out: int = 0

    def leave_out(self, path: str, why: str) -> None:
        self.left_out += 1
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(f"{path[:200]!r} was not kept: {why}.")


@dataclass(frozen=True, slots=True)
class Stored:
    digest: str
    files: int
    size: int
    warnings: tuple[str, ...]


def collect(sources: Sequence[Source], *, file_bytes_max: int, bytes_max: int) -> Collected:
    """Reads and hashes every plain file of the sources, within the limits."""
    found = Collected()
    for source in sources:
        root = open_root(source.root)
        try:
            for inside, kept_as in _walk(root, source.inside, source.kept_as, 0, found):
                _take(root, source.root, inside, kept_as, found, file_bytes_max, bytes_max)
        finally:
            os.close(root)
    if found.left_out > len(found.warnings):
        found.warnings.append(f"{found.left_out - len(found.warnings)} more files were not kept.")
    return found


def _walk(root: int, inside: str, kept_as: str, depth: int, found: Collected) -> Iterator[tuple[str, str]]:
    """Every entry that is no folder; folders are entered through no link."""
    try:
        folder = open_folder(root, inside or ".")
    except FileNotFoundError:
        return
    except (Refused, OSError):
        yield inside, kept_as
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    finally:
        os.close(folder)
    for name, is_folder in names:
        below, as_path = (f"{inside}/{name}" if inside else name), f"{kept_as}/{name}"
        if not is_folder:
            yield below, as_path
        elif depth >= DEPTH_MAX:
            found.leave_out(as_path, f"it lies deeper than {DEPTH_MAX} folders")
        else:
            yield from _walk(root, below, as_path, depth + 1, found)


def _take(root: int, root_path: str, inside: str, kept_as: str, found: Collected, file_bytes_max: int, bytes_max: int) -> None:
    if (why := _unspeakable(kept_as)) is not None:
        return found.leave_out(kept_as, why)
    try:
        file, facts = open_file(root, inside)
    except Refused as refused:
        return found.leave_out(kept_as, f"it is {refused}")
    except OSError as problem:
        return found.leave_out(kept_as, f"it cannot be read ({problem.strerror})")
    try:
        if facts.st_size > file_bytes_max:
            return found.leave_out(kept_as, f"it has {facts.st_size} bytes, more than the {file_bytes_max} of one file")
        if found.size + facts.st_size > bytes_max:
            return found.leave_out(kept_as, f"the run's files have more than {bytes_max} bytes together")
        if len(found.entries) >= FILES_MAX:
            return found.leave_out(kept_as, f"the run has more than {FILES_MAX} files")
        sha256, size = _hash(file, facts.st_size)
    finally:
        os.close(file)
    found.size += size
    found.entries.append(Entry(kept_as, sha256, size, bool(facts.st_mode & 0o100)))
    found.where.setdefault(sha256, (root_path, inside))
    return None


def _unspeakable(path: str) -> str | None:
    """Why the server would refuse the path, and with it the whole manifest: its `check_path` is as strict."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not valid Unicode"
    if len(encoded) > PATH_BYTES_MAX or any(len(part) > COMPONENT_BYTES_MAX for part in encoded.split(b"/")):
        return "its path is too long"
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in path):
        return "its name has a control character"
    if "\\" in path or "::" in path:
        return "its name has a backslash or a double colon"
    return None


def _hash(file: int, size: int) -> tuple[str, int]:
    """Of the first `size` bytes at most: a file that still grows is kept as it was."""
    digest, at = hashlib.sha256(), 0
    while at < size and (chunk := os.pread(file, min(CHUNK, size - at), at)):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest(), at


async def store(server: Server, workspace: str, found: Collected) -> Stored:
    """Uploads the files that the server has not got, then the manifest. Goes on until answered. Raises: OutputsRefused."""
    home = f"/api/v1/workspaces/{quoted(workspace)}"
    digests = sorted(found.where)
    answer = await server.answered("POST", f"{home}/blobs/missing", data={"digests": digests})
    if not answer.ok:
        raise OutputsRefused(answer)
    missing = [digest for digest in answer.json().get("missing", []) if digest in found.where]
    sizes = {entry.sha256: entry.size for entry in found.entries}
    gate = asyncio.Semaphore(UPLOADS_MAX)
    async with asyncio.TaskGroup() as group:
        uploads = [group.create_task(_upload(gate, server, home, digest, sizes[digest], found.where[digest])) for digest in missing]
    spoiled = {digest for digest, upload in zip(missing, uploads, strict=True) if not upload.result()}
    entries = [entry for entry in found.entries if entry.sha256 not in spoiled]
    for entry in found.entries:
        if entry.sha256 in spoiled:
            found.leave_out(entry.path, "it changed while it was being stored, or the server refused it")
    files = [{"path": entry.path, "sha256": entry.sha256, "bytes": entry.size, "executable": entry.executable} for entry in entries]
    answer = await server.answered("POST", f"{home}/snapshots", data={"files": files})
    if not answer.ok:
        raise OutputsRefused(answer)
    return Stored(digest_of(entries), len(entries), sum(entry.size for entry in entries), tuple(found.warnings))


async def _upload(gate: asyncio.Semaphore, server: Server, home: str, digest: str, size: int, where: tuple[str, str]) -> bool:
    tries = 0
    async with gate:
        while True:
            try:
                root = open_root(where[0])
                try:
                    file, facts = open_file(root, where[1])
                finally:
                    os.close(root)
            except (Refused, OSError):
                return False
            try:
                if facts.st_size < size or _hash(file, size)[0] != digest:
                    return False
                answer = await server.request(
                    "PUT", f"{home}/blobs/{digest}", file=file, size=size, timeout_seconds=60.0 + size / 100_000,
                )
                if answer.final:
                    return answer.ok
            except Unanswered:
                pass
            finally:
                os.close(file)
            tries += 1
            await server.pause(server.backoff.pause(tries))

"""Folders as manifests: paths that stay inside, files that are there, one spelling for the same content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread

from adapters.http.problems import Problem
from adapters.http.strict_json import INLINE_BYTES_MAX, parse_json_now
from core.errors import NotFound
from core.ids import WorkspaceId
from core.ports import Blobs
from foldline.wire.files import FILES_MAX

PATH_BYTES_MAX = 4096
COMPONENT_BYTES_MAX = 255
MANIFEST_BYTES_MAX = 64 * 1024 * 1024
MISSING_SHOWN_MAX = 1000
SIZE_MAX = 10**17
ENTRY_NEEDS = frozenset({"path", "sha256", "bytes"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DIGEST = re.compile(r"^[0-9a-f]{64}\Z")
_LINE = re.compile(r"^(?P<sha256>[0-9a-f]{64}) (?P<bytes>[0-9]{1,18}) (?P<mode>[x-]) (?P<path>.+)$")


@dataclass(frozen=True, slots=True)
class File:
    path: str
    sha256: str
    bytes: int
    executable: bool = False


def bad_path(detail: str) -> Problem:
    return Problem(422, "bad_path", detail)


def check_path(path: str) -> str:
    """The path itself, when it names something inside of a folder. Raises: Problem 422 `bad_path`."""
    if not path or len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
        raise bad_path(f"A path has 1 to {PATH_BYTES_MAX} bytes.")
    if _CONTROL.search(path):
        raise bad_path("A path holds no control characters and no lone surrogates.")
    if "\\" in path:
        raise bad_path("Paths are written with forward slashes.")
    if "::" in path or re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", path) or path.startswith("~"):
        raise bad_path("A path names a file inside of a folder, not an address.")
    for component in path.split("/"):
        if component in ("", ".", ".."):
            raise bad_path("A path has no leading, doubled or trailing slash, and no `.` or `..` in it.")
        if len(component.encode()) > COMPONENT_BYTES_MAX:
            raise bad_path(f"A part of a path has at most {COMPONENT_BYTES_MAX} bytes.")
    return path


def check_files(files: Iterable[File]) -> tuple[File, ...]:
    """The files sorted by path. Raises: Problem 422 for a bad path, a path twice, a file that is a folder too, too many."""
    kept = sorted(files, key=lambda file: file.path)
    if len(kept) > FILES_MAX:
        raise Problem(422, "too_many_files", f"A folder has at most {FILES_MAX} files.")
    names = {check_path(file.path) for file in kept}
    if len(names) != len(kept):
        raise bad_path("A path is there twice.")
    for name in names:
        folder = name
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in names:
                raise bad_path("A file cannot be a folder too.")
    return tuple(kept)


def canonical(files: Iterable[File]) -> bytes:
    """As `foldline.wire.files.Manifest.canonical`: the digest of these bytes is the folder's digest."""
    lines = sorted((file.path, f"{file.sha256} {file.bytes} {'x' if file.executable else '-'} {file.path}\n") for file in files)
    return "".join(line for _, line in lines).encode()


def parse(content: bytes) -> tuple[File, ...]:
    """The files of a stored manifest. Raises: ValueError when it is none."""
    files: list[File] = []
    for line in content.decode().split("\n")[:-1]:
        match = _LINE.match(line)
        if match is None:
            raise ValueError("not a manifest")
        files.append(File(match["path"], match["sha256"], int(match["bytes"]), match["mode"] == "x"))
    if canonical(files) != content:
        raise ValueError("not a manifest")
    try:
        return check_files(files)
    except Problem as problem:
        raise ValueError(str(problem)) from None


async def load(blobs: Blobs, workspace: WorkspaceId, digest: str, what: str = "snapshot") -> tuple[File, ...]:
    """Raises: NotFound when there is no such folder in the workspace."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest) or await blobs.size(workspace, digest) is None:
        raise NotFound(what, digest)
    content = await blobs.read_bytes(workspace, digest, MANIFEST_BYTES_MAX)
    try:
        return await anyio.to_thread.run_sync(parse, content)
    except ValueError:
        raise NotFound(what, digest) from None


async def store(blobs: Blobs, workspace: WorkspaceId, files: Sequence[File]) -> str:
    """Stores a folder all of whose files are there; returns its digest. Raises: Problem 422 `missing_blobs`, `wrong_size`."""
    missing = await blobs.missing(workspace, sorted({file.sha256 for file in files}))
    if missing:
        raise Problem(
            422, "missing_blobs", f"{len(missing)} files are not there yet; upload them first.",
            missing=list(missing[:MISSING_SHOWN_MAX]), count=len(missing),
        )
    for file in files:
        size = await blobs.size(workspace, file.sha256)
        if size != file.bytes:
            raise Problem(422, "wrong_size", f"{file.path} has {size} bytes, not {file.bytes}.", path=file.path)
    content = await anyio.to_thread.run_sync(canonical, files)
    if len(content) > MANIFEST_BYTES_MAX:
        raise Problem(422, "too_many_files", "The folder's list is too long.")
    return await blobs.put_bytes(workspace, content)


async def of_body(content: bytes) -> tuple[File, ...]:
    """The folder in a request's body (`foldline.wire.files.Manifest`); a long one is read in a worker thread.

    Raises: Problem 400, 422.
    """
    if len(content) <= INLINE_BYTES_MAX:
        return _of_body_now(content)
    return await anyio.to_thread.run_sync(_of_body_now, content)


def _of_body_now(content: bytes) -> tuple[File, ...]:
    """In Python line by line, so that the event loop gets its turn beside it: 100,000 files take a while."""
    value = parse_json_now(content)
    if not isinstance(value, dict) or set(value) != {"files"} or not isinstance(value["files"], list):
        raise Problem(422, "invalid_body", "files: a folder is an object with the list `files` and nothing else")
    if len(value["files"]) > FILES_MAX:
        raise Problem(422, "too_many_files", f"A folder has at most {FILES_MAX} files.")
    return check_files(_entry(number, one) for number, one in enumerate(value["files"]))


def _entry(number: int, one: Any) -> File:
    if not isinstance(one, dict) or not ENTRY_NEEDS <= set(one) <= ENTRY_NEEDS | {"executable"}:
        raise Problem(422, "invalid_body", f"files.{number}: a file has `path`, `sha256`, `bytes` and perhaps `executable`")
    path, digest, size, executable = one["path"], one["sha256"], one["bytes"], one.get("executable", False)
    if not isinstance(path, str) or not isinstance(digest, str) or not _DIGEST.match(digest) or not isinstance(executable, bool):
        raise Problem(422, "invalid_body", f"files.{number}: a path, 64 lower-case hex digits, a size, and true or false")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= SIZE_MAX:
        raise Problem(422, "invalid_body", f"files.{number}.bytes: a size is a whole number, not negative")
    return File(path, digest, size, executable)


def to_body(files: Sequence[File]) -> bytes:
    """`foldline.wire.files.Manifest` as JSON, entry by entry."""
    entries = (
        json.dumps({"path": file.path, "sha256": file.sha256, "bytes": file.bytes, "executable": file.executable}, separators=(",", ":"))
        for file in files
    )
    return f'{{"files":[{",".join(entries)}]}}'.encode()


def under(files: Iterable[File], path: str) -> tuple[File, ...]:
    """The file or folder at `path`, with paths that keep its own last name. Empty when there is nothing."""
    name = path.rpartition("/")[2]
    found: list[File] = []
    for file in files:
        if file.path == path:
            found.append(File(name, file.sha256, file.bytes, file.executable))
        elif file.path.startswith(path + "/"):
            found.append(File(name + file.path[len(path):], file.sha256, file.bytes, file.executable))
    return tuple(found)

"""A folder of yours as a snapshot: which files belong to it, and their hashes.

What an ignore file says is left out: `.amlignore` in the folder's root, else `.gitignore` there, never both, with git's syntax. `.git` and
`__pycache__` never belong to it. A link is followed when it leads to a place inside the folder, and refused otherwise: a snapshot never
holds what lies outside the folder that was named. A file's only mode that counts is whether its owner may execute it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.problems import BadInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".amlignore", ".gitignore")
NEVER = frozenset({".git", "__pycache__"})
FILES_MAX = 100_000
PATH_BYTES_MAX = 4096
DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file of a snapshot. `path` has forward slashes and is relative to the folder."""

    path: str
    place: Path
    bytes: int
    executable: bool
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files, sorted by path, and the ignore file that was heeded."""

    files: tuple[LocalFile, ...]
    ignored_by: str | None

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def digest(self) -> str:
        """The manifest's digest, as `foldline.wire.files.Manifest.canonical` defines it."""
        lines = (f"{f.sha256} {f.bytes} {'x' if f.executable else '-'} {f.path}\n" for f in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def snapshot(folder: Path, *, ignore: bool = True) -> Folder:
    """Walks and hashes `folder` (blocking). `ignore` False takes everything, as for a model.

    Raises: BadInput for what cannot be in a snapshot, naming it.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise BadInput(f"There is no folder {folder}.", code="no_folder")
    heeded, spec = _ignore_spec(root) if ignore else (None, None)
    found: list[LocalFile] = []
    for file in _walk(root, root, "", spec, (root,), everything=not ignore):
        if len(found) >= FILES_MAX:
            raise BadInput(f"{folder} has more than {FILES_MAX} files; leave some out with an .amlignore file.", code="too_many_files")
        found.append(replace(file, sha256=digest_of(file.place)))
    return Folder(tuple(sorted(found, key=lambda file: file.path)), heeded)


def model_folder(path: Path) -> Folder:
    """A model's file or folder under its own name, as a scoring script finds it below AZUREML_MODEL_DIR; nothing is ignored."""
    if not path.exists():
        raise BadInput(f"There is no file or folder {path}.", code="no_folder")
    name = path.resolve().name
    if path.is_dir():
        found = snapshot(path, ignore=False)
        return Folder(tuple(replace(file, path=_checked(f"{name}/{file.path}", file.place)) for file in found.files), None)
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BadInput(f"{path} is no plain file.", code="not_a_file")
    return Folder((LocalFile(_checked(name, path), path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR), digest_of(path)),), None)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ignore_spec(root: Path) -> tuple[str | None, GitIgnoreSpec | None]:
    for name in IGNORE_FILES:
        place = root / name
        if place.is_file():
            from pathspec import GitIgnoreSpec

            return name, GitIgnoreSpec.from_lines(place.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return None, None


def _walk(
    root: Path,
    folder: Path,
    prefix: str,
    spec: GitIgnoreSpec | None,
    trail: tuple[Path, ...],
    *,
    everything: bool,
) -> Iterator[LocalFile]:
    """Files below `folder`, whose path in the snapshot begins with `prefix`; `trail` holds the real folders above, to see circles."""
    if len(trail) > DEPTH_MAX:
        raise BadInput(f"{folder} lies deeper than {DEPTH_MAX} folders.", code="too_deep")
    with os.scandir(folder) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        path = prefix + entry.name
        if entry.name in NEVER and not everything:
            continue
        if spec is not None and spec.match_file(path + "/" if _is_folder(entry) else path):
            continue
        place = Path(entry.path)
        if entry.is_symlink():
            place = _followed(root, place, trail)
        facts = place.stat()
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(root, place, _checked(path, place) + "/", spec, (*trail, place), everything=everything)
        elif stat.S_ISREG(facts.st_mode):
            yield LocalFile(_checked(path, place), place, facts.st_size, bool(facts.st_mode & stat.S_IXUSR))
        else:
            raise BadInput(f"{place} is neither a file nor a folder (a pipe, a socket or a device) and cannot be sent.", code="not_a_file")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """As git sees it: a link to a folder is no folder."""
    return entry.is_dir(follow_symlinks=False)


def _followed(root: Path, link: Path, trail: tuple[Path, ...]) -> Path:
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise BadInput(f"{link} is a link that leads nowhere; remove it or put it into .amlignore.", code="broken_link") from None
    if not real.is_relative_to(root):
        sentence = f"{link} is a link to {real}, outside the folder that is sent; copy it in, or put it into .amlignore."
        raise BadInput(sentence, code="link_outside")
    if real in trail:
        raise BadInput(f"{link} is a link to a folder that holds it; put it into .amlignore.", code="link_circle")
    return real


def _checked(path: str, place: Path) -> str:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise BadInput(f"The name of {os.fsencode(place)!r} is not UTF-8; rename it or put it into .amlignore.", code="bad_name") from None
    if size > PATH_BYTES_MAX:
        raise BadInput(f"The path {path[:80]}… has more than {PATH_BYTES_MAX} bytes.", code="bad_name")
    if "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise BadInput(f"The name {path!r} holds a control character or a backslash; rename it or put it into .amlignore.", code="bad_name")
    return path

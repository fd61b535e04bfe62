"""Folders as manifests of content-addressed files: snapshots, models, outputs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from foldline.wire.shapes import Answer, Request, Sha256

FILES_MAX = 100_000

RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
"""Forward slashes, no leading slash, no empty, `.` or `..` component, each component at most 255 bytes; checked by the server."""


class FileEntry(Request):
    path: RelativePath
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    executable: bool = False


class Manifest(Request):
    """A folder. Its digest is the SHA-256 of `canonical()`: the same content is the same folder."""

    files: Annotated[list[FileEntry], Field(max_length=FILES_MAX)]

    def canonical(self) -> bytes:
        """One line a file, sorted by path: `sha256 bytes mode path`, UTF-8, newline after each."""
        ordered = sorted(self.files, key=lambda entry: entry.path)
        return "".join(f"{one.sha256} {one.bytes} {'x' if one.executable else '-'} {one.path}\n" for one in ordered).encode()


class MissingRequest(Request):
    digests: Annotated[list[Sha256], Field(max_length=FILES_MAX)]


class MissingAnswer(Answer):
    missing: list[str]


class ManifestStored(Answer):
    """`POST /snapshots` answer: the folder's digest."""

    digest: str
    files: int
    bytes: int

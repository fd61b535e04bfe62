"""What the store on a local disk leaves there, and what it refuses to run with."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from adapters.blobs.files import INCOMING, BlobsRefused, FileBlobs, check_fsspec
from core.errors import Invalid
from core.ids import WorkspaceId
from tests.contract.blobs import stream

W1 = WorkspaceId("ws-one")


async def test_a_path_is_made_of_workspace_and_digest_alone(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    name = await blobs.put_bytes(W1, b"content")
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [Path("blobs", "ws-one", name[:2], name)]


async def test_nobody_else_can_look_into_the_store(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put_bytes(W1, b"content")
    for folder in [tmp_path / "blobs", *(path for path in (tmp_path / "blobs").rglob("*") if path.is_dir())]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_refused_upload_leaves_no_file(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    with pytest.raises(Invalid):
        await blobs.put(W1, "0" * 64, stream(b"x" * 3_000_000), 10**9)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_cancelled_upload_leaves_no_file(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    started = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield b"x"
        started.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        upload = tasks.create_task(blobs.put(W1, "0" * 64, endless(), 100))
        await started.wait()
        upload.cancel()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_uploads_of_the_same_content_at_once_all_succeed(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    content = os.urandom(500_000)
    digest = hashlib.sha256(content).hexdigest()
    sizes = await asyncio.gather(*(blobs.put(W1, digest, stream(content), 10**6) for _ in range(8)))
    assert set(sizes) == {500_000}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [digest]


def test_leftovers_of_a_day_ago_are_cleared_at_the_start(tmp_path: Path) -> None:
    (tmp_path / INCOMING).mkdir()
    old, new = tmp_path / INCOMING / "old", tmp_path / INCOMING / "new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    FileBlobs(tmp_path)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("version", ["2026.6.1", "2025.12.0", "2026.6.30.post1"])
def test_an_older_fsspec_is_refused_with_a_sentence(version: str) -> None:
    with pytest.raises(BlobsRefused, match=r"needs 2026\.7\.0 or newer: run `pip install"):
        check_fsspec(version)


@pytest.mark.parametrize("version", ["2026.7.0", "2026.9.0", "2027.1.0", "2026.12.0rc1"])
def test_a_newer_fsspec_is_fine(version: str) -> None:
    check_fsspec(version)

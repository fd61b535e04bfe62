"""Uploads of what is missing; downloads that are checked and never leave their folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from foldline.configuration import Target
from foldline.connection import Connection
from foldline.problems import BadInput, DamagedFile, UnsafePath
from foldline.snapshots import snapshot
from foldline.transfers import RemoteFile, Transfer, fetch_folder, safe_target, store_folder
from tests.client.scripted_server import Answer, ScriptedServer

DATA = b"content"
SHA = hashlib.sha256(DATA).hexdigest()


def connection(server: ScriptedServer) -> Connection:
    return Connection(Target(server.url), patience_seconds=0.5)


def remote(path: str, data: bytes = DATA) -> RemoteFile:
    return RemoteFile(path, len(data), hashlib.sha256(data).hexdigest())


async def test_only_what_the_server_lacks_is_uploaded(server: ScriptedServer, tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("same", "1"), ("big", "x" * 700_000)):
        (tmp_path / name).write_text(text)
    folder = snapshot(tmp_path)
    big = next(file.sha256 for file in folder.files if file.path == "big")
    server.on("POST", "workspaces/lab/blobs/missing", Answer({"missing": [big]}))
    server.on("PUT", f"workspaces/lab/blobs/{big}", Answer(None, 201))
    server.on("POST", "workspaces/lab/snapshots", Answer({"digest": folder.digest, "files": 4, "bytes": folder.bytes}, 201))
    told: list[Transfer] = []
    async with connection(server) as open_connection:
        assert await store_folder(open_connection, "lab", folder, told.append) == folder.digest
    (asked,) = server.requests("POST", "workspaces/lab/blobs/missing")
    assert len(asked.json["digests"]) == 3
    (put,) = server.requests("PUT", f"workspaces/lab/blobs/{big}")
    assert len(put.body) == 700_000
    assert put.headers["content-length"] == "700000"
    (manifest,) = server.requests("POST", "workspaces/lab/snapshots")
    assert [entry["path"] for entry in manifest.json["files"]] == ["a", "b", "big", "same"]
    assert [state.bytes_done for state in told] == sorted(state.bytes_done for state in told)
    assert told[-1] == Transfer(1, 700_000, 1, 700_000, "big")


async def test_an_upload_that_breaks_starts_again_from_its_beginning(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    folder = snapshot(tmp_path)
    server.on("POST", "workspaces/lab/blobs/missing", Answer({"missing": [SHA]}))
    server.on("PUT", f"workspaces/lab/blobs/{SHA}", Answer(None, 503, {"Retry-After": "0"}), Answer(None, 201))
    server.on("POST", "workspaces/lab/snapshots", Answer({"digest": folder.digest}, 201))
    told: list[Transfer] = []
    async with connection(server) as open_connection:
        await store_folder(open_connection, "lab", folder, told.append)
    assert [put.body for put in server.requests("PUT", f"workspaces/lab/blobs/{SHA}")] == [DATA, DATA]
    assert told[-1].bytes_done == len(DATA)


@pytest.mark.parametrize("content", [DATA * 100_000, DATA[:2], b""])
async def test_a_file_that_changes_on_its_way_is_told(server: ScriptedServer, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(DATA)
    folder = snapshot(tmp_path)
    (tmp_path / "a").write_bytes(content)
    server.on("POST", "workspaces/lab/blobs/missing", Answer({"missing": [SHA]}))
    server.on("PUT", f"workspaces/lab/blobs/{SHA}", Answer(None, 201))
    async with connection(server) as open_connection:
        with pytest.raises(BadInput, match="changed while it was sent"):
            await store_folder(open_connection, "lab", folder)


async def test_files_are_downloaded_and_checked(server: ScriptedServer, tmp_path: Path) -> None:
    server.on("GET", "files", Answer(DATA))
    async with connection(server) as open_connection:
        found = await fetch_folder(open_connection, "files", [remote("a/b/ü.bin"), remote("c")], tmp_path / "to")
    assert sorted(path.relative_to(tmp_path / "to").as_posix() for path in found) == ["a/b/ü.bin", "c"]
    assert {path.read_bytes() for path in found} == {DATA}
    assert sorted(asked.query["path"][0] for asked in server.requests("GET", "files")) == ["a/b/ü.bin", "c"]


@pytest.mark.parametrize("answer", [b"damaged", DATA + b"more", DATA[:3], b""])
async def test_a_damaged_file_is_thrown_away(server: ScriptedServer, tmp_path: Path, answer: bytes) -> None:
    server.on("GET", "files", Answer(answer))
    async with connection(server) as open_connection:
        with pytest.raises(DamagedFile):
            await fetch_folder(open_connection, "files", [remote("a")], tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


EVIL = [
    *("../../.bashrc", "/etc/x", "a/../../b", "..", ".", "a//b", "a/./b", "", "a/", "a\\..\\b", "C:/x", "//host/x"),
    *("a\nb", "a\x00b", "\ud800", "a/\x7f"),
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
async def test_a_server_that_names_a_path_outside_is_refused_before_anything_is_written(
    server: ScriptedServer, tmp_path: Path, name: str
) -> None:
    server.on("GET", "files", Answer(DATA))
    async with connection(server) as open_connection:
        with pytest.raises(UnsafePath):
            await fetch_folder(open_connection, "files", [remote("fine"), remote(name)], tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert server.asked == []


async def test_a_download_goes_through_no_link(server: ScriptedServer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "sub").symlink_to(outside)
    (tmp_path / "to" / "file").symlink_to(outside / "target")
    server.on("GET", "files", Answer(DATA))
    async with connection(server) as open_connection:
        with pytest.raises(UnsafePath, match="is a link"):
            await fetch_folder(open_connection, "files", [remote("sub/a")], tmp_path / "to")
        await fetch_folder(open_connection, "files", [remote("file")], tmp_path / "to")
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "to" / "file").is_symlink()


def test_ordinary_names_stay_as_they_are(tmp_path: Path) -> None:
    assert safe_target(tmp_path, "a b/..c/d..e/ü") == tmp_path / "a b" / "..c" / "d..e" / "ü"

"""Collecting what a script left: plain files beneath the run's folder and nothing else, within limits."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from adapters.http.manifests import check_path
from adapters.http.problems import Problem
from foldline.node import beneath
from foldline.node.outputs import Collected, Source, collect
from foldline.node.snapshot import digest_of
from foldline.wire.files import FileEntry, Manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "code" / "outputs").mkdir(parents=True)
    (tmp_path / "secret").write_text("SECRET")
    return folder


@pytest.fixture(params=["openat2", "walk"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of opening keep the promise."""
    monkeypatch.setattr(beneath, "_without_openat2", request.param == "walk")


def _collect(run: Path, **limits: int) -> Collected:
    limits = {"file_bytes_max": 1 << 30, "bytes_max": 1 << 30, **limits}
    return collect([Source(str(run), "code/outputs", "outputs"), Source(str(run), "code/logs", "logs")], **limits)


def test_files_are_found_with_hash_size_and_mode(run: Path, either: None) -> None:
    (run / "code/outputs/a").write_bytes(b"123")
    (run / "code/outputs/deep").mkdir()
    (run / "code/outputs/deep/tool").write_bytes(b"")
    (run / "code/outputs/deep/tool").chmod(0o755)
    found = _collect(run)
    assert [(entry.path, entry.size, entry.executable) for entry in found.entries] == [
        ("outputs/a", 3, False),
        ("outputs/deep/tool", 0, True),
    ]
    assert found.entries[0].sha256 == hashlib.sha256(b"123").hexdigest() and not found.warnings
    files = [FileEntry(path=one.path, sha256=one.sha256, bytes=one.size, executable=one.executable) for one in found.entries]
    assert digest_of(found.entries) == hashlib.sha256(Manifest(files=files).canonical()).hexdigest()


def test_links_pipes_sockets_and_devices_are_named_and_never_read(run: Path, either: None) -> None:
    outputs = run / "code/outputs"
    (outputs / "link").symlink_to(run.parent / "secret")
    (outputs / "folder").symlink_to(run.parent)
    (outputs / "dangling").symlink_to("nowhere")
    os.mkfifo(outputs / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(outputs / "socket"))
    if os.getuid() == 0:
        os.mknod(outputs / "device", 0o20666, os.makedev(1, 5))
    found = _collect(run)
    assert found.entries == []
    said = "\n".join(found.warnings)
    for name, what in (
        ("link", "a symbolic link"),
        ("folder", "a symbolic link"),
        ("dangling", "a symbolic link"),
        ("pipe", "a FIFO"),
        ("socket", ""),
    ):
        assert f"'outputs/{name}' was not kept: it is {what}" in said, said
    assert len(found.warnings) == (6 if os.getuid() == 0 else 5)


def test_a_folder_replaced_by_a_link_leads_nowhere(run: Path, either: None) -> None:
    (run / "code/outputs").rmdir()
    (run / "code/outputs").symlink_to(run.parent)
    found = _collect(run)
    assert found.entries == [] and found.warnings == ["'outputs' was not kept: it is a symbolic link."]


def test_a_link_on_the_way_is_refused(run: Path, either: None) -> None:
    (run / "way").symlink_to(run.parent)
    root = beneath.open_root(run)
    try:
        with pytest.raises(beneath.Refused):
            beneath.open_file(root, "way/secret")
        for path in ("../secret", str(run.parent / "secret"), "code/../../secret"):
            with pytest.raises(beneath.Refused):
                beneath.open_file(root, path)
        with pytest.raises(beneath.Refused, match="a folder"):
            beneath.open_file(root, "code")
    finally:
        os.close(root)


def test_limits_leave_files_out_by_name(run: Path) -> None:
    for name, size in (("a", 10), ("b", 200), ("c", 60), ("d", 60)):
        (run / "code/outputs" / name).write_bytes(b"x" * size)
    found = _collect(run, file_bytes_max=100, bytes_max=100)
    assert [entry.path for entry in found.entries] == ["outputs/a", "outputs/c"]
    assert "'outputs/b' was not kept: it has 200 bytes" in found.warnings[0] and "together" in found.warnings[1]


def test_names_that_nobody_could_say_are_left_out(run: Path) -> None:
    folder = os.fsencode(run / "code/outputs")
    for name in (b"\xff\xfe", b"new\nline", b"good"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"")
    found = _collect(run)
    assert [entry.path for entry in found.entries] == ["outputs/good"] and len(found.warnings) == 2


@pytest.mark.parametrize("name", ["plain", "a:b", "~a", "a b", "a\\b", "a::b", "a\x85b", "a\x7fb", "a\nb", "\u00e9" * 127, "\u2028", "..."])
def test_a_name_that_the_server_would_refuse_costs_that_file_and_not_all_of_them(run: Path, name: str) -> None:
    (run / "code/outputs" / name).write_text("x")
    (run / "code/outputs/model.bin").write_text("y")
    try:
        check_path(f"outputs/{name}")
        kept = {f"outputs/{name}", "outputs/model.bin"}
    except Problem:
        kept = {"outputs/model.bin"}
    found = _collect(run)
    assert {entry.path for entry in found.entries} == kept
    assert found.left_out == 2 - len(kept)


def test_folders_deeper_than_the_limit_and_many_refusals_are_summed_up(run: Path) -> None:
    deep = run / "code/outputs"
    for _ in range(70):
        deep = deep / "d"
        deep.mkdir()
    for number in range(30):
        (run / "code/outputs" / f"l{number}").symlink_to("x")
    found = _collect(run)
    assert found.entries == [] and found.left_out == 31 and len(found.warnings) == 21
    assert found.warnings[-1] == "11 more files were not kept."


def test_missing_folders_are_no_matter(tmp_path: Path) -> None:
    assert _collect(tmp_path).entries == []

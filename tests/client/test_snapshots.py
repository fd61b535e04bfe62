"""Which files a snapshot holds, against git itself; links, modes, names; git facts without secrets."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from foldline import git
from foldline.problems import BadInput
from foldline.snapshots import model_folder, snapshot
from foldline.wire.files import FileEntry, Manifest


def paths(folder: Path, **options: bool) -> list[str]:
    return [file.path for file in snapshot(folder, **options).files]


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def run_git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=trunk")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


WORDS = ("a", "b", "build", "data", "log", "x y", "ä", "keep")
PATTERNS = (
    "a", "/a", "a/", "*.log", "!keep.log", "build/", "**/data", "data/**", "x y", "b/*.txt", "!b/keep.txt", "/build/*", "!/build/keep", "ä",
    "*.t?t", "[ab].log", "# comment", "", "\\#x", "a/**/b", "!a", "**/keep*", "trailing   ", "/*", "!/keep", "data/b", "*/x y",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(25))
def test_ignore_rules_are_git_s_own(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "tree"
    folder.mkdir()
    names = set()
    for _ in range(40):
        parts = [chance.choice(WORDS) for _ in range(chance.randint(0, 3))]
        names.add("/".join([*parts, chance.choice(WORDS) + chance.choice((".txt", ".log", ".py", ".tat"))]))
    write(folder, *sorted(names))
    (folder / ".gitignore").write_text("\n".join(chance.sample(PATTERNS, chance.randint(1, 8))) + "\n", encoding="utf-8")
    run_git(folder, "init", "-q")
    listed = run_git(folder, "-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    assert paths(folder) == sorted(name for name in listed if name)


def test_amlignore_alone_counts_where_both_are_there(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n")
    assert paths(tmp_path) == [".gitignore", "b.txt"]
    (tmp_path / ".amlignore").write_text("b.txt\n")
    assert paths(tmp_path) == [".amlignore", ".gitignore", "a.txt"]
    assert snapshot(tmp_path).ignored_by == ".amlignore"


def test_an_ignore_file_in_a_folder_below_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "sub/a.txt")
    (tmp_path / "sub" / ".gitignore").write_text("*\n")
    assert paths(tmp_path) == ["sub/.gitignore", "sub/a.txt"]


def test_git_s_own_folder_and_byte_code_never_belong(tmp_path: Path) -> None:
    write(tmp_path, ".git/config", "sub/.git", "__pycache__/a.pyc", "sub/__pycache__/b.pyc", "a.py")
    assert paths(tmp_path) == ["a.py"]


def test_a_model_s_folder_keeps_its_name_and_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    write(folder, "weights.bin", "__pycache__/a.pyc")
    (folder / ".gitignore").write_text("*\n")
    assert [file.path for file in model_folder(folder).files] == ["net/.gitignore", "net/__pycache__/a.pyc", "net/weights.bin"]
    assert [file.path for file in model_folder(folder / "weights.bin").files] == ["weights.bin"]
    with pytest.raises(BadInput, match="no file or folder"):
        model_folder(tmp_path / "nothing")


def test_the_digest_is_the_wire_s_canonical_one(tmp_path: Path) -> None:
    write(tmp_path, "b/ü.txt", "a.py", "a/z", "a-b")
    (tmp_path / "a.py").chmod(0o755)
    folder = snapshot(tmp_path)
    entries = [FileEntry(path=f.path, sha256=f.sha256, bytes=f.bytes, executable=f.executable) for f in reversed(folder.files)]
    import hashlib

    assert folder.digest == hashlib.sha256(Manifest(files=entries).canonical()).hexdigest()
    assert [file.path for file in folder.files if file.executable] == ["a.py"]


def test_an_empty_folder_is_a_snapshot_too(tmp_path: Path) -> None:
    assert snapshot(tmp_path).files == ()


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "real/a.txt")
    (tmp_path / "file").symlink_to("real/a.txt")
    (tmp_path / "folder").symlink_to("real")
    assert paths(tmp_path) == ["file", "folder/a.txt", "real/a.txt"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/etc/passwd", "link_outside"),
        ("..", "link_outside"),
        ("../sibling", "broken_link"),
        ("nowhere", "broken_link"),
        (".", "link_circle"),
    ],
)
def test_links_that_lead_elsewhere_are_refused_with_a_sentence(tmp_path: Path, target: str, code: str) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "link").symlink_to(target)
    with pytest.raises(BadInput, match="link") as refused:
        snapshot(folder)
    assert refused.value.code == code


def test_a_link_that_is_ignored_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / ".amlignore").write_text("link\n")
    assert paths(tmp_path) == [".amlignore"]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="neither a file nor a folder"):
        snapshot(tmp_path)


@pytest.mark.parametrize("name", [b"bad-\xff", b"new\nline", b"back\\slash"])
def test_names_that_cannot_travel_are_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")
    with pytest.raises(BadInput) as refused:
        snapshot(tmp_path)
    assert refused.value.code == "bad_name"


def test_too_deep_a_tree_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "/".join(["d"] * 80) + "/f")
    with pytest.raises(BadInput, match="deeper"):
        snapshot(tmp_path)


def test_git_facts_of_a_checkout(tmp_path: Path) -> None:
    assert git.facts(tmp_path) is None
    run_git(tmp_path, "init", "-q")
    assert git.facts(tmp_path) is None
    write(tmp_path, "code/a.py")
    run_git(tmp_path, "add", ".")
    run_git(tmp_path, "commit", "-qm", "one")
    run_git(tmp_path, "remote", "add", "origin", "https://user:secret@host.example/team/code.git?token=1")
    facts = git.facts(tmp_path / "code")
    assert facts is not None
    assert (facts.branch, facts.dirty, facts.repository) == ("trunk", False, "https://host.example/team/code.git")
    assert facts.commit == run_git(tmp_path, "rev-parse", "HEAD").strip()
    write(tmp_path, "code/b.py")
    assert git.facts(tmp_path / "code").dirty  # type: ignore[union-attr]  # it was there a moment ago
    run_git(tmp_path, "checkout", "-q", "--detach")
    assert git.facts(tmp_path / "code").branch is None  # type: ignore[union-attr]


def test_git_runs_no_program_that_a_checkout_names(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    write(tmp_path, "a")
    run_git(tmp_path, "add", ".")
    run_git(tmp_path, "commit", "-qm", "one")
    trap = tmp_path / "trap"
    trap.write_text("#!/bin/sh\ntouch sprung\n")
    trap.chmod(0o755)
    run_git(tmp_path, "config", "core.fsmonitor", str(trap))
    assert git.facts(tmp_path) is not None
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://u:p@h/x.git", "https://h/x.git"),
        ("https://h:8443/x", "https://h:8443/x"),
        ("ssh://git@h/x.git", "ssh://h/x.git"),
        ("git@github.com:team/x.git", "github.com:team/x.git"),
        ("token@h:team/x", "h:team/x"),
        ("/home/me/x", None),
        ("../x", None),
        ("file:///home/me/x", None),
        ("C:\\code\\x", None),
        ("", None),
    ],
)
def test_repository_addresses_lose_what_is_secret_or_means_nothing_elsewhere(url: str, kept: str | None) -> None:
    assert git.without_userinfo(url) == kept

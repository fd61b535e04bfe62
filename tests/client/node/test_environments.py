"""Environments with the real uv: built once for the same content, in the sandbox, copied for runs, with sentences when they cannot be."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldline.node.environments import BuilderIdentity, EnvironmentCache, EnvironmentFailed, explain
from foldline.node.sandbox import BUILDER_UID, Sandbox, scrubbed_environment
from tests.client.node.control_plane import key_of

RUN_UID = 210_001


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("environments")
    for parent in (found, *found.parents):
        if parent.name.startswith("pytest"):
            parent.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


def _cache(folder: Path, **settings: str) -> EnvironmentCache:
    uid = BUILDER_UID if os.getuid() == 0 else os.getuid()
    return EnvironmentCache(folder, builder=BuilderIdentity(uid, Sandbox.probe(), {**scrubbed_environment(os.environ), **settings}))


def _quiet(_: str) -> None:
    return None


async def test_the_same_content_is_built_once_even_by_two_processes_at_a_time(folder: Path) -> None:
    key, lines = key_of("", ["six==1.17.0"]), list[str]()
    one, two = await asyncio.gather(*(_cache(folder).ensure(key, "", ["six==1.17.0"], lines.append) for _ in range(2)))
    assert sorted((one.cached, two.cached)) == [False, True]
    assert sum("six==1.17.0" in line for line in lines) == 1
    assert "six==1.17.0\n" in one.lock_text and one.lock_text == two.lock_text
    again = await _cache(folder).ensure(key, "", ["six==1.17.0"], lines.append)
    assert again.cached and again.seconds < 0.05


async def test_an_environment_without_packages_still_has_pip(folder: Path) -> None:
    built = await _cache(folder).ensure(key_of("", []), "", [], _quiet)
    said = subprocess.run([built.path / "bin" / "pip", "--version"], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout.startswith("pip ")


async def test_a_copy_works_where_it_lies_and_never_changes_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = _cache(folder)
    built = await cache.ensure(key_of("", []), "", [], _quiet)
    before = {path: path.stat().st_mtime_ns for path in built.path.rglob("*") if path.is_file()}
    copy = tmp_path / "copy"
    await cache.copy_for(built.key, copy, RUN_UID)
    library = next(copy.glob("lib/python3*/site-packages/pip/__init__.py"))
    assert library.stat().st_ino == next(built.path.glob("lib/python3*/site-packages/pip/__init__.py")).stat().st_ino
    if os.getuid() == 0:
        assert library.parent.stat().st_uid == RUN_UID and library.stat().st_uid == BUILDER_UID
        assert not library.stat().st_mode & 0o022
    prefix = subprocess.run([copy / "bin" / "python", "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert prefix.stdout.strip() == str(copy)
    shutil.rmtree(copy)
    assert {path: path.stat().st_mtime_ns for path in built.path.rglob("*") if path.is_file()} == before


async def test_a_spare_copy_is_made_ahead_and_taken_by_a_rename(folder: Path, tmp_path: Path) -> None:
    cache = _cache(folder)
    built = await cache.ensure(key_of("", []), "", [], _quiet)
    await cache.prepare_spare(built.key, RUN_UID)
    await cache.prepare_spare(built.key, RUN_UID)
    spares = list((folder / "spares" / built.key).iterdir())
    assert len(spares) == 2
    inodes = {spare.stat().st_ino for spare in spares}
    await cache.copy_for(built.key, tmp_path / "copy", RUN_UID)
    assert (tmp_path / "copy").stat().st_ino in inodes and len(list((folder / "spares" / built.key).iterdir())) == 1
    await cache.prepare_spare(built.key, RUN_UID)
    await cache.copy_for(built.key, tmp_path / "other", RUN_UID + 1)
    if os.getuid() == 0:
        owners = {path.stat().st_uid for path in (tmp_path / "other").rglob("*") if path.is_dir() and not path.is_symlink()}
        assert owners == {RUN_UID + 1}


async def test_a_package_that_does_not_exist_is_named(folder: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="no-such-package-of-foldline was not found in the package index"):
        await _cache(folder).ensure("0" * 64, "", ["no-such-package-of-foldline"], _quiet)
    assert not (folder / "ready" / ("0" * 64)).exists() and not list((folder / "building").iterdir())


async def test_versions_that_exclude_each_other_are_named(folder: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"No set of versions satisfies the environment's packages: .*six==1.16.0"):
        await _cache(folder).ensure("1" * 64, "", ["six==1.17.0", "six==1.16.0"], _quiet)


async def test_without_a_network_the_sentence_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest"):
            parent.chmod(0o755)
    cache = _cache(tmp_path / "cache", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    with pytest.raises(EnvironmentFailed, match="The package index cannot be reached from this node"):
        await cache.ensure("2" * 64, "", ["six"], _quiet)
    built = await cache.ensure(key_of("", []), "", [], _quiet)
    assert "no pip" in built.warnings[0] and (built.path / "bin" / "python").exists(), "a run without packages works offline"


async def test_an_option_in_place_of_a_package_is_refused(folder: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="pip requirements"):
        await _cache(folder).ensure("3" * 64, "", ["--index-url=http://evil"], _quiet)


async def test_a_python_that_is_not_there_is_replaced_and_said(folder: Path) -> None:
    built = await _cache(folder).ensure(key_of("3.5", []), "3.5", [], _quiet)
    assert built.warnings[0].startswith("Python 3.5 is not on this node")


async def test_a_builds_code_sees_nothing_of_the_machine(folder: Path, tmp_path: Path) -> None:
    """An sdist runs code: it does so as the builder, without capabilities, and finds no secret."""
    tmp_path.chmod(0o755)
    secret = folder.parent / "secret"
    secret.write_text("SECRET")
    source = folder.parent / "links" / "evil-1.0"
    source.mkdir(parents=True)
    (source / "setup.py").write_text(
        "import os\nfrom setuptools import setup\n"
        f"facts = [os.getuid(), os.path.exists({str(secret)!r}), os.path.exists('/root'), os.path.exists({str(folder / 'ready')!r})]\n"
        "open('evil.py', 'w').write(f'facts = {facts}')\nsetup(name='evil', version='1.0', py_modules=['evil'])\n",
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    for path in (folder.parent, folder.parent / "links"):
        path.chmod(0o755)
    subprocess.run(["tar", "czf", "evil-1.0.tar.gz", "evil-1.0"], cwd=source.parent, check=True)
    shutil.rmtree(source)
    cache = _cache(folder, UV_FIND_LINKS=f"{folder.parent / 'links'} {os.environ.get('PIP_FIND_LINKS', '')}".strip().replace(" ", ","))
    key = key_of("", ["evil==1.0"])
    built = await cache.ensure(key, "", ["evil==1.0"], _quiet)
    facts: dict[str, object] = {}
    exec(next(built.path.glob("lib/python3*/site-packages/evil.py")).read_text(), facts)
    assert facts["facts"] == [BUILDER_UID if os.getuid() == 0 else os.getuid(), False, False, False]


def test_uvs_output_becomes_one_sentence() -> None:
    said = [
        "  x No solution found when resolving dependencies:",
        "  ╰─▶ Because nothing was not found in the package registry and you require nothing,",
    ]
    assert explain(said) == "The package nothing was not found in the package index; check its name in the environment's packages."
    assert explain([]) == "The environment could not be built; uv said nothing."
    assert explain(["error: boom"]) == "The environment could not be built: boom"

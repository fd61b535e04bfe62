"""The embedded Postgres: what it changes on the disk (nothing that was there), who may connect, and how it survives."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from adapters.postgres import cluster
from adapters.postgres.cluster import PostgresFailed, find_owner, unreachable
from adapters.postgres.embedded import PostgresServer
from tests.postgres_fixtures import temporary_folder

DEADLINE_SECONDS = 30
ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import asyncio, sys
from pathlib import Path
from adapters.postgres.embedded import PostgresServer
async def main():
    async with PostgresServer(Path(sys.argv[1]), fsync=False) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """The data of a fresh cluster, made once: initdb takes a while."""
    made = temporary_folder()
    yield cluster.prepare(made, fsync=False).data
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def empty() -> Iterator[Path]:
    made = temporary_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def folder(empty: Path, initialised: Path) -> Path:
    """A folder with a cluster in `pg/` that was never started."""
    (empty / "pg").mkdir()
    (empty / "pg").chmod(0o711)
    subprocess.run(["cp", "-a", initialised, empty / "pg" / "data"], check=True)
    return empty


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[PostgresServer]:
    async with PostgresServer(folder / "pg", fsync=False) as opened:
        yield opened


async def ask(dsn: str, query: str) -> object:
    """Asks until Postgres answers."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(dsn)
                try:
                    return await connection.fetchval(query)
                finally:
                    await connection.close()
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.01)


def wheel_folder() -> Path:
    found = importlib.util.find_spec(cluster.PACKAGE)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def modes(paths: Iterator[Path]) -> dict[Path, tuple[int, int, int]]:
    return {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in paths}


def existing(folder: Path) -> Iterator[Path]:
    """Everything on the way to the data and to the wheel, the wheel itself, and a neighbour of the data."""
    wheel = wheel_folder()
    yield from [folder / "neighbour", folder, *folder.parents, *wheel.parents]
    yield from (path for path in [wheel, *wheel.rglob("*")] if not path.is_symlink())


async def test_no_folder_that_existed_has_its_mode_or_owner_changed(empty: Path) -> None:
    (empty / "neighbour").mkdir(mode=0o700)
    before = modes(existing(empty))
    async with PostgresServer(empty / "deep" / "er" / "pg", fsync=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
    assert modes(existing(empty)) == before


async def test_data_and_socket_belong_to_postgres_alone(server: PostgresServer, folder: Path) -> None:
    for name in ("data", "socket"):
        seen = (folder / "pg" / name).stat()
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid) == (0o700, find_owner().uid)


async def test_it_listens_on_its_socket_only_and_knows_our_user_only(server: PostgresServer, folder: Path) -> None:
    assert await ask(server.dsn, "SHOW listen_addresses") == ""
    assert psutil.Process(server.pid).net_connections("inet") == []
    for process in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a session that has just ended
            assert process.net_connections("inet") == []
    rule = "type || ' ' || auth_method || ' ' || array_to_string(options, ',')"
    rules = await ask(server.dsn, f"SELECT array_agg({rule}) FROM pg_hba_file_rules")
    assert rules == ["local peer map=foldline"]


async def test_another_user_of_the_machine_is_not_let_in(server: PostgresServer) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(server.dsn, user="postgres")


async def test_commits_reach_the_disk_by_default(folder: Path) -> None:
    async with PostgresServer(folder / "pg") as server:
        assert await ask(server.dsn, "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"


async def test_it_stops_with_the_block_and_starts_again_on_the_same_data(folder: Path) -> None:
    async with PostgresServer(folder / "pg", fsync=False) as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        pid = server.pid
    assert not psutil.pid_exists(pid)
    async with PostgresServer(folder / "pg", fsync=False) as server:
        assert await ask(server.dsn, "SELECT value FROM kept") == 42


async def test_killed_it_is_started_again_and_keeps_what_was_committed(folder: Path) -> None:
    async with PostgresServer(folder / "pg") as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        first = server.pid
        os.kill(first, signal.SIGKILL)
        assert await ask(server.dsn, "SELECT value FROM kept") == 42
        assert server.pid != first


async def test_when_it_keeps_dying_the_block_ends_with_a_sentence(folder: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as failure:
        async with PostgresServer(folder / "pg", fsync=False, restarts_max=0) as server:
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.sleep(DEADLINE_SECONDS)
    assert "died 1 times" in str(failure.value.exceptions[0])
    assert [process for process in psutil.process_iter() if str(folder) in " ".join(_command(process))] == []


async def test_one_that_outlived_its_server_is_adopted(folder: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder / "pg")], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    said = ""
    while not said.strip().isdigit():
        said = await asyncio.to_thread(holder.stdout.readline)
    pid = int(said)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    async with PostgresServer(folder / "pg", fsync=False) as server:
        assert server.pid == pid
        assert await ask(server.dsn, "SELECT 1") == 1
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_pid_file_that_names_a_stranger_is_no_obstacle(folder: Path) -> None:
    async with PostgresServer(folder / "pg", fsync=False) as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS value")
    (folder / "pg" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}/pg/data\n1\n5432\n\n\n\nready\n")
    async with PostgresServer(folder / "pg", fsync=False) as server:
        assert server.pid != os.getpid()
        assert await ask(server.dsn, "SELECT value FROM kept") == 42


async def test_a_second_server_on_the_same_data_is_refused(server: PostgresServer, folder: Path) -> None:
    with pytest.raises(PostgresFailed, match="Another Foldline server uses"):
        await PostgresServer(folder / "pg").__aenter__()
    assert await ask(server.dsn, "SELECT 1") == 1


async def test_data_that_postgres_cannot_reach_is_refused_as_root_and_fine_for_a_user(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        with pytest.raises(PostgresFailed, match="cannot enter"):
            await PostgresServer(closed / "pg").__aenter__()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    else:
        async with PostgresServer(closed / "pg", fsync=False) as server:
            assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_long_path_gets_a_short_socket(folder: Path) -> None:
    long = folder / ("x" * 60) / ("y" * 60) / "pg"
    long.parent.mkdir(parents=True)
    (folder / "pg").rename(long)
    async with PostgresServer(long, fsync=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
        sockets = Path(server.dsn.partition("host=")[2])
        assert len(str(sockets)) < 90
    shutil.rmtree(sockets, ignore_errors=True)


async def test_a_copied_wheel_runs_from_where_it_was_copied_to(folder: Path) -> None:
    package = wheel_folder()
    copy = folder / "software"
    await asyncio.to_thread(cluster._copy_software, package, copy)
    programs = copy / cluster.PACKAGE / cluster.INSTALLATION / "bin"
    assert unreachable(programs, find_owner()) is None
    told = subprocess.run([programs / "postgres", "--version"], env={}, capture_output=True, text=True, check=True).stdout
    assert "PostgreSQL) 18" in told


async def test_it_runs_for_a_user_who_is_not_root(empty: Path) -> None:
    """As root, the whole thing again as `nobody`; as another user that is what every test here does."""
    if os.geteuid() != 0:
        assert not find_owner().switch
        return
    home = empty / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    holder = subprocess.Popen(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c", HOLD, str(home / "pg")],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert holder.stdout is not None
    said = ""
    while not said.strip().isdigit():
        said = await asyncio.to_thread(holder.stdout.readline)
        assert said, "the server of `nobody` ended"
    assert psutil.Process(int(said)).uids().real == 65534
    holder.terminate()
    holder.wait()
    holder.stdout.close()
    os.kill(int(said), signal.SIGINT)
    psutil.wait_procs([psutil.Process(int(said))] if psutil.pid_exists(int(said)) else [], timeout=DEADLINE_SECONDS)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


async def test_it_starts_though_nobody_has_reaped_the_one_that_was_killed(folder: Path) -> None:
    async with PostgresServer(folder / "pg", fsync=False) as server:
        lock = next((folder / "pg").rglob(".s.PGSQL.*.lock"))
        left = {path: path.read_text() for path in (lock, folder / "pg" / "data" / "postmaster.pid")}
        owner, old = lock.stat(), server.pid
    dead = subprocess.Popen(["true"])
    try:
        while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
        for path, text in left.items():
            path.write_text(text.replace(str(old), str(dead.pid), 1))
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)
        async with PostgresServer(folder / "pg", fsync=False) as server:
            assert await ask(server.dsn, "SELECT 1") == 1
    finally:
        dead.wait()

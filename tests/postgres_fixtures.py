"""A real Postgres for tests: one embedded server per test session, one fresh, migrated database per test.

A conftest imports what its tests ask for: `from tests.postgres_fixtures import database, dsn, postgres  # noqa: F401`.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from adapters.postgres.embedded import PostgresServer
from adapters.postgres.migrations import migrate
from adapters.postgres.pool import Database

TEMPLATE = "template_foldline"
COUNTER = itertools.count()
READY_SECONDS = 60


def temporary_folder() -> Path:
    """A folder under /tmp that the user of Postgres may pass through; its parents are left as they are."""
    folder = Path(tempfile.mkdtemp(prefix="foldline-test-"))
    folder.chmod(0o711)
    return folder


class ServerThread:
    """An embedded server in a loop of its own, so that it outlives the loop of each test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="postgres")
        self.dsn = ""

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS), "the embedded Postgres did not get ready"
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def database(self, name: str) -> str:
        return self.dsn.replace("/foldline?", f"/{quote(name)}?")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with PostgresServer(self._folder / "pg", fsync=False) as server:
            self.dsn = server.dsn
            connection = await asyncpg.connect(server.dsn)
            await connection.execute(f"CREATE DATABASE {TEMPLATE}")
            await connection.close()
            connection = await asyncpg.connect(self.database(TEMPLATE))
            await migrate(connection)
            await connection.close()
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[ServerThread]:
    """The session's server. Its folder goes when the session ends."""
    folder = temporary_folder()
    server = ServerThread(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def dsn(postgres: ServerThread) -> AsyncIterator[str]:
    """A fresh database with all migrations, gone after the test."""
    name = f"test_{next(COUNTER)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    await connection.close()
    yield postgres.database(name)
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn) as opened:
        yield opened

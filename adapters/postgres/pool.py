"""Connections to one Postgres: a pool whose failures are `Unavailable`, single connections, and a listener.

While Postgres is away every call raises Unavailable within a moment; when it is back, the next call connects anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any

import asyncpg
import structlog

from adapters.postgres.background import Background
from core.errors import Unavailable

log = structlog.get_logger()

CONNECTION_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, starting up
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 60.0
ACQUIRE_SECONDS = 10.0
PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)

Notified = Callable[[str], None]


class Database:
    """`async with Database(dsn) as database:` fits projections.database.Database."""

    def __init__(self, dsn: str, *, password: str | None = None, connections_max: int = 12) -> None:
        self._dsn, self._password, self._connections_max = dsn, password, connections_max
        self._pool: asyncpg.Pool[Any] | None = None
        self._channels: dict[str, Notified] = {}
        self._reconnected: list[Callable[[], None]] = []
        self._listening = False
        self._listener: asyncpg.Connection[Any] | None = None
        self._background = Background()

    async def __aenter__(self) -> Database:
        with unavailable():
            self._pool = await asyncpg.create_pool(
                self._dsn, password=self._password, min_size=1, max_size=self._connections_max,
                timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS, server_settings={"application_name": "foldline"},
                reset=_keep_session,
            )
        await self._background.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._background.close(kind, error, trace)
        finally:
            await self._close()

    async def connect(self) -> asyncpg.Connection[Any]:
        """A connection outside the pool, which the caller closes. Raises: Unavailable."""
        with unavailable():
            return await asyncpg.connect(
                self._dsn, password=self._password, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS,
                server_settings={"application_name": "foldline"},
            )

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any, None]:
        """A connection of the pool for the length of the block. Raises: Unavailable, also for what fails in the block."""
        with unavailable():
            async with self.pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                yield connection

    @property
    def pool(self) -> asyncpg.Pool[Any]:
        if self._pool is None:
            raise Unavailable("The database is not open.")
        return self._pool

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        async with self.acquire() as connection:
            rows: Sequence[Any] = await connection.fetch(query, *arguments)
            return rows

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        async with self.acquire() as connection:
            status: str = await connection.execute(query, *arguments)
            return status

    async def listen(self, channels: Mapping[str, Notified], reconnected: Callable[[], None]) -> None:
        """Calls back with each notification's payload from now on, and `reconnected` after a gap in which some were missed."""
        self._channels.update(channels)
        self._reconnected.append(reconnected)
        if not self._listening:
            self._listening, ready = True, asyncio.Event()
            self._background.start(self._listen(ready))
            await ready.wait()
        elif self._listener is not None and not self._listener.is_closed():
            with unavailable():
                for channel in channels:
                    await self._listener.add_listener(channel, self._notified)

    async def _listen(self, ready: asyncio.Event) -> None:
        """Keeps one connection that listens, for ever."""
        failures = 0
        while True:
            try:
                self._listener = await self.connect()
                closed = asyncio.Event()
                self._listener.add_termination_listener(lambda _, closed=closed: closed.set())
                for channel in list(self._channels):
                    await self._listener.add_listener(channel, self._notified)
                if ready.is_set():
                    for callback in self._reconnected:
                        callback()
                ready.set()
                failures = 0
                await closed.wait()
            except (Unavailable, *CONNECTION_ERRORS, asyncpg.InterfaceError) as error:
                log.warning("postgres.listener_lost", error=str(error))
            await asyncio.sleep(pause_seconds(failures))
            failures += 1

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._channels[channel](str(payload))

    async def _close(self) -> None:
        if self._listener is not None and not self._listener.is_closed():
            self._listener.terminate()
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=5)
            except (*CONNECTION_ERRORS, asyncpg.InterfaceError):
                self._pool.terminate()


@contextmanager
def unavailable() -> Iterator[None]:
    """Turns the failures of a connection into Unavailable."""
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise _away() from error
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # a mistake of ours in the use of asyncpg
            raise
        raise _away() from error


def _away() -> Unavailable:
    return Unavailable("The database cannot be reached at the moment; try again.")


async def _keep_session(_connection: Any) -> None:
    """Nothing to reset (an open transaction is rolled back by asyncpg): no statement of ours changes a pooled session."""


def pause_seconds(failures: int) -> float:
    """How long to wait before the next try."""
    return PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]

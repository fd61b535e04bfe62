"""One server for all tests of the API, with a workspace, its people, a run on a node, a model, and another tenant beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tests.adapters.http.live_server import LiveServer
from tests.adapters.http.world import World, make_world
from tests.postgres_fixtures import ServerThread, postgres, temporary_folder  # noqa: F401

DATABASE = "test_http"


@pytest.fixture(scope="session")
def server(postgres: ServerThread) -> Iterator[LiveServer]:  # noqa: F811
    async def create() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template_foldline")
        await connection.close()

    asyncio.run(create())
    live = LiveServer(postgres.database(DATABASE), temporary_folder())
    try:
        live.start()
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="session")
def world(server: LiveServer) -> World:
    return make_world(server)

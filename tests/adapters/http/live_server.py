"""The real app on a real uvicorn server, over a real Postgres, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import uvloop

from actors.actor import CaughtUp
from actors.desk import Desk
from adapters.blobs.files import FileBlobs
from adapters.clock import SystemClock
from adapters.http.admin import ensure_admin
from adapters.http.app import App, build_app
from adapters.http.server import http_server
from adapters.http.services import EdgeSettings, Services
from adapters.http.tokens import node_token, run_token
from adapters.postgres.log import PostgresLog
from adapters.postgres.measurements import PostgresMeasurements
from adapters.postgres.people import PeopleTable
from adapters.postgres.pool import Database
from adapters.vault.vault import open_vault
from core.execute import Executor
from core.ids import ActorId, CommandId, WorkspaceId, uuid7
from core.ports import Batch, Context
from projections.progress import Progress
from projections.rebuild import Rebuilder
from projections.runner import Runner
from tests.adapters.http.twins import MemoryGateway, MemoryServing

Result = TypeVar("Result")
READY_SECONDS = 60


@dataclass(slots=True)
class Made:
    """What lives in the server's loop."""

    services: Services
    app: App
    port: int
    admin_token: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class LiveServer:
    """Start it, ask it over HTTP or raw sockets, and run coroutines in its loop."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._dsn, self._folder = dsn, folder
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._made: Made | None = None
        self._thread = threading.Thread(target=self._run, name="http")

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS), "the server did not get ready"
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None and self._made is not None:
            self._loop.call_soon_threadsafe(self._made.stop.set)
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def made(self) -> Made:
        assert self._made is not None
        return self._made

    @property
    def services(self) -> Services:
        return self.made.services

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.made.port}"

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Runs in the server's loop and gives the result."""
        assert self._loop is not None

        async def do() -> Result:
            return await work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)

    def events(self) -> int:
        """How many records the log has."""
        async def count() -> int:
            return sum((await self.services.log.ends()).values())

        return self.run(count)

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        client = httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=20, verify=False)
        client.event_hooks = {"response": [lambda response: _remember(client, response)]}
        return client

    def command(self, workspace: str, command: Any) -> None:
        """Decides a command behind the API's back, as an actor does."""
        clock = self.services.clock
        identifier = CommandId(uuid7(int(clock.now().timestamp() * 1000), clock.random(10)))
        context = Context(actor=ActorId("actor/test"), command=identifier, correlation=identifier)
        self.run(lambda: self.services.executor.execute(WorkspaceId(workspace), command, context))

    def node_token(self, workspace: str, node: str) -> str:
        return node_token(self.services.vault, workspace, node)

    def run_token(self, workspace: str, run: str, attempt: int = 1) -> str:
        return run_token(self.services.vault, workspace, run, attempt)

    def raw(self, sent: bytes, *, wait_seconds: float = 5.0, close_writing: bool = False) -> bytes:
        """Everything that the server answers on one connection, until it closes it or falls silent."""
        with socket.create_connection(("127.0.0.1", self.made.port), timeout=wait_seconds) as connection:
            connection.sendall(sent)
            if close_writing:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionResetError):
                pass
        return received

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(_services(self._dsn, self._folder))
            app = build_app(services)
            path = await ensure_admin(services, self._folder / "secrets")
            port = await stack.enter_async_context(http_server(app, host="127.0.0.1", port=0))
            self._made = Made(services, app, port, path.read_text().strip())
            self._ready.set()
            await self._made.stop.wait()


@asynccontextmanager
async def _services(dsn: str, folder: Path) -> AsyncIterator[Services]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(Database(dsn))
        log = await stack.enter_async_context(PostgresLog(pool, clock))
        measurements = await stack.enter_async_context(PostgresMeasurements(pool, clock))
        progress = Progress()
        runner = Runner(pool, log, measurements, progress)
        await runner.prepare()
        desk = Desk(clock, shard_count=log.shards)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(runner.run()), tasks.create_task(_feed(desk, log))]
        settings = EdgeSettings(version="test", public_url="http://127.0.0.1", log_kind="postgres", body_seconds=1.0,
            sse_heartbeat_seconds=1.0)
        yield Services(
            settings=settings, executor=Executor(log), log=log, measurements=measurements, blobs=FileBlobs(folder / "blobs"),
            vault=await open_vault(pool, folder / "secrets" / "vault.key"), clock=clock, pool=pool, people=PeopleTable(pool), desk=desk,
                progress=progress,
            serving=MemoryServing(), gateway=MemoryGateway(), rebuilder=Rebuilder(pool, runner, progress),
        )
        for task in running:
            task.cancel()


async def _feed(desk: Desk, log: PostgresLog) -> None:
    """What the supervisor does for the desk."""
    for shard in range(log.shards):
        await desk.hear(CaughtUp(shard))
    async for batch in log.subscribe(dict.fromkeys(range(log.shards), 0)):
        await desk.hear(Batch(batch.shard, batch.recorded, batch.next_offset))


def _remember(client: httpx2.Client, response: httpx2.Response) -> None:
    """As our own client does: the position of the last write goes along with what follows."""
    position = response.headers.get("foldline-position")
    if position is not None:
        client.headers["Foldline-Position"] = position


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def problem(response: httpx2.Response) -> Mapping[str, Any]:
    """The problem+json of a refusal, checked in its shape."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: Mapping[str, Any] = json.loads(response.content)
    assert body["status"] == response.status_code
    assert isinstance(body["code"], str) and body["code"]
    return body



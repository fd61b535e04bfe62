"""Runs the application on uvicorn inside of the caller's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from adapters.http.app import App
from adapters.http.protocol import BoundedProtocol

STOP_SECONDS = 3.0
KEEP_ALIVE_SECONDS = 75
BACKLOG = 512
STARTED_POLL_SECONDS = 0.005


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process belongs to the composition root."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def http_server(
    app: App, *, host: str, port: int, certificate: Path | None = None, key: Path | None = None,
) -> AsyncIterator[int]:
    """Serves while the block lasts; gives the port. Port 0 takes a free one. Raises: OSError when the port is taken.

    On leaving: no new connections, followers are told to come back, then what is in flight gets `STOP_SECONDS`.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="on", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=int(STOP_SECONDS), backlog=BACKLOG,
        ssl_certfile=None if certificate is None else str(certificate), ssl_keyfile=None if key is None else str(key),
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listener]), name="http")
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn has a flag, not an event
                await asyncio.sleep(STARTED_POLL_SECONDS)
            if not server.started:
                raise RuntimeError("The HTTP server ended before it was ready; the log above says why.")
            yield int(listener.getsockname()[1])
        finally:
            app.live.end()
            server.should_exit = True
            await asyncio.wait({serving}, timeout=2 * STOP_SECONDS + 2)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener

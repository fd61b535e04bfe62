"""The scoring worker's process: `python -m foldline.serving.worker`.

Its surroundings say what to do: AML_APP_ROOT (the code folder), AZUREML_ENTRY_SCRIPT (a path in it),
FOLDLINE_SERVING_SOCKET (where to listen), SCORING_TIMEOUT_MS, WORKER_COUNT, FOLDLINE_CONCURRENT_MAX, FOLDLINE_BODY_BYTES_MAX.
The socket answers only after `init()`. SIGTERM drains: nothing new is accepted, what is in work is answered, then it ends with 0.
When it cannot serve it ends with 70, and the log's last line says why in a sentence after `foldline: `.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from foldline.serving.connection import Connection
from foldline.serving.script import ScriptFailed, initialise, load
from foldline.serving.service import Service
from foldline.serving.sharing import Door, from_channel, share

OpenDoor = Callable[[asyncio.AbstractEventLoop, Callable[[], asyncio.Protocol]], Awaitable[Door]]
FAILED = 70
BACKLOG = 1024
LAME_DUCK_SECONDS = 0.3
"""How long a kept-alive connection may still bring a request once the worker drains."""


@dataclass(frozen=True, slots=True)
class Setting:
    socket: str
    folder: Path
    entry: str
    timeout_seconds: float
    concurrent_max: int
    body_bytes_max: int
    processes: int

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Setting:
        """Raises: ScriptFailed when a number is none."""
        processes = _whole(variables, "WORKER_COUNT", 1, 64)
        concurrent = _whole(variables, "FOLDLINE_CONCURRENT_MAX", 32, 100_000)
        return cls(
            variables["FOLDLINE_SERVING_SOCKET"], Path(variables["AML_APP_ROOT"]), variables["AZUREML_ENTRY_SCRIPT"],
            _whole(variables, "SCORING_TIMEOUT_MS", 60_000, 86_400_000) / 1000, -(-concurrent // processes),
            _whole(variables, "FOLDLINE_BODY_BYTES_MAX", 16 * 1024 * 1024, 2**31), processes,
        )


def main() -> int:
    """One process, or WORKER_COUNT of them on one socket; the exit status tells whether it could serve."""
    sys.setswitchinterval(0.001)
    try:
        setting = Setting.read(os.environ)
        listener = _bound(setting.socket)
        if setting.processes == 1:
            return _reported(setting, partial(_listening, listener))
        return share(listener, setting.processes, BACKLOG, lambda channel: _reported(setting, partial(from_channel, channel)))
    except ScriptFailed as failure:
        return _failed(failure)


def serve(setting: Setting, open_door: OpenDoor) -> int:
    """Loads the script and answers who comes through the door until it is told to stop. Raises: ScriptFailed."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    script = load(setting.folder, setting.entry)
    initialise(script, loop.run_until_complete)
    service = Service(
        script, loop, concurrent_max=setting.concurrent_max, timeout_seconds=setting.timeout_seconds, body_bytes_max=setting.body_bytes_max,
    )
    gc.collect()
    gc.freeze()  # what init() made stays: no later collection looks at it again
    door = loop.run_until_complete(open_door(loop, lambda: Connection(service)))
    drain = Drain(service, door, loop)
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(drain.begin))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("foldline: ready", file=sys.stderr, flush=True)
    loop.run_forever()
    if service.threaded and not drain.done:
        print("foldline: run() takes its time; health is answered beside it from now on", file=sys.stderr, flush=True)
        thread = threading.Thread(target=loop.run_forever, name="foldline-loop")
        thread.start()
        service.work()
        thread.join()
    return 0


class Drain:
    """The orderly end: the door is closed, what is in work is answered, then the loop stops."""

    def __init__(self, service: Service, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._door, self._loop = service, door, loop
        self.done = False

    def begin(self) -> None:
        if self._service.draining:
            return
        self._service.draining = True
        self._door.close()
        self._loop.call_later(LAME_DUCK_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        for connection in tuple(self._service.connections):
            connection.close_idle()
        self._service.on_idle = self._end_if_idle
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._service.in_work and not self.done:
            self.done = True
            self._service.end_work()
            self._loop.call_soon(self._loop.stop)


async def _listening(listener: socket.socket, loop: asyncio.AbstractEventLoop, connection: Callable[[], asyncio.Protocol]) -> Door:
    return await loop.create_unix_server(connection, sock=listener, backlog=BACKLOG)


def _reported(setting: Setting, open_door: OpenDoor) -> int:
    try:
        return serve(setting, open_door)
    except ScriptFailed as failure:
        return _failed(failure)


def _failed(failure: ScriptFailed) -> int:
    print(f"foldline: {failure}", file=sys.stderr, flush=True)
    return FAILED


def _bound(path: str) -> socket.socket:
    """A bound Unix socket that the folder's group may connect to; listening starts with the service."""
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    return listener


def _whole(variables: Mapping[str, str], name: str, otherwise: int, largest: int) -> int:
    text = variables.get(name, "").strip() or str(otherwise)
    if not text.isdigit() or not 1 <= int(text) <= largest:
        raise ScriptFailed(f"{name} must be a whole number from 1 to {largest}, not {text[:50]!r}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

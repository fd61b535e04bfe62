"""WORKER_COUNT processes behind one socket: the parent accepts connections and hands them on in turn.

(Children that accept by themselves do not share evenly: whoever wakes first takes all that wait, and connections are kept alive.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from itertools import cycle
from typing import Protocol

CHANNEL_MESSAGE = b"c"


class Door(Protocol):
    """Where connections come from."""

    def close(self) -> None:
        """No more of them."""
        ...


class _Over(BaseException):
    """SIGTERM, or a child has ended."""


def share(listener: socket.socket, processes: int, backlog: int, serve: Callable[[socket.socket], int]) -> int:
    """Forks children that `serve` connections from their channel; listens once all are ready. The worst status is ours."""
    children = dict(_child(serve) for _ in range(processes))
    status = 0
    try:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, _over)
        ready = [channel.recv(1) for channel in children.values()]
        if all(ready):
            listener.listen(backlog)
            _hand_on(listener, list(children.values()))
    except _Over:
        pass
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    listener.close()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    for child in children:
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended != 0 and (status == 0 or ended > 0):
            status = ended if ended > 0 else 128 - ended
    return status


class ChannelDoor:
    """A child's end: each message brings a connection."""

    def __init__(self, channel: socket.socket, loop: asyncio.AbstractEventLoop, connection: Callable[[], asyncio.Protocol]) -> None:
        self._channel, self._loop, self._connection = channel, loop, connection
        self._arriving: set[asyncio.Task[object]] = set()
        channel.setblocking(False)
        loop.add_reader(channel, self._take)
        channel.send(CHANNEL_MESSAGE)

    def close(self) -> None:
        self._take()
        self._loop.remove_reader(self._channel)
        self._channel.close()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
                for descriptor in descriptors:
                    arrived = socket.socket(fileno=descriptor)
                    task = self._loop.create_task(self._arrive(arrived))  # held until it is done, which is at once
                    self._arriving.add(task)
                    task.add_done_callback(self._arriving.discard)
                if not message:
                    os.kill(os.getpid(), signal.SIGTERM)  # the parent is gone
                    return

    async def _arrive(self, arrived: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._connection, arrived)


async def from_channel(channel: socket.socket, loop: asyncio.AbstractEventLoop, connection: Callable[[], asyncio.Protocol]) -> Door:
    return ChannelDoor(channel, loop, connection)


def _child(serve: Callable[[socket.socket], int]) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        status = 70
        try:
            ours.close()
            status = serve(theirs)
        finally:
            os._exit(status)
    theirs.close()
    return child, ours


def _hand_on(listener: socket.socket, channels: list[socket.socket]) -> None:
    for channel in cycle(channels):
        connection, _ = listener.accept()
        with connection:
            socket.send_fds(channel, [CHANNEL_MESSAGE], [connection.fileno()])


def _over(*_: object) -> None:
    raise _Over

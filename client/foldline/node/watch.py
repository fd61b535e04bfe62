"""Tells at once when a file was written to: inotify, or, where there is none left, a timer."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

IN_MODIFY = 0x02
HEAD = struct.Struct("iIII")
REST_SECONDS = 0.01
"""After a wake-up the watch rests so long, so that a script that writes all the time does not keep the agent busy."""
TIMER_SECONDS = 0.1

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Callbacks per file; use within the running loop, and close it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[int, Callable[[], None]] = {}
        self._timed: dict[int, Callable[[], None]] = {}
        self._next = -1
        self._handle: asyncio.TimerHandle | None = None
        self._file = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._file >= 0:
            self._loop.add_reader(self._file, self._readable)

    def add(self, path: Path, callback: Callable[[], None]) -> int:
        """Calls back after each change; several changes may be one call. The number is for `remove`."""
        number = int(_libc.inotify_add_watch(self._file, os.fsencode(path), IN_MODIFY)) if self._file >= 0 else -1
        if number >= 0:
            self._wanted[number] = callback
            return number
        self._next -= 1
        self._timed[self._next] = callback
        if len(self._timed) == 1:
            self._loop.call_later(TIMER_SECONDS, self._tick)
        return self._next

    def remove(self, number: int) -> None:
        self._timed.pop(number, None)
        if self._wanted.pop(number, None) is not None and self._file >= 0:
            _libc.inotify_rm_watch(self._file, number)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wanted.clear()
        self._timed.clear()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._file, 1 << 16)
        except BlockingIOError:
            return
        at, seen = 0, set[int]()
        while at + HEAD.size <= len(data):
            number, _, _, length = HEAD.unpack_from(data, at)
            seen.add(number)
            at += HEAD.size + length
        for number in seen:
            if (callback := self._wanted.get(number)) is not None:
                callback()
        self._loop.remove_reader(self._file)
        self._handle = self._loop.call_later(REST_SECONDS, self._again)

    def _again(self) -> None:
        if self._file >= 0:
            self._loop.add_reader(self._file, self._readable)

    def _tick(self) -> None:
        for callback in list(self._timed.values()):
            callback()
        if self._timed:
            self._loop.call_later(TIMER_SECONDS, self._tick)

"""Says who held the event loop: a thread asks the loop for a beat, and looks at its stack when none comes in time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

import structlog

LIMIT_SECONDS = 0.05
PAUSE_SECONDS = 0.05
"""Between two beats; so what holds the loop for `LIMIT_SECONDS` and this is surely seen, at 20 wakes of an idle loop a second."""
QUIET_SECONDS = 10.0
FRAMES_MAX = 4
OURS = frozenset({"core", "projections", "actors", "adapters", "foldline"})

log = structlog.get_logger()


class LoopWatchdog:
    """`with LoopWatchdog(loop):` in the loop's own thread. Logs `loop.blocked`, at most once in `quiet_seconds`.

    `seconds` is how long the beat took, without the time in which the thread was ready and the machine had no processor for it.
    `cpu_seconds` is what it computed of that: when it is far less, the thread waited, for a system call or the interpreter's lock.
    `frames` are where it was after `limit_seconds`, innermost first: the very innermost, and the innermost ones of ours. `unsaid` are
    blocks since the last line.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, limit_seconds: float = LIMIT_SECONDS, pause_seconds: float = PAUSE_SECONDS,
        quiet_seconds: float = QUIET_SECONDS, monotonic: Callable[[], float] = time.monotonic,
        frames_of: Callable[[int], tuple[str, ...]] | None = None,
    ) -> None:
        self._loop, self._limit_seconds, self._pause_seconds, self._quiet_seconds = loop, limit_seconds, pause_seconds, quiet_seconds
        self._monotonic, self._frames_of = monotonic, frames_of or stack_of
        self._ident = threading.get_ident()
        self._processor_time = time.pthread_getcpuclockid(self._ident)
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._said_at: float | None = None
        self._unsaid = 0

    def __enter__(self) -> LoopWatchdog:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            beat, beaten_at = threading.Event(), list[float]()

            def answer(beat: threading.Event = beat, beaten_at: list[float] = beaten_at) -> None:
                beaten_at.append(self._monotonic())
                beat.set()

            began, computed, queued = self._monotonic(), time.clock_gettime(self._processor_time), self._queued_seconds()
            try:
                self._loop.call_soon_threadsafe(answer)
            except RuntimeError:  # the loop is closed
                return
            if beat.wait(self._limit_seconds):
                continue
            frames = self._frames_of(self._ident)
            if beat.is_set():
                frames = ()  # it ended meanwhile: this is somebody else
            while not beat.wait(self._limit_seconds):
                if self._ended.is_set():
                    return
            held = beaten_at[0] - began - (self._queued_seconds() - queued)
            if held >= self._limit_seconds:
                self._tell(held, time.clock_gettime(self._processor_time) - computed, frames)

    def _queued_seconds(self) -> float:
        """How long the loop's thread has been ready without a processor; 0 where the system does not tell."""
        try:
            return int(self._schedule.read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _tell(self, seconds: float, computed: float, frames: tuple[str, ...]) -> None:
        now = self._monotonic()
        if self._said_at is not None and now - self._said_at < self._quiet_seconds:
            self._unsaid += 1
            return
        log.warning(
            "loop.blocked", seconds=round(seconds, 3), cpu_seconds=round(computed, 3), frames=list(frames), unsaid=self._unsaid,
        )
        self._said_at, self._unsaid = now, 0


def stack_of(ident: int) -> tuple[str, ...]:
    """Where a thread is now, innermost first: its innermost frame, then the innermost ones of our own code."""
    frame = sys._current_frames().get(ident)
    found: list[str] = []
    while frame is not None and len(found) < FRAMES_MAX:
        if not found or str(frame.f_globals.get("__name__", "")).partition(".")[0] in OURS:
            found.append(_named(frame))
        frame = frame.f_back
    return tuple(found)


def _named(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno} {frame.f_code.co_qualname}"

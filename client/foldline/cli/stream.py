"""A run followed in the terminal: its states with their reasons on standard error, its log on standard output."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from foldline.answers import plain
from foldline.cli.session import note
from foldline.resources.follow import Interrupted, LogPiece, StatusChange

if TYPE_CHECKING:
    from foldline.resources.runs import Run

ENVIRONMENT_LOG = "system_logs/environment.txt"
WAITING = frozenset({"queued", "preparing", "preempted"})
COLORED = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f\x9b]")
"""Control characters that a log may not send to a terminal; colours stay."""


class Screen:
    """Where both go: keeps status lines from cutting into half a log line."""

    def __init__(self) -> None:
        self._middle_of_line = False
        self._terminal = sys.stdout.isatty()
        self._spinner: Any = None
        self._last = ""

    def log(self, text: str) -> None:
        self._rest()
        sys.stdout.write(COLORED.sub("", text) if self._terminal else text)
        sys.stdout.flush()
        self._middle_of_line = not text.endswith("\n")

    def state(self, status: str, why: str) -> None:
        """Says the state when it is news; while a person waits for the script to start, a spinner says it on."""
        line = f"{status:<12} {why}"
        if line == self._last:
            return
        self._last = line
        self._rest()
        self.note(line)
        if sys.stderr.isatty() and status in WAITING:
            from rich.console import Console
            from rich.status import Status

            self._spinner = Status(status, console=Console(stderr=True))
            self._spinner.start()

    def hint(self, text: str) -> None:
        """What the making of the environment says, beside the spinner."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if self._spinner is not None and lines:
            from rich.markup import escape

            self._spinner.update(f"{self._last.split()[0]}: {escape(COLORED.sub('', lines[-1])[:60])}")

    def note(self, sentence: str) -> None:
        self._rest()
        if self._middle_of_line and self._terminal:
            sys.stdout.write("\n")
            self._middle_of_line = False
        note(sentence)

    def close(self) -> None:
        self._rest()
        if self._middle_of_line:
            sys.stdout.write("\n" if self._terminal else "")
            sys.stdout.flush()

    def _rest(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


async def follow_to_end(run: Run) -> int:
    """Shows the run until it is final; returns the exit code. An interrupt ends the stream, never the run."""
    screen = Screen()
    try:
        return await _follow(run, screen)
    except asyncio.CancelledError:
        screen.note(
            f"\nThe stream ends here; run {run.name} goes on. `foldline job stream {run.name}` follows it again, "
            f"`foldline job cancel {run.name}` stops it."
        )
        raise
    finally:
        screen.close()


async def _follow(run: Run, screen: Screen) -> int:
    """States and log; where a person watches, what the making of the environment says too."""
    if not sys.stderr.isatty():
        return await _follow_states_and_log(run, screen)
    try:
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(_follow_environment(run, screen))
            code = await _follow_states_and_log(run, screen)
            beside.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return code


async def _follow_environment(run: Run, screen: Screen) -> None:
    async with aclosing(run.follow(ENVIRONMENT_LOG)) as happenings:
        async for happening in happenings:
            match happening:
                case LogPiece(text):
                    screen.hint(text)
                case StatusChange(status, _) if status not in WAITING:
                    return


async def _follow_states_and_log(run: Run, screen: Screen) -> int:
    lost: float | None = None
    async for happening in run.follow():
        match happening:
            case LogPiece(text):
                screen.log(text)
            case StatusChange(status, why):
                screen.state(status, why)
            case Interrupted(reason) if lost is None:
                lost = time.monotonic()
                screen.note(f"connection lost ({reason}); trying again, the run goes on")
        if lost is not None and not isinstance(happening, Interrupted):
            screen.note(f"connected again after {time.monotonic() - lost:.1f} s")
            lost = None
    await run.settle()
    answer = plain(run.answer)
    screen.state(run.status, run.why)
    seconds = answer.get("duration_seconds")
    took = f" after {seconds:.1f} s" if isinstance(seconds, int | float) else ""
    screen.note(f"Run {run.name} {run.status}{took}. {run.link}")
    return 0 if run.status == "completed" else 1

"""Progress of uploads and downloads: a bar where a person watches, nothing where a script does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foldline.transfers import Progress, Transfer

BAR_BYTES = 1 << 16
"""Transfers below this are over before a bar could be seen."""


@contextmanager
def bar(what: str) -> Iterator[Progress]:
    """A callback that draws a bar named `what` on standard error while there is something to move."""
    if not sys.stderr.isatty():
        yield _silent
        return
    drawn = _Bar(what)
    try:
        yield drawn
    finally:
        drawn.close()


def _silent(transfer: Transfer) -> None:
    return


class _Bar:
    """A rich bar, made (and rich imported) at the first transfer that is worth one."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._progress: Any = None

    def __call__(self, transfer: Transfer) -> None:
        if transfer.bytes_total < BAR_BYTES and transfer.files_total < 50:
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        if self._progress is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._progress = RichProgress(*columns, console=Console(stderr=True))
            self._progress.add_task(self._what, total=transfer.bytes_total)
            self._progress.start()
        words = f"{self._what} {transfer.files_done}/{transfer.files_total} files"
        self._progress.update(self._progress.task_ids[0], completed=transfer.bytes_done, total=transfer.bytes_total, description=words)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()

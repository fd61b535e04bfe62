"""The open client of one call of the command line: light answers, positions kept in a file between calls."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from foldline import configuration
from foldline.answers import light
from foldline.cli.options import Common

if TYPE_CHECKING:
    from foldline.client import Client, Workspace

PATIENCE_SECONDS = 10.0


@asynccontextmanager
async def server() -> AsyncIterator[Client]:
    """The configured server."""
    from foldline.client import Client
    from foldline.positions import InFile

    target = configuration.resolve()
    patience = configuration.patience_seconds(PATIENCE_SECONDS)
    async with Client(target, positions=InFile(configuration.file_of(), target.url), decode=light, patience_seconds=patience) as client:
        yield client


@asynccontextmanager
async def workspace(common: Common) -> AsyncIterator[Workspace]:
    """The chosen workspace of the configured server."""
    async with server() as client:
        yield client.workspace(common.workspace)


def note(sentence: str) -> None:
    """A line for the person, on standard error, so that standard output holds the answer alone."""
    sys.stdout.flush()
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def warn(sentences: list[str]) -> None:
    for sentence in sentences:
        note(f"warning: {sentence}")

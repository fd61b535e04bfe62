"""The fixtures `kit` and `opened`, for the conftests of serving and gateway."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.serving.kit import Kit, Opened, kit_over


@pytest.fixture(scope="session")
def environment_cache() -> Iterator[Path]:
    """Below a folder that every uid may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="foldline-environments-"))
    folder.chmod(0o755)
    yield folder / "environments"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def kit(environment_cache: Path) -> AsyncIterator[Kit]:
    """Over a folder of its own; whatever still runs there ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="foldline-serving-"))
    made = kit_over(folder, environment_cache)
    try:
        yield made
    finally:
        async with asyncio.timeout(30):
            gateway, pool = made.unopened()
            await pool.shut_down()
            await gateway.shut_down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def opened(kit: Kit) -> AsyncIterator[Opened]:
    async with kit.opened() as found:
        yield found

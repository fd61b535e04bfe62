"""A control plane and agents for it, each a process of its own as in life, ended with all that they run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from foldline.node.main import end
from tests.client.node.control_plane import TOKEN, ControlPlane, control_plane

QUICK = {"backoff_first_seconds": 0.02, "backoff_longest_seconds": 0.3, "pace_seconds": 0.02, "sample_seconds": 0.3, "refused_seconds": 0.5}


@dataclass
class Agents:
    """Starts agents on one directory, one after the other."""

    plane: ControlPlane
    folder: Path
    cache: Path
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        return self.folder / "node"

    async def start(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Returns once the agent has said hello."""
        before = len(self.plane.hellos)
        self.launch(**settings)
        await self.plane.until(lambda: len(self.plane.hellos) > before, 20, self.said())
        assert self.process is not None
        return self.process

    def launch(self, **settings: Any) -> None:
        self.settings |= settings
        config = {"server": self.plane.url, "token": TOKEN, "directory": str(self.directory), "slots": 1, "cache": str(self.cache)}
        path = self.folder / "config.json"
        path.write_text(json.dumps({**config, **QUICK, "log": str(self.folder / "agent.log"), **self.settings}))
        self.process = subprocess.Popen([sys.executable, "-m", "foldline.node", "--config", str(path)], start_new_session=True)

    def kill(self) -> None:
        """SIGKILL to the agent alone."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text()[-3000:] if path.exists() else ""


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """One cache for all agents of the session, as on one machine."""
    folder = Path(tempfile.mkdtemp(prefix="foldline-cache-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with control_plane() as found:
        yield found


@pytest.fixture
def agents(plane: ControlPlane, cache: Path) -> Iterator[Agents]:
    folder = Path(tempfile.mkdtemp(prefix="foldline-node-"))
    folder.chmod(0o711)
    found = Agents(plane, folder, cache)
    yield found
    end(found.directory)
    if found.process is not None:
        found.process.wait()
    shutil.rmtree(folder, ignore_errors=True)

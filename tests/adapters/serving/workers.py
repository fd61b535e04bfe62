"""Real scoring workers without a pool: a script in a folder, the worker's process on a Unix socket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

DEADLINE_SECONDS = 20.0


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    socket: Path
    log: Path

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        return httpx2.AsyncClient(transport=transport, base_url="http://worker", timeout=DEADLINE_SECONDS)

    async def said(self, text: str) -> None:
        """Waits until the worker's log holds the text."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while text not in self.log.read_text():
                await asyncio.sleep(0.005)

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def worker(
    folder: Path, script: str, variables: Mapping[str, str] | None = None, *, entry: str = "score.py", name: str = "worker",
) -> AsyncIterator[Worker]:
    """Starts it and waits until it answers, or has ended."""
    code = folder / f"code-{name}"
    code.mkdir()
    if entry == "score.py":
        (code / entry).write_text(script)
    found = Worker(await _process(folder, code, entry, name, variables or {}), folder / name, folder / f"{name}.log")
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "foldline: " not in found.log.read_text() and found.process.returncode is None:
                await asyncio.sleep(0.005)
        yield found
    finally:
        if found.process.returncode is None:
            found.process.kill()
        await found.process.wait()


async def _process(folder: Path, code: Path, entry: str, name: str, variables: Mapping[str, str]) -> asyncio.subprocess.Process:
    with (folder / f"{name}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "foldline.serving.worker", stdout=log, stderr=log,
            env={
                "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "AML_APP_ROOT": str(code), "AZUREML_ENTRY_SCRIPT": entry,
                "FOLDLINE_SERVING_SOCKET": str(folder / name), **variables,
            },
        )

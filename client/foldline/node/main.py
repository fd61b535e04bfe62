"""The agent as a process: its config, its lock, its signals; joining a server with a machine of one's own; ending a node."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldline.node import cgroups, journal, supervise
from foldline.node.folder import all_in, write_private
from foldline.node.launcher import Supervised
from foldline.node.settings import Settings, of, read

USAGE, BUSY = 2, 5
END_SECONDS = 5.0


class JoinFailed(Exception):
    """`str()` is a sentence for the person at the machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m foldline.node --config FILE.json`"""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 2 or words[0] != "--config":
        print("usage: python -m foldline.node --config FILE.json", file=sys.stderr)
        return USAGE
    try:
        settings = read(Path(words[1]))
    except ValueError as problem:
        print(f"foldline: {problem}", file=sys.stderr)
        return USAGE
    return serve(settings)


def serve(settings: Settings) -> int:
    """Runs the agent until it is released or told to end; the exit code. TERM and INT end the agent only: its runs go on."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    if settings.log is not None:
        file = os.open(settings.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(file, 2)
        os.close(file)
    with (settings.directory / "agent.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"foldline: another agent works in {settings.directory}.", file=sys.stderr)
            return BUSY
        write_private(settings.directory / "agent.pid", f"{os.getpid()} {supervise.start_time(os.getpid())}\n".encode())
        if (problem := unfit(settings)) is not None:
            print(f"foldline: {problem}", file=sys.stderr)
            return USAGE
        return asyncio.run(_until_told(settings))


def unfit(settings: Settings) -> str | None:
    """Why this machine or folder cannot run scripts, as a sentence; None when it can."""
    from foldline.node.interpreters import choose
    from foldline.node.sandbox import Sandbox, closed_parent

    interpreter, said = choose("", settings.python)
    if interpreter is None:
        return said[0]
    if os.getuid() == 0 and Sandbox.probe().kind == "none" and (closed := closed_parent(settings.directory / "runs")) is not None:
        return (
            f"Without bubblewrap scripts must reach {settings.directory}, but {closed} is closed to other users. "
            "Install bubblewrap, or take another directory."
        )
    return None


async def _until_told(settings: Settings) -> int:
    from foldline.node.agent import Agent

    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    agent, signalled = asyncio.ensure_future(Agent(settings).run()), asyncio.ensure_future(told.wait())
    await asyncio.wait({agent, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if agent.done():
        return agent.result()
    agent.cancel()
    await asyncio.wait({agent})
    journal.event("agent.ended", by="signal")
    return 0


def join(server: str, token: str, directory: Path | str, *, slots: int = 1, ca_file: str | None = None, python: str | None = None) -> int:
    """Makes this machine a node with a join token (good once), or goes on as the node that it is, and serves. Raises: JoinFailed."""
    folder = Path(directory).absolute()
    config = folder / "agent.json"
    if config.exists() and not token:
        return serve(read(config))
    given: dict[str, Any] = {"server": server.rstrip("/"), "directory": str(folder), "slots": slots, "ca_file": ca_file, "python": python}
    problem = unfit(of({**given, "token": ""}))
    if problem is not None:
        raise JoinFailed(problem)
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    node_token = asyncio.run(_joined(of({**given, "token": token})))
    write_private(config, json.dumps({**given, "token": node_token}, indent=1).encode())
    return serve(read(config))


async def _joined(settings: Settings) -> str:
    from foldline.node.agent import Agent, facts
    from foldline.node.http import Unanswered

    agent = Agent(settings)
    try:
        answer = await agent.server.request("POST", "/api/v1/nodes/join", data={"facts": facts(agent), "slots": settings.slots})
    except (Unanswered, ValueError) as problem:
        raise JoinFailed(f"{settings.server} does not answer: {problem}") from None
    finally:
        await agent.server.close()
    if not answer.ok:
        raise JoinFailed(answer.sentence)
    said = answer.json()
    print(f"This machine ({socket.gethostname()}, {platform.machine()}) is node {said['node']} of compute {said['compute']}.", flush=True)
    return str(said["token"])


def alive(directory: Path) -> bool:
    """Whether the directory's agent lives."""
    return _agent(directory) is not None


def end(directory: Path) -> None:
    """Ends the node: its agent, each supervising process and its script. Safe when nothing is there, and twice."""
    pid = _agent(directory)
    if pid is not None:
        supervise.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while _agent(directory) is not None and time.monotonic() < deadline:
            time.sleep(0.005)
    end_runs(directory)


def end_runs(directory: Path) -> None:
    """Kills every script of the node; twice, since an order may have been on its way."""
    for pause in (0.05, 0.0):
        for folder in all_in(directory / "runs"):
            Supervised(folder.control).kill()
            for pid in cgroups.processes(folder.cgroups):
                supervise.kill(pid, signal.SIGKILL)
        time.sleep(pause)
    for folder in all_in(directory / "runs"):
        cgroups.remove(folder.cgroups)
        folder.discard()
    shutil.rmtree(directory / "trash", ignore_errors=True)


def _agent(directory: Path) -> int | None:
    try:
        pid, started = (directory / "agent.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if supervise.start_time(int(pid)) == started else None

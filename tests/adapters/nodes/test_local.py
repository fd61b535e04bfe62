"""Local nodes, with real agents of which nothing answers: they live, are found again, and are gone when told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.nodes.local import LocalNodes, started_at
from core.errors import Conflict
from core.ids import WorkspaceId
from core.ports import NodeOrder

HOME = WorkspaceId("ws-0123456789ab")
SERVER = "http://127.0.0.1:9"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="foldline-nodes-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def provider(folder: Path, server: str = SERVER) -> LocalNodes:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return LocalNodes(folder / "nodes", server_url=server, cache=folder / "cache", environment=environment)


@pytest.fixture
async def nodes(folder: Path) -> AsyncIterator[LocalNodes]:
    found = provider(folder)
    yield found
    for workspace, node in await found.list():
        await found.stop(workspace, node, 99)


def order(epoch: int = 1, workspace: WorkspaceId = HOME) -> NodeOrder:
    return NodeOrder(workspace=workspace, compute="cpu", node="cpu-1", epoch=epoch, settings={"slots": "2"})


def pid(folder: Path) -> int:
    return int(json.loads((folder / "nodes/cpu-1/process.json").read_text())["pid"])


async def until_dead(process: int) -> None:
    async with asyncio.timeout(10):
        while started_at(process) is not None:
            await asyncio.sleep(0.01)


async def test_a_node_is_made_once_however_often_it_is_ordered(nodes: LocalNodes, folder: Path) -> None:
    await asyncio.gather(*(nodes.start(order(), "fln_secret") for _ in range(3)))
    first = pid(folder)
    await nodes.start(order(), "fln_secret")
    assert pid(folder) == first
    assert await nodes.list() == [(HOME, "cpu-1")]
    assert os.getsid(first) == first != os.getsid(0)


async def test_the_token_is_readable_by_the_servers_user_only(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    config = folder / "nodes/cpu-1/config.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert json.loads(config.read_text())["token"] == "fln_secret"
    assert b"fln_secret" not in Path(f"/proc/{pid(folder)}/cmdline").read_bytes()
    assert b"fln_secret" not in Path(f"/proc/{pid(folder)}/environ").read_bytes()


async def test_another_server_process_finds_the_node_again(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    later = provider(folder)
    assert await later.list() == [(HOME, "cpu-1")]
    first = pid(folder)
    await later.start(order(epoch=2), "fln_secret")
    assert pid(folder) == first


async def test_an_agent_that_was_killed_is_not_listed_and_is_started_again_in_its_folder(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    first = pid(folder)
    (folder / "nodes/cpu-1/kept").touch()
    os.kill(first, signal.SIGKILL)
    await until_dead(first)
    assert await nodes.list() == []
    await nodes.start(order(), "fln_secret")
    assert pid(folder) != first
    assert (folder / "nodes/cpu-1/kept").exists()
    assert await nodes.list() == [(HOME, "cpu-1")]


async def test_a_pid_that_was_given_to_another_process_is_not_the_agent(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    process = pid(folder)
    record = folder / "nodes/cpu-1/process.json"
    record.write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    assert await nodes.list() == []
    record.write_text(json.dumps({"pid": process, "started": started_at(process)}))
    assert await nodes.list() == [(HOME, "cpu-1")]


async def test_an_agent_of_a_server_that_moved_is_replaced_by_one_that_knows_the_new_address(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    first = pid(folder)
    moved = provider(folder, "http://127.0.0.1:19")
    assert await moved.list() == []
    await moved.start(order(), "fln_secret")
    assert pid(folder) != first
    await until_dead(first)
    assert await moved.list() == [(HOME, "cpu-1")]
    await moved.stop(HOME, "cpu-1", 1)


async def test_a_stopped_node_is_gone_with_its_folder_and_stopping_twice_is_fine(nodes: LocalNodes, folder: Path) -> None:
    await nodes.start(order(), "fln_secret")
    process = pid(folder)
    await nodes.stop(HOME, "cpu-1", 1)
    await nodes.stop(HOME, "cpu-1", 1)
    assert started_at(process) is None
    assert not (folder / "nodes/cpu-1").exists()
    assert await nodes.list() == []


async def test_an_older_owner_and_another_workspace_are_refused(nodes: LocalNodes) -> None:
    await nodes.start(order(epoch=3), "fln_secret")
    with pytest.raises(Conflict):
        await nodes.start(order(epoch=2), "fln_secret")
    with pytest.raises(Conflict):
        await nodes.stop(HOME, "cpu-1", 2)
    with pytest.raises(Conflict):
        await nodes.start(order(epoch=4, workspace=WorkspaceId("ws-other")), "fln_secret")


async def test_nodes_are_none_before_the_first_is_made(nodes: LocalNodes) -> None:
    assert await nodes.list() == []

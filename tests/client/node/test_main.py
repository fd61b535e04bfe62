"""The agent as a process: joining with a token for once, ending a node, and what an unfit machine is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sized
from functools import partial
from pathlib import Path

import pytest

from foldline.node import main
from foldline.node.http import Backoff, Server, Unanswered
from tests.client.node.conftest import Agents
from tests.client.node.control_plane import TOKEN, ControlPlane

JOIN = "import sys; from foldline.node.main import join; sys.exit(join(sys.argv[1], sys.argv[2], sys.argv[3]))"


async def test_a_machine_of_ones_own_joins_with_a_token_and_keeps_its_own(plane: ControlPlane, agents: Agents) -> None:
    for token in ("flj_once:secret", ""):
        agents.process = subprocess.Popen([sys.executable, "-c", JOIN, plane.url, token, str(agents.directory)], start_new_session=True)
        hellos = len(plane.hellos)
        await plane.until(partial(_more, plane.hellos, hellos), 20)
        agents.kill()
    config = agents.directory / "agent.json"
    assert json.loads(config.read_text())["token"] == TOKEN and config.stat().st_mode & 0o777 == 0o600


def _more(found: Sized, than: int) -> bool:
    return len(found) > than


async def test_a_used_join_token_is_refused_with_the_servers_sentence(plane: ControlPlane, agents: Agents) -> None:
    with pytest.raises(main.JoinFailed, match="was used"):
        await asyncio.to_thread(main.join, plane.url, "flj_once:wrong", agents.directory)
    assert not (agents.directory / "agent.json").exists()


async def test_a_python_under_a_closed_home_is_refused_at_join(plane: ControlPlane, agents: Agents, tmp_path: Path) -> None:
    python = tmp_path / "closed" / "python3"
    python.parent.mkdir(mode=0o700)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    with pytest.raises(main.JoinFailed, match="other users may not enter"):
        await asyncio.to_thread(lambda: main.join(plane.url, "flj_once:secret", agents.directory, python=str(python)))


async def test_two_agents_never_work_in_one_directory(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    first = agents.process
    agents.launch()
    assert agents.process is not None and await asyncio.to_thread(agents.process.wait, 20) == main.BUSY
    assert first is not None and first.poll() is None
    agents.process = first


async def test_ending_a_node_ends_its_agent_and_all_that_it_runs(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo up; setsid sleep 74.5 & sleep 74.5")
    await plane.until(lambda: "up" in seen.log, 30)
    assert main.alive(agents.directory)
    await asyncio.to_thread(main.end, agents.directory)
    assert not main.alive(agents.directory)
    assert subprocess.run(["pgrep", "-f", "sleep 74.5"], capture_output=True).returncode == 1
    assert not list((agents.directory / "runs").iterdir())
    await asyncio.to_thread(main.end, agents.directory)


def test_ending_a_node_never_kills_another_process_with_an_old_pid(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "30"])
    (tmp_path / "agent.pid").write_text(f"{other.pid} 1\n")
    main.end(tmp_path)
    assert other.poll() is None
    other.send_signal(signal.SIGKILL)
    other.wait()


def test_without_bubblewrap_a_closed_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from foldline.node.settings import of

    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: None if name == "bwrap" else f"/usr/bin/{name}")
    said = main.unfit(of({"server": "http://x", "token": "t", "directory": str(tmp_path / "closed" / "node")}))
    assert (said is not None and "Install bubblewrap" in said) == (os.getuid() == 0), "only root gives scripts another uid"


async def test_the_http_client_survives_a_connection_that_the_server_closed(plane: ControlPlane) -> None:
    server = Server(plane.url, TOKEN, backoff=Backoff(0.01, 0.05))
    path = "/api/v1/workspaces/ws-1/blobs/missing"
    assert (await server.request("POST", path, data={"digests": []})).json() == {"missing": []}
    await plane.down()
    with pytest.raises(Unanswered):
        await server.request("POST", path, data={"digests": []})
    await plane.up()
    assert (await server.request("POST", path, data={"digests": []})).ok
    await server.close()


async def test_the_http_client_reads_chunked_answers_and_gives_up_on_broken_ones() -> None:
    answers = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 nonsense\r\n\r\n",
        b"",
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listener:
        server = Server(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/prefix", "t")
        assert (await server.request("GET", "/x")).body == b"abcde"
        await server.close()
        assert (await server.request("GET", "/x")).status == 204
        await server.close()
        for _ in range(3):
            with pytest.raises(Unanswered):
                await server.request("GET", "/x")

"""The serving pool with real environments, sandboxes and workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from core.errors import Conflict, Invalid
from tests.adapters.serving.kit import ECHO, WORKSPACE, Kit, Opened, worker_pid


def direct(address: str) -> httpx2.AsyncClient:
    """To a worker's socket, as root or its own user may."""
    return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=address), base_url="http://worker", timeout=20)


async def test_a_replica_becomes_ready_and_answers_with_its_model(kit: Kit, opened: Opened) -> None:
    (status,) = await opened.run(await kit.order("r1", version="3"))
    assert (status.phase, status.reason, status.deployment, status.revision) == ("ready", "", "blue", 3)
    async with direct(status.address) as client:
        answer = (await client.post("/score", content="hello")).json()
    assert (answer["version"], answer["echo"]) == ("3", "hello")
    lines = await opened.pool.logs(WORKSPACE, "digits", "blue", 100)
    assert lines[0] == "==> r1 (revision 3, ready) <=="
    assert "foldline: ready" in lines


async def test_the_same_order_twice_makes_one_replica(kit: Kit, opened: Opened) -> None:
    order = await kit.order("r1")
    await opened.run(order)
    pid = opened.pid("r1")
    await opened.pool.start(order)
    assert len(await opened.pool.list()) == 1
    assert opened.pid("r1") == pid


async def test_a_lower_epoch_is_refused(kit: Kit, opened: Opened) -> None:
    await opened.run(await kit.order("r1", epoch=5))
    with pytest.raises(Conflict, match="epoch"):
        await opened.pool.start(await kit.order("r2", epoch=4))
    with pytest.raises(Conflict, match="epoch"):
        await opened.pool.stop(WORKSPACE, "r1", 4, 0)
    assert [status.phase for status in await opened.pool.list()] == ["ready"]
    await opened.pool.stop(WORKSPACE, "r1", 6, 0)
    assert await opened.pool.list() == []


async def test_a_name_that_would_climb_out_is_refused(kit: Kit, opened: Opened) -> None:
    order = await kit.order("r1")
    for bad in (replace(order, replica="../up"), replace(order, endpoint="../up"), replace(order, deployment="a/b")):
        with pytest.raises(Invalid):
            await opened.pool.start(bad)


async def test_a_stopped_replica_leaves_its_log_and_nothing_else(kit: Kit, opened: Opened) -> None:
    (status,) = await opened.run(await kit.order("r1", ECHO + "\nprint('a line of the script')\n"))
    pid = opened.pid("r1")
    await opened.pool.stop(WORKSPACE, "r1", 1, 5)
    await opened.pool.stop(WORKSPACE, "r1", 1, 5)
    assert await opened.pool.list() == []
    assert not Path(f"/proc/{pid}").exists()
    assert not (kit.folder / "serving" / WORKSPACE / "digits" / "r1").exists()
    assert not Path(status.address).parent.exists()
    lines = await opened.pool.logs(WORKSPACE, "digits", "blue", 100)
    assert lines[0] == "==> r1 (gone) <=="
    assert "a line of the script" in lines


async def test_stopping_lets_what_is_in_work_be_answered(kit: Kit, opened: Opened) -> None:
    script = "import time\ndef init(): pass\ndef run(raw):\n    print('begun', flush=True)\n    time.sleep(1)\n    return 'done'\n"
    (status,) = await opened.run(await kit.order("r1", script))
    async with direct(status.address) as client:
        held = asyncio.create_task(client.post("/score", content="1"))
        async with asyncio.timeout(10):
            while "begun" not in await opened.pool.logs(WORKSPACE, "digits", "blue", 10):
                await asyncio.sleep(0.01)
        await opened.pool.stop(WORKSPACE, "r1", 1, 10)
        assert (await held).json() == "done"


@pytest.mark.parametrize(("script", "sentence"), [
    ("def init(:\n", "The scoring script 'score.py' has a syntax error in line 1"),
    ("def init():\n    raise RuntimeError('no weights here')\ndef run(raw): return 1\n", "init() raised RuntimeError: no weights here."),
    ("import os\ndef init(): os._exit(5)\ndef run(raw): return 1\n", "The worker ended by itself with exit code 5."),
    ("import os\ndef init(): os.kill(os.getpid(), 11)\ndef run(raw): return 1\n", "The worker was killed by SIGSEGV."),
])
async def test_a_script_that_cannot_serve_fails_with_a_sentence_and_the_logs_tail(
    kit: Kit, opened: Opened, script: str, sentence: str,
) -> None:
    (status,) = await opened.run(await kit.order("r1", script))
    assert status.phase == "failed"
    first, *tail = status.reason.split("\n")
    assert first.startswith(sentence)
    assert tail
    assert status.address == ""


async def test_a_missing_script_package_or_blob_fails_with_a_sentence(kit: Kit, opened: Opened) -> None:
    damaged = await kit.order("r3", version="9")
    blob = next(path for path in (kit.folder / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"9")
    blob.chmod(0o600)
    blob.write_bytes(b"8")
    statuses = await opened.run(
        await kit.order("r1", scoring_script="nope.py"),
        await kit.order("r2", packages=("this-package-does-not-exist-anywhere==1",)),
        damaged,
        await kit.order("r4", model_manifest="0" * 64),
    )
    assert [status.phase for status in statuses] == ["failed"] * 4
    reasons = [status.reason.split("\n")[0] for status in statuses]
    assert reasons[0] == "The code folder holds no scoring script 'nope.py'."
    assert "this-package-does-not-exist-anywhere" in reasons[1]
    assert reasons[2] == "The file 'weights/version.txt' in the store does not match its hash; it is not used."
    assert "0" * 64 in reasons[3]


async def test_an_init_that_never_ends_is_ended(kit: Kit) -> None:
    async with kit.opened(start_limit_seconds=2.0) as opened:
        (status,) = await opened.run(await kit.order("r1", "import time\ndef init(): time.sleep(600)\ndef run(raw): return 1\n"))
        assert status.phase == "failed"
        assert status.reason.startswith("init() did not end within 2 seconds.")


async def test_a_killed_worker_is_seen_and_the_same_order_starts_it_again(kit: Kit, opened: Opened) -> None:
    order = await kit.order("r1")
    await opened.run(order)
    supervisor = opened.pid("r1")
    assert supervisor is not None
    os.kill(worker_pid(supervisor), signal.SIGKILL)
    status = await opened.until("r1", lambda status: status.phase == "failed")
    assert status.reason.startswith("The worker was killed by SIGKILL.")
    (again,) = await opened.run(order)
    assert again.phase == "ready"
    assert opened.pid("r1") != supervisor


async def test_killing_the_supervising_process_takes_the_worker_along(kit: Kit, opened: Opened) -> None:
    await opened.run(await kit.order("r1"))
    supervisor = opened.pid("r1")
    assert supervisor is not None
    worker = worker_pid(supervisor)
    os.kill(supervisor, signal.SIGKILL)
    status = await opened.until("r1", lambda status: status.phase == "failed")
    assert status.reason.startswith("The worker is gone")
    async with asyncio.timeout(5):
        while Path(f"/proc/{worker}").exists():
            await asyncio.sleep(0.01)


async def test_a_restarted_server_takes_up_what_runs(kit: Kit) -> None:
    async with kit.opened() as first:
        (before,) = await first.run(await kit.order("r1"))
        pid = first.pid("r1")
    async with direct(before.address) as client:
        assert (await client.get("/")).text == "Healthy"
    async with kit.opened() as second:
        assert await second.status("r1") == before
        assert second.pid("r1") == pid
        await second.pool.start(await kit.order("r1"))
        assert second.pid("r1") == pid
        with pytest.raises(Conflict):
            await second.pool.start(await kit.order("r2", epoch=0))
        os.kill(worker_pid(pid or 0), signal.SIGKILL)
        gone = await second.until("r1", lambda status: status.phase == "failed")
        assert gone.reason
        await second.pool.stop(WORKSPACE, "r1", 1, 0)
        assert await second.pool.list() == []


SPY = """
import json, os, socket
def init(): pass
def tried(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__
def run(raw):
    asked = json.loads(raw)
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return {
        "uid": os.getuid(), "groups": os.getgroups(), "caps": status["CapEff"].strip(), "bounding": status["CapBnd"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "read": {path: tried(lambda: open(path, "rb").read(10).decode("latin1")) for path in asked["paths"]},
        "listed": {path: tried(lambda: os.listdir(path)) for path in asked["folders"]},
        "connected": {path: tried(lambda: socket.socket(socket.AF_UNIX).connect(path)) for path in asked["sockets"]},
        "written": tried(lambda: open(os.environ["AZUREML_MODEL_DIR"] + "/x", "w").close()),
        "swapped": tried(lambda: os.rename(os.environ["FOLDLINE_SERVING_SOCKET"], os.environ["FOLDLINE_SERVING_SOCKET"] + "2")),
        "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "own": os.environ.get("GREETING"), "preload": os.environ.get("LD_PRELOAD"),
    }
"""


async def test_a_worker_sees_its_own_and_nothing_else(kit: Kit, opened: Opened) -> None:
    variables = {"GREETING": "hello 'world'\n$HOME", "LD_PRELOAD": "/tmp/evil.so", "AZUREML_MODEL_DIR": "/etc"}
    spy, other = await opened.run(await kit.order("spy", SPY, environment_variables=variables), await kit.order("other"))
    serving, gateway = kit.folder / "serving", kit.folder / "gateway"
    neighbour = serving / WORKSPACE / "digits" / "other"
    asked = {
        "paths": [str(neighbour / "order.json"), str(neighbour / "start"), str(gateway / "xds" / "routes" / "routes.json"),
                  str(serving / WORKSPACE / "digits" / "spy" / "order.json"), "/etc/shadow"],
        "folders": [str(gateway), str(neighbour), str(kit.folder / "blobs"), "/root"],
        "sockets": [other.address, str(gateway / "xds" / "admin.sock")],
    }
    async with direct(spy.address) as client:
        seen = (await client.post("/score", content=json.dumps(asked))).json()
    if os.geteuid() == 0:  # else all share our user, and the user namespace is the fence
        assert seen["uid"] >= 210_000
        assert seen["uid"] != Path(other.address).stat().st_uid
        assert seen["groups"] == []
        assert seen["swapped"] == "PermissionError"
    assert int(seen["caps"], 16) == int(seen["bounding"], 16) == 0
    assert seen["no_new_privileges"] == "1"
    assert set(seen["read"].values()) <= {"FileNotFoundError", "PermissionError"}
    assert set(seen["listed"].values()) <= {"FileNotFoundError", "PermissionError"}
    assert set(seen["connected"].values()) <= {"FileNotFoundError", "PermissionError"}
    assert seen["written"] in ("PermissionError", "OSError")
    assert len(seen["processes"]) < 10
    assert (seen["own"], seen["preload"]) == ("hello 'world'\n$HOME", "/tmp/evil.so")


async def test_a_deployments_variables_reach_the_worker_only(kit: Kit, opened: Opened) -> None:
    """LD_PRELOAD, say, must not be there while bubblewrap and setpriv run as root."""
    await opened.run(await kit.order("r1", environment_variables={"LD_PRELOAD": "/nowhere/evil.so"}))
    pid = opened.pid("r1")
    assert pid is not None
    chain = [pid]
    while children := Path(f"/proc/{chain[-1]}/task/{chain[-1]}/children").read_text().split():
        chain.append(int(children[0]))
    assert len(chain) >= 3
    for outer in chain[:-1]:
        assert b"evil.so" not in Path(f"/proc/{outer}/environ").read_bytes()
    assert b"evil.so" in Path(f"/proc/{chain[-1]}/environ").read_bytes()


async def test_nothing_of_a_worker_listens_on_tcp(kit: Kit, opened: Opened) -> None:
    await opened.run(await kit.order("r1"))
    pid = opened.pid("r1")
    assert pid is not None
    worker = worker_pid(pid)
    inodes = {str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            assert not (fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes)

"""The gateway: a real Envoy in front of real workers (without sandboxes: those are the pool's)."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from adapters.gateway import EnvoyGateway, GatewayUser
from core.errors import Invalid, Unavailable
from core.ports import Route
from tests.adapters.serving.kit import KEYS, route
from tests.adapters.serving.workers import Worker, worker

OURS = GatewayUser(os.geteuid(), os.getegid(), False)
"""Envoy as this user, so that it reaches pytest's folders."""
SLOW = "import time\ndef init(): pass\ndef run(raw):\n    time.sleep(float(raw))\n    return 'done'\n"


def named(name: str) -> str:
    return f"def init(): pass\ndef run(raw): return {name!r}\n"


def client(gateway: EnvoyGateway, key: str | None = KEYS[0]) -> httpx2.AsyncClient:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    base = gateway.scoring_uri("team", "digits").removesuffix("score")
    return httpx2.AsyncClient(base_url=base, headers=headers, timeout=20, trust_env=False)


@pytest.fixture
async def gateway() -> AsyncIterator[EnvoyGateway]:
    with tempfile.TemporaryDirectory(prefix="foldline-gateway-") as folder:
        async with EnvoyGateway(Path(folder), port=0, user=OURS, body_bytes_max=100_000) as made:
            try:
                yield made
            finally:
                await made.shut_down()


@pytest.fixture
async def blue(tmp_path: Path) -> AsyncIterator[Worker]:
    async with worker(tmp_path, "def init(): pass\ndef run(raw): return raw\n", name="blue") as found:
        yield found


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == answer.status_code
    assert content["request_id"] == answer.headers["x-request-id"] != ""
    return answer.status_code, content["code"]


async def test_only_a_key_of_the_endpoint_comes_through(gateway: EnvoyGateway, blue: Worker) -> None:
    await gateway.apply([route(("blue", 100, [str(blue.socket)]))])
    for key, status in ((None, 401), ("wrong", 401), (KEYS[0] + "x", 401), (KEYS[0].upper(), 401), (KEYS[0], 200), (KEYS[1], 200)):
        async with client(gateway, key) as caller:
            for answer in (await caller.post("score", content="1"), await caller.get("")):
                assert answer.status_code == status
                if status == 401:
                    assert problem(answer) == (401, "unauthenticated")
                    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_is_replaced_without_a_gap_and_on_open_connections(gateway: EnvoyGateway, blue: Worker) -> None:
    def served(*keys: str) -> Route:
        return route(("blue", 100, [str(blue.socket)]), keys=keys)

    await gateway.apply([served("old", "other")])
    async with client(gateway, "old") as before, client(gateway, "other") as other, client(gateway, "new") as after:
        assert [(await one.post("score")).status_code for one in (before, other, after)] == [200, 200, 401]
        done = asyncio.Event()

        async def keep_asking() -> set[int]:
            seen = set()
            while not done.is_set():
                seen.add((await other.post("score")).status_code)
            return seen

        asking = asyncio.create_task(keep_asking())
        await gateway.apply([served("new", "other")])
        assert [(await one.post("score")).status_code for one in (before, other, after)] == [401, 200, 200]
        done.set()
        assert await asking == {200}


async def test_the_workers_see_no_key_and_the_ids_come_back(gateway: EnvoyGateway, tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.05)  # longer than the time limit that the caller tries to set
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: r-1\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_unix_server(listen, str(tmp_path / "ear"))
    async with server, client(gateway) as caller:
        await gateway.apply([route(("blue", 100, [str(tmp_path / "ear")]))])
        answer = await caller.post("score?a=b", content=b"", headers={"x-request-id": "r-1", "x-envoy-upstream-rq-timeout-ms": "1"})
    assert (answer.status_code, answer.text) == (200, "{}")
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["azureml-model-deployment"] == "blue"
    head = heard[0].lower()
    assert head.startswith(b"post /score?a=b http/1.1\r\n")
    assert b"x-request-id: r-1" in head
    assert b"authorization" not in head and KEYS[0].encode() not in head and b"upstream-rq-timeout" not in head


async def test_requests_are_shared_out_as_told(gateway: EnvoyGateway, tmp_path: Path) -> None:
    async with worker(tmp_path, named("blue"), name="blue") as blue, worker(tmp_path, named("green"), name="green") as green:
        async def counted(blue_share: int) -> collections.Counter[str]:
            both = route(("blue", blue_share, [str(blue.socket)]), ("green", 100 - blue_share, [str(green.socket)]))
            await gateway.apply([both])
            async with client(gateway) as caller:
                answers = [await caller.post("score") for _ in range(150)]
            assert all(answer.json() == answer.headers["azureml-model-deployment"] for answer in answers)
            return collections.Counter(answer.json() for answer in answers)

        assert (await counted(100)) == {"blue": 150}
        assert 110 <= (await counted(90))["blue"] <= 149
        assert (await counted(0)) == {"green": 150}
        async with client(gateway) as caller:
            assert (await caller.post("score", headers={"azureml-model-deployment": "blue"})).json() == "blue"
            missing = await caller.post("score", headers={"azureml-model-deployment": "red"})
            assert problem(missing) == (404, "not_found")


async def test_what_is_not_there_is_said_in_problem_json(gateway: EnvoyGateway, blue: Worker, tmp_path: Path) -> None:
    unready = replace(route(("blue", 100, [])), endpoint="unready")
    idle = replace(route(), endpoint="idle")
    gone = replace(route(("blue", 100, [str(tmp_path / "nobody")])), endpoint="gone")
    await gateway.apply([route(("blue", 100, [str(blue.socket)])), unready, idle, gone])
    async with client(gateway) as caller:
        assert problem(await caller.post("../nothing/score")) == (404, "not_found")
        assert problem(await caller.get("../../..")) == (404, "not_found")
        assert problem(await caller.get("score")) == (405, "method_not_allowed")
        assert problem(await caller.post("")) == (405, "method_not_allowed")
        for endpoint in ("unready", "idle", "gone"):
            answer = await caller.post(f"../{endpoint}/score", content="1")
            assert problem(answer) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert str(tmp_path) not in answer.text
        assert problem(await caller.post("score", content=b"x" * 100_001)) == (413, "too_large")
        assert (await caller.post("score", content="x" * 99_000)).status_code == 200
    async with client(gateway, None) as stranger:
        assert problem(await stranger.post("score", content=b"x" * 100_001)) == (401, "unauthenticated")


async def test_a_worker_that_answers_too_late_is_a_504(gateway: EnvoyGateway, tmp_path: Path) -> None:
    async with worker(tmp_path, SLOW) as slow, client(gateway) as caller:
        await gateway.apply([route(("blue", 100, [str(slow.socket)]), timeout_seconds=0.3)])
        assert problem(await caller.post("score", content="1.5")) == (504, "scoring_timeout")


async def test_what_an_overloaded_replica_refuses_goes_to_another(gateway: EnvoyGateway, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one_each = {"FOLDLINE_CONCURRENT_MAX": "1"}
        replicas = [await stack.enter_async_context(worker(tmp_path, SLOW, one_each, name=f"r{n}")) for n in range(2)]
        for one in replicas:
            async with one.client() as direct:
                for _ in range(3):
                    await direct.post("/score", content="0.01")
            await one.said("health is answered beside it")
        await gateway.apply([route(("blue", 100, [str(one.socket) for one in replicas]))])
        caller = await stack.enter_async_context(client(gateway))
        answers = await asyncio.gather(*(caller.post("score", content="0.5") for _ in range(2)))
        assert [answer.status_code for answer in answers] == [200, 200]
        crowd = await asyncio.gather(*(caller.post("score", content="0.6") for _ in range(8)))
        statuses = collections.Counter(answer.status_code for answer in crowd)
        assert statuses[200] >= 2 and set(statuses) == {200, 503}
        refused = next(answer for answer in crowd if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "x-foldline-not-run" not in refused.headers


async def test_a_dead_replica_costs_nobody_an_answer(gateway: EnvoyGateway, tmp_path: Path) -> None:
    async with worker(tmp_path, named("a"), name="a") as a, worker(tmp_path, named("b"), name="b") as b, client(gateway) as caller:
        await gateway.apply([route(("blue", 100, [str(a.socket), str(b.socket)]))])
        assert {(await caller.post("score")).json() for _ in range(50)} == {"a", "b"}
        a.process.kill()
        await a.ended()
        answers = [await caller.post("score") for _ in range(50)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json() for answer in answers} == {"b"}


async def test_envoy_killed_comes_back_with_what_it_served(gateway: EnvoyGateway, blue: Worker) -> None:
    await gateway.apply([route(("blue", 100, [str(blue.socket)]))])
    first = gateway.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with client(gateway) as caller, asyncio.timeout(10):
        while True:
            try:
                answer = await caller.post("score", content="1")
            except httpx2.TransportError:
                await asyncio.sleep(0.01)
                continue
            break
        assert (answer.status_code, gateway.pid != first) == (200, True)
        await gateway.apply([route(("blue", 100, [str(blue.socket)]), keys=("new",))])
        assert (await caller.post("score", content="1")).status_code == 401


async def test_a_restarted_server_adopts_envoy_unless_its_fixed_settings_changed(blue: Worker) -> None:
    with tempfile.TemporaryDirectory(prefix="foldline-gateway-") as folder:
        def made(body_bytes_max: int = 1000) -> EnvoyGateway:
            return EnvoyGateway(Path(folder), port=0, user=OURS, body_bytes_max=body_bytes_max)

        served = [route(("blue", 100, [str(blue.socket)]))]
        async with made() as first:
            await first.apply(served)
            pid = first.pid
        async with client(first) as caller:
            assert (await caller.post("score", content="1")).status_code == 200
        async with made() as second, client(second) as caller:
            assert (second.pid, second.port) == (pid, first.port)
            assert (await caller.post("score", content="1")).status_code == 200
            before = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.json") if path.name != "bootstrap.json"}
            await second.apply(served)
            assert {path: path.stat().st_mtime_ns for path in before} == before
        async with made(2000) as third, client(third) as caller:
            assert third.pid != pid
            assert (await caller.post("score", content="1")).status_code == 200
        assert third.pid is not None and Path(f"/proc/{third.pid}").exists()
        await made().shut_down()
        async with asyncio.timeout(5):
            while Path(f"/proc/{third.pid}/exe").exists():
                await asyncio.sleep(0.01)


async def test_keys_and_the_admin_socket_are_for_envoys_user_only() -> None:
    with tempfile.TemporaryDirectory(prefix="foldline-gateway-") as folder:
        Path(folder).chmod(0o755)
        async with EnvoyGateway(Path(folder), port=0) as gateway:
            try:
                await gateway.apply([route()])
                xds = Path(folder) / "xds"
                assert stat.S_IMODE(xds.stat().st_mode) == 0o700
                for path in xds.rglob("*"):
                    mode = stat.S_IMODE(path.stat().st_mode)
                    assert mode & 0o077 == 0, (path, oct(mode))
                    assert path.stat().st_uid == gateway.user.uid
                assert Path(f"/proc/{gateway.pid}").stat().st_uid == gateway.user.uid
                assert gateway.user.own == (os.geteuid() == 0)
            finally:
                await gateway.shut_down()


async def test_a_taken_port_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory(prefix="foldline-gateway-") as folder:
        gateway = EnvoyGateway(Path(folder), port=taken.getsockname()[1], user=OURS)
        with pytest.raises(Unavailable, match="port"):
            await gateway.__aenter__()


async def test_what_envoy_refuses_changes_nothing(gateway: EnvoyGateway, blue: Worker) -> None:
    good = route(("blue", 100, [str(blue.socket)]))
    await gateway.apply([good])
    with pytest.raises(Unavailable, match="refused"):
        await gateway.apply([route(("blue", 100, ["/" + "x" * 200]))])
    async with client(gateway) as caller:
        assert (await caller.post("score", content="1")).status_code == 200
        await gateway.apply([replace(good, keys=("new",))])
        assert (await caller.post("score", content="1")).status_code == 401


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed pair for 127.0.0.1."""
    files = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1]),
    ], check=True, capture_output=True)
    return files


async def test_it_speaks_tls_and_takes_a_renewed_certificate_without_a_restart(tmp_path: Path, blue: Worker) -> None:
    with tempfile.TemporaryDirectory(prefix="foldline-gateway-") as folder:
        pids = set()
        for name in ("first", "renewed"):
            files = certificate(tmp_path, name)
            trust = ssl.create_default_context(cafile=str(files[0]))
            async with EnvoyGateway(Path(folder), port=0, user=OURS, certificate=files[0], key=files[1]) as gateway:
                await gateway.apply([route(("blue", 100, [str(blue.socket)]))])
                uri = gateway.scoring_uri("team", "digits")
                assert uri.startswith("https://127.0.0.1:")
                async with httpx2.AsyncClient(verify=trust, trust_env=False) as caller, asyncio.timeout(10):
                    while True:
                        try:
                            answer = await caller.post(uri, content="1", headers={"authorization": f"Bearer {KEYS[0]}"})
                            break
                        except httpx2.ConnectError:  # the renewed certificate is on its way
                            await asyncio.sleep(0.01)
                assert answer.status_code == 200
                with pytest.raises(httpx2.TransportError):
                    async with httpx2.AsyncClient(trust_env=False) as plain:
                        await plain.get(uri.replace("https:", "http:"))
                pids.add(gateway.pid)
        assert len(pids) == 1
        await gateway.shut_down()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_keys_never_cross_a_network_unencrypted(tmp_path: Path, host: str) -> None:
    with pytest.raises(Invalid):
        await EnvoyGateway(tmp_path / "g", host=host, port=0, user=OURS).__aenter__()
    assert not (tmp_path / "g").exists()


async def test_a_certificate_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    for files in ((first[0], second[1]), (tmp_path / "none", first[1])):
        with pytest.raises(Invalid, match="certificate"):
            await EnvoyGateway(tmp_path / "g", port=0, user=OURS, certificate=files[0], key=files[1]).__aenter__()

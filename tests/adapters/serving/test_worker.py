"""The scoring worker's contract, on real processes."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.adapters.serving.workers import worker

JSON = {"content-type": "application/json"}
SLOW = """
import json, os, pathlib, threading, time
def init(): pass
def run(raw):
    asked = json.loads(raw)
    if "gate" in asked:
        pathlib.Path(asked["gate"] + ".begun").touch()
        while not os.path.exists(asked["gate"]): time.sleep(0.002)
    else:
        time.sleep(asked.get("seconds", 0))
    return threading.current_thread() is threading.main_thread()
"""
ECHO = """
import json
def init():
    global ready
    ready = True
def run(raw_data):
    assert ready
    return {"echo": raw_data}
"""


async def test_it_answers_only_after_init(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    script = f"import os, time\ndef init():\n    print('foldline: in init', flush=True)\n    while not os.path.exists({str(gate)!r}):\n" \
             "        time.sleep(0.002)\ndef run(raw): return 1\n"
    async with worker(tmp_path, script) as found:
        with pytest.raises(OSError):
            await asyncio.open_unix_connection(str(found.socket))
        gate.touch()
        await found.said("foldline: ready")
        async with found.client() as client:
            answer = await client.get("/")
        assert (answer.status_code, answer.text) == (200, "Healthy")
        found.process.terminate()
        assert await found.ended() == 0


async def test_run_gets_the_body_as_text_and_its_result_goes_out_as_json(tmp_path: Path) -> None:
    async with worker(tmp_path, ECHO) as found, found.client() as client:
        answer = await client.post("/score", content='{"ä": 1}', headers=JSON)
        empty = await client.post("/score")
        chunked = await client.post("/score", content=_chunks(b'"a', b'b"'), headers=JSON)
    assert answer.json() == {"echo": '{"ä": 1}'}
    assert answer.headers["content-type"] == "application/json"
    assert empty.json() == {"echo": ""}
    assert chunked.json() == {"echo": '"ab"'}


async def test_an_async_run_and_init_are_awaited(tmp_path: Path) -> None:
    script = "import asyncio\nasync def init():\n    global n\n    await asyncio.sleep(0)\n    n = 7\n" \
             "async def run(raw):\n    await asyncio.sleep(0.05)\n    return n\n"
    async with worker(tmp_path, script) as found, found.client() as client:
        answers = await asyncio.gather(*(client.post("/score", content="1", headers=JSON) for _ in range(20)))
    assert [answer.json() for answer in answers] == [7] * 20


async def test_request_ids_are_echoed(tmp_path: Path) -> None:
    async with worker(tmp_path, ECHO) as found, found.client() as client:
        both = await client.post("/score", content="1", headers={"x-request-id": "req-1", "x-ms-request-id": "ms-2"})
        none = await client.post("/score", content="1")
        strange = await client.post("/score", content="1", headers={"x-request-id": "a b", "x-ms-request-id": "x" * 500})
    assert (both.headers["x-request-id"], both.headers["x-ms-request-id"]) == ("req-1", "ms-2")
    assert none.headers["x-request-id"] == none.headers["x-ms-request-id"] != ""
    assert strange.headers["x-request-id"] not in ("", "a b")


async def test_an_exception_is_a_500_whose_trace_is_in_the_log_only(tmp_path: Path) -> None:
    script = "def init(): pass\ndef run(raw):\n    if raw == 'exit': raise SystemExit(3)\n" \
             "    secret = 'hunter2'\n    raise ValueError(secret)\n"
    async with worker(tmp_path, script) as found, found.client() as client:
        answer = await client.post("/score", content="1", headers={"x-request-id": "req-9"})
        ended = await client.post("/score", content="exit")
        after = await client.get("/")
        await found.said("Request req-9 failed:\nTraceback")
        log = found.log.read_text()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "scoring_failed"
    assert answer.json()["request_id"] == "req-9"
    assert "hunter2" not in answer.text and "Traceback" not in answer.text
    assert "ValueError: hunter2" in log
    assert (ended.status_code, after.status_code) == (500, 200)


async def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    script = "import json\ndef init(): pass\ndef run(raw): return json.loads(raw)\n"
    async with worker(tmp_path, script, {"FOLDLINE_BODY_BYTES_MAX": "1000"}) as found, found.client() as client:
        async def code(method: str, path: str, content: bytes = b"{}", **headers: str) -> tuple[int, str]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await client.request(method, path, content=content, headers=named)
            return answer.status_code, answer.json()["code"]

        assert await code("POST", "/score", content_type="application/python-pickle") == (415, "unsupported_media_type")
        assert await code("POST", "/score", content_type="application/octet-stream") == (415, "unsupported_media_type")
        assert await code("POST", "/score", content_type="multipart/form-data; boundary=x") == (415, "unsupported_media_type")
        assert await code("POST", "/score", content_type="application/json; charset=utf-16") == (415, "unsupported_media_type")
        assert await code("POST", "/score", content_type="application/json", content_encoding="gzip") == (415, "unsupported_media_type")
        assert await code("POST", "/score", b"\xff\xfe", content_type="application/json") == (400, "not_utf8")
        assert await code("POST", "/score", b"{not json", content_type="application/json") == (400, "invalid_json")
        assert await code("POST", "/score", b"x" * 1001, content_type="text/plain") == (413, "too_large")
        assert await code("GET", "/score") == (405, "method_not_allowed")
        assert await code("POST", "/") == (405, "method_not_allowed")
        assert await code("GET", "/../etc/passwd") == (404, "not_found")
        assert await code("POST", "/score", b"", **{f"h{n}": "x" for n in range(250)}) == (431, "too_many_headers")
        chunked = await client.post("/score", content=_chunks(*[b"x" * 100] * 11), headers={"content-type": "text/csv"})
        assert chunked.status_code == 413
        fine = await client.post("/score", content='{"a": 1}', headers={"content-type": "application/vnd.x+json; charset=UTF-8"})
        assert fine.json() == {"a": 1}


@pytest.mark.parametrize("sent", [
    b"rubbish\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /score HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"\x16\x03\x01",
])
async def test_what_is_no_http_is_answered_with_400_or_closed(tmp_path: Path, sent: bytes) -> None:
    async with worker(tmp_path, ECHO) as found:
        reader, writer = await asyncio.open_unix_connection(str(found.socket))
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
        async with found.client() as client:
            assert (await client.get("/")).status_code == 200


async def test_a_slow_run_blocks_neither_health_nor_limits_and_keeps_its_thread(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with worker(tmp_path, SLOW, {"FOLDLINE_CONCURRENT_MAX": "2"}) as found, found.client() as client:
        for _ in range(3):
            assert (await client.post("/score", content='{"seconds": 0.02}', headers=JSON)).json() is True
        await found.said("health is answered beside it")
        held = asyncio.create_task(client.post("/score", content=json.dumps({"gate": str(gate)}), headers=JSON))
        await _exists(gate.with_name("gate.begun"))
        waiting = asyncio.create_task(client.post("/score", content="{}", headers=JSON))
        await asyncio.sleep(0.05)
        assert (await client.get("/")).text == "Healthy"
        refused = await client.post("/score", content="{}", headers=JSON)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "too_many_requests", "1")
        assert refused.headers["x-foldline-not-run"] == "1"
        gate.touch()
        assert (await held).json() is True
        assert (await waiting).json() is True


async def test_a_run_that_takes_too_long_is_answered_with_504(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with worker(tmp_path, SLOW, {"SCORING_TIMEOUT_MS": "200"}) as found, found.client() as client:
        for _ in range(3):
            await client.post("/score", content='{"seconds": 0.02}', headers=JSON)
        await found.said("health is answered beside it")
        late = await client.post("/score", content=json.dumps({"gate": str(gate)}), headers=JSON)
        assert (late.status_code, late.json()["code"]) == (504, "scoring_timeout")
        gate.touch()
        assert (await client.post("/score", content="{}", headers=JSON)).json() is True


async def test_an_async_run_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    script = "import asyncio\ndef init(): pass\nasync def run(raw):\n    try:\n        await asyncio.sleep(60)\n" \
             "    except asyncio.CancelledError:\n        print('was cancelled')\n        raise\n"
    async with worker(tmp_path, script, {"SCORING_TIMEOUT_MS": "100"}) as found, found.client() as client:
        late = await client.post("/score", content="1")
        assert late.status_code == 504
        await found.said("was cancelled")


@pytest.mark.parametrize("threaded", [True, False])
async def test_sigterm_lets_what_is_in_work_be_answered(tmp_path: Path, threaded: bool) -> None:
    gate = tmp_path / "gate"
    async with worker(tmp_path, SLOW) as found, found.client() as client:
        for _ in range(3 if threaded else 1):
            await client.post("/score", content='{"seconds": 0.02}', headers=JSON)
        if threaded:
            await found.said("health is answered beside it")
        held = asyncio.create_task(client.post("/score", content=json.dumps({"gate": str(gate)}), headers=JSON))
        await _exists(gate.with_name("gate.begun"))
        found.process.send_signal(signal.SIGTERM)
        if threaded:
            async with asyncio.timeout(5):
                while True:
                    try:
                        (await asyncio.open_unix_connection(str(found.socket)))[1].close()
                    except OSError:
                        break
                    await asyncio.sleep(0.01)
        gate.touch()
        answer = await held
        assert answer.json() is True
        assert await found.ended() == 0


async def test_several_processes_share_the_socket_and_end_together(tmp_path: Path) -> None:
    script = "import os, time\ndef init(): pass\ndef run(raw):\n    time.sleep(0.05)\n    return os.getpid()\n"
    async with worker(tmp_path, script, {"WORKER_COUNT": "2"}) as found, found.client() as client:
        pids: set[int] = set()
        async with asyncio.timeout(15):
            while len(pids) < 2:
                answers = await asyncio.gather(*(client.post("/score", content="1") for _ in range(6)))
                pids |= {answer.json() for answer in answers}
        found.process.terminate()
        assert await found.ended() == 0


@pytest.mark.parametrize(("script", "sentence"), [
    ("def init(:\n", "has a syntax error in line 1"),
    ("import nothing_of_that_name\n", "raised ModuleNotFoundError: No module named 'nothing_of_that_name' while it was imported."),
    ("def init(): raise RuntimeError('no weights')\ndef run(raw): return 1\n", "init() raised RuntimeError: no weights."),
    ("def init(): raise SystemExit(0)\ndef run(raw): return 1\n", "init() raised SystemExit: 0."),
    ("def init(): pass\n", "defines no function run(raw_data)."),
    ("init = 1\ndef run(raw): return 1\n", "`init` is no function."),
])
async def test_a_script_that_cannot_serve_says_why_in_its_last_line(tmp_path: Path, script: str, sentence: str) -> None:
    async with worker(tmp_path, script) as found:
        assert await found.ended() == 70
        last = found.log.read_text().splitlines()[-1]
    assert last.startswith("foldline: ") and sentence in last


@pytest.mark.parametrize("entry", ["missing.py", "../outside.py", "/etc/passwd"])
async def test_a_script_outside_the_code_folder_is_none(tmp_path: Path, entry: str) -> None:
    (tmp_path / "outside.py").write_text(ECHO)
    async with worker(tmp_path, ECHO, entry=entry) as found:
        assert await found.ended() == 70
        assert found.log.read_text().splitlines()[-1] == f"foldline: The code folder holds no scoring script {entry!r}."


async def _exists(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.005)


async def _chunks(*parts: bytes):  # type: ignore[no-untyped-def]  # an async generator of bytes
    for part in parts:
        yield part

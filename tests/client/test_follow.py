"""A run followed live: nothing missing, nothing twice, whatever happens to the connection."""

from __future__ import annotations

import base64
import json

import pytest

from foldline.answers import light
from foldline.configuration import Target
from foldline.connection import Connection
from foldline.problems import NotLoggedIn, RunNotSuccessful, ServerUnavailable
from foldline.resources.follow import Interrupted, LogPiece, StatusChange, follow
from foldline.resources.runs import Jobs, Run
from tests.client.scripted_server import Answer, ScriptedServer, problem
from tests.client.test_connection import Clock

LOG = "workspaces/lab/jobs/r/log"
STREAM = {"Content-Type": "text/event-stream"}
END = b'id: 9\nevent: end\ndata: {"status": "completed"}\n\n'


def event(name: str, identifier: str = "", **data: object) -> bytes:
    head = f"id: {identifier}\n" if identifier else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def piece(offset: int, text: bytes, attempt: int = 1) -> bytes:
    return event("log", str(offset + len(text)), offset=offset, data64=base64.b64encode(text).decode(), attempt=attempt)


def status(name: str) -> bytes:
    return event("status", status=name, why=f"It is {name}.")


def stream(*chunks: bytes, drop: bool = False) -> Answer:
    return Answer(b": beat\n\n" + b"".join(chunks), headers=STREAM, drop=drop)


def connection(server: ScriptedServer) -> Connection:
    return Connection(Target(server.url), decode=light, patience_seconds=0.2)


async def heard(server: ScriptedServer, clock: Clock | None = None) -> list[object]:
    clock = clock or Clock()
    async with connection(server) as open_connection:
        return [one async for one in follow(open_connection, LOG, patience_seconds=60, sleep=clock.sleep, now=clock.now)]


def text_of(happenings: list[object]) -> str:
    return "".join(one.text for one in happenings if isinstance(one, LogPiece))


async def test_states_and_log_come_in_order(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(status("running"), piece(0, b"one\n"), piece(4, b"two\n"), status("completed"), END))
    assert await heard(server) == [
        StatusChange("running", "It is running."),
        LogPiece("one\n"),
        LogPiece("two\n"),
        StatusChange("completed", "It is completed."),
    ]


async def test_a_broken_stream_is_resumed_where_it_broke(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(piece(0, b"one\n"), drop=True), stream(piece(4, b"two\n"), END))
    found = await heard(server)
    assert text_of(found) == "one\ntwo\n"
    assert sum(isinstance(one, Interrupted) for one in found) == 1
    first, second = server.requests("GET", LOG)
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "4"
    assert second.headers["accept"] == "text/event-stream"


async def test_what_comes_again_is_not_told_again(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(piece(0, b"one\ntw"), drop=True), stream(piece(0, b"one\n"), piece(4, b"two\n"), END))
    assert text_of(await heard(server)) == "one\ntwo\n"


async def test_a_next_attempt_s_log_begins_anew(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(piece(0, b"first\n"), piece(0, b"second\n", attempt=2), END))
    assert text_of(await heard(server)) == "first\nsecond\n"


async def test_a_cut_follower_goes_on_without_a_word(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(piece(0, b"one\n"), event("cut", "4", resume="4")), stream(piece(4, b"two\n"), END))
    found = await heard(server)
    assert text_of(found) == "one\ntwo\n"
    assert not any(isinstance(one, Interrupted) for one in found)


async def test_letters_that_are_split_between_pieces_stay_whole(server: ScriptedServer) -> None:
    raw = "größe 🎲\n".encode()
    server.on("GET", LOG, stream(*(piece(at, raw[at : at + 1]) for at in range(len(raw))), END))
    assert text_of(await heard(server)) == "größe 🎲\n"


async def test_a_server_that_stays_away_ends_the_following_not_the_run(server: ScriptedServer) -> None:
    clock = Clock()
    server.on("GET", LOG, Answer(problem(503, "unavailable", "Not now."), 503))
    with pytest.raises(ServerUnavailable, match="run itself is not touched"):
        await heard(server, clock)
    assert clock.time > 60


async def test_a_credential_that_was_taken_away_ends_the_following(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(piece(0, b"one\n"), event("closing")), Answer(problem(401, "unauthenticated", "No."), 401))
    with pytest.raises(NotLoggedIn):
        await heard(server)


async def test_an_event_that_cannot_be_read_is_passed_over(server: ScriptedServer) -> None:
    server.on("GET", LOG, stream(b"event: log\ndata: nonsense\n\n", event("new-kind", a=1), piece(0, b"one\n"), END))
    assert text_of(await heard(server)) == "one\n"


def a_run(name: str = "r", state: str = "running") -> dict[str, object]:
    return {"name": name, "status": state, "why": f"It is {state}."}


async def test_logs_are_whole_lines(server: ScriptedServer) -> None:
    server.on("GET", "workspaces/lab/jobs/r", Answer(a_run()))
    server.on("GET", LOG, stream(piece(0, b"on"), piece(2, b"e\ntwo\nthr"), piece(11, b"ee"), END))
    async with connection(server) as open_connection:
        run = await Jobs(open_connection, "lab").get("r")
        assert [line async for line in run.logs()] == ["one", "two", "three"]


async def test_waiting_ends_with_the_run_and_tells_a_failure_when_asked(server: ScriptedServer) -> None:
    server.on("GET", "workspaces/lab/jobs/r", Answer(a_run(state="failed")))
    server.on("GET", LOG, stream(status("running"), status("failed"), END))
    async with connection(server) as open_connection:
        run = Run(open_connection, "lab", light("jobs.Run", a_run()))
        assert (await run.wait()).status == "failed"
        with pytest.raises(RunNotSuccessful, match="Run r failed: It is failed"):
            await run.wait(check=True)


async def test_a_log_longer_than_one_answer_is_read_to_its_end(server: ScriptedServer) -> None:
    headers = {"Foldline-Log-Length": "7"}
    server.on("GET", LOG, Answer(b"one\n", headers=headers), Answer(b"two", headers=headers))
    async with connection(server) as open_connection:
        run = Run(open_connection, "lab", light("jobs.Run", a_run()))
        assert await run.log_text() == "one\ntwo"
    assert [asked.query["offset"] for asked in server.requests("GET", LOG)] == [["0"], ["4"]]

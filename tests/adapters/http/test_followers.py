"""Live readers: nothing missing, nothing twice, an end, and a place to resume from."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import pytest

from core.events import Event
from core.ids import ActorId, CommandId, Stream, WorkspaceId
from core.ports import Commit, Context, StreamWrite
from core.runs import GiveUpRun, MarkRunUnreachable, PlaceRun
from tests.adapters.http.live_server import LiveServer
from tests.adapters.http.world import PROTOCOL, World, make_user, ok, submit
from tests.postgres_fixtures import dsn, temporary_folder  # noqa: F401

SSE = {"Accept": "text/event-stream"}
NAME = "user_logs/std_log.txt"


@dataclass(frozen=True, slots=True)
class Seen:
    name: str
    identifier: str
    data: dict[str, Any]

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.data["data64"])


def seen(response: httpx2.Response) -> Iterator[Seen]:
    """The stream's events as they come."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line == "" and fields:
            yield Seen(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        elif line and not line.startswith(":"):
            key, _, value = line.partition(": ")
            fields[key] = value


class Agent:
    """Reports of one run, as its node sends them."""

    def __init__(self, server: LiveServer, world: World, run: str, attempt: int = 1) -> None:
        self._client = server.client(world.ours.node_token)
        self._client.headers.update(PROTOCOL)
        self._run, self._attempt, self._sequence, self._offset = run, attempt, 0, 0

    def started(self) -> None:
        self._post("started", {"environment_key": "0" * 64, "environment_cached": True, "sandbox": "none", "preparing_seconds": 0.0})

    def log(self, content: bytes) -> None:
        self._sequence += 1
        query = f"attempt={self._attempt}&source={self._attempt}/std_log&sequence={self._sequence}&name={NAME}&offset={self._offset}"
        ok(self._client.post(f"/agent/runs/{self._run}/log?{query}", content=content), 204)
        self._offset += len(content)

    def points(self, sequence: int, **columns: Any) -> None:
        self._post("points", {"source": f"{self._attempt}/points", "sequence": sequence, **columns})

    def ended(self, **more: Any) -> None:
        self._post("exited", {"exit_code": 0})
        self._post("ended", {"outcome": "completed", "reason": "succeeded", "message": "", "exit_code": 0, **more})

    def _post(self, what: str, sent: dict[str, Any]) -> None:
        ok(self._client.post(f"/agent/runs/{self._run}/{what}", json={"attempt": self._attempt, **sent}), 204)


@pytest.fixture
def run(server: LiveServer, world: World) -> str:
    """A run that has just been placed."""
    made = submit(server, world.ours.owner, "ours")
    server.command(world.ours.id, PlaceRun(run=made, node=world.ours.node, reason="test"))
    return made


def test_a_follower_sees_each_state_and_each_line_once_and_then_the_end(server: LiveServer, world: World, run: str) -> None:
    agent = Agent(server, world, run)
    with world.client(world.ours.reader) as client, client.stream("GET", f"/workspaces/ours/jobs/{run}/log", headers=SSE) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = seen(response)
        first = next(stream)
        assert (first.name, first.data["status"]) == ("status", "preparing")
        agent.started()
        assert next(stream).data["status"] == "running"
        for number in range(5):
            agent.log(f"line {number}\n".encode())
            piece = next(stream)
            assert piece.name == "log"
            assert piece.content == f"line {number}\n".encode()
        agent.ended()
        rest = list(stream)
    assert [one.data["status"] for one in rest if one.name == "status"] == ["finalizing", "completed"]
    assert rest[-1].name == "end"
    assert rest[-1].data["complete"] is True
    assert rest[-1].data["exit_code"] == 0
    assert rest[-1].data["offset"] == 35
    with world.client(world.ours.reader) as client:
        client.headers["Foldline-Position"] = rest[-1].data["position"]
        assert client.get(f"/workspaces/ours/jobs/{run}").json()["status"] == "completed"


def test_a_follower_that_comes_late_gets_the_whole_log_and_one_that_resumes_gets_the_rest(
    server: LiveServer, world: World, run: str,
) -> None:
    agent = Agent(server, world, run)
    agent.started()
    agent.log(b"first\n")
    with world.client(world.ours.reader) as client:
        with client.stream("GET", f"/workspaces/ours/jobs/{run}/log", headers=SSE) as response:
            piece = next(one for one in seen(response) if one.name == "log")
            assert piece.content == b"first\n"
            assert piece.identifier == "6"
        agent.log(b"second\n")
        agent.log(b"third\n")
        agent.ended()
        with client.stream("GET", f"/workspaces/ours/jobs/{run}/log", headers={**SSE, "Last-Event-ID": piece.identifier}) as response:
            rest = list(seen(response))
        assert b"".join(one.content for one in rest if one.name == "log") == b"second\nthird\n"
        assert rest[-1].name == "end"
        with client.stream("GET", f"/workspaces/ours/jobs/{run}/log?offset=14", headers=SSE) as response:
            assert b"".join(one.content for one in seen(response) if one.name == "log") == b"hird\n"
        plain = client.get(f"/workspaces/ours/jobs/{run}/log")
        assert plain.content == b"first\nsecond\nthird\n"
        assert plain.headers["content-type"].startswith("text/plain")
        assert plain.headers["foldline-log-length"] == "19"


def test_a_log_that_comes_out_of_order_is_followed_in_order(server: LiveServer, world: World, run: str) -> None:
    agent = Agent(server, world, run)
    agent.started()
    lines = [f"{number:04}\n".encode() for number in range(200)]
    with world.client(world.ours.reader) as client, client.stream("GET", f"/workspaces/ours/jobs/{run}/log", headers=SSE) as response:
        stream = seen(response)
        next(stream)
        for line in lines:
            agent.log(line)
        agent.ended()
        assert b"".join(one.content for one in stream if one.name == "log") == b"".join(lines)


def test_a_second_attempt_is_followed_from_its_beginning(server: LiveServer, world: World) -> None:
    made = submit(server, world.ours.owner, "ours", retries_on_node_lost=1)
    place = PlaceRun(run=made, node=world.ours.node, reason="test")
    server.command(world.ours.id, place)
    Agent(server, world, made).started()
    Agent(server, world, made).log(b"lost\n")
    with world.client(world.ours.reader) as client, client.stream("GET", f"/workspaces/ours/jobs/{made}/log", headers=SSE) as response:
        stream = seen(response)
        assert next(one for one in stream if one.name == "log").content == b"lost\n"
        server.command(world.ours.id, MarkRunUnreachable(run=made, attempt=1, silent_seconds=15))
        server.command(world.ours.id, GiveUpRun(run=made, attempt=1, message="gone"))
        server.command(world.ours.id, place)
        second = Agent(server, world, made, attempt=2)
        second.started()
        second.log(b"again\n")
        second.ended()
        rest = list(stream)
    pieces = [one for one in rest if one.name == "log"]
    assert [one.content for one in pieces] == [b"again\n"]
    assert pieces[0].identifier == "2:6"
    assert [one.data["status"] for one in rest if one.name == "status"][:2] == ["unreachable", "queued"]


def test_a_canceled_run_that_never_ran_ends_at_once(server: LiveServer, world: World) -> None:
    made = submit(server, world.ours.owner, "ours")
    with world.client(world.ours.owner) as client:
        ok(client.post(f"/workspaces/ours/jobs/{made}/cancel"), 202)
        with client.stream("GET", f"/workspaces/ours/jobs/{made}/log", headers=SSE) as response:
            events = list(seen(response))
    assert [one.name for one in events] == ["status", "end"]
    assert events[-1].data["status"] == "canceled"


def test_there_is_no_stream_of_a_run_that_is_not_there(world: World) -> None:
    with world.client(world.ours.reader) as client:
        assert client.get("/workspaces/ours/jobs/not-there/log", headers=SSE).status_code == 404


def test_events_come_from_the_beginning_without_gaps_and_go_on_live(server: LiveServer, world: World) -> None:
    with world.client(world.ours.reader) as client, client.stream("GET", "/workspaces/ours/events", headers=SSE) as response:
        stream = seen(response)
        made = submit(server, world.ours.owner, "ours")
        got: list[Seen] = []
        for one in stream:
            got.append(one)
            if one.data["subject"] == f"run/{made}":
                break
        assert [int(one.identifier) for one in got] == list(range(1, len(got) + 1))
        assert got[0].data["type"] == "foldline.workspace-created"
        last = got[-1].data
        assert last["specversion"] == "1.0"
        assert last["type"] == "foldline.run-submitted"
        assert last["id"] == f"{world.ours.id}/{len(got)}"
    resume = {**SSE, "Last-Event-ID": str(len(got) - 1)}
    with world.client(world.ours.reader) as client, client.stream("GET", "/workspaces/ours/events", headers=resume) as response:
        assert next(seen(response)).data["id"] == last["id"]


def test_a_follower_that_lost_its_membership_is_cut_off_within_five_seconds(server: LiveServer, world: World) -> None:
    user, token = make_user(server, "leaver")
    with world.client(world.ours.owner) as owner:
        ok(owner.put(f"/workspaces/ours/members/{user}", json={"role": "reader"}), 200)
        with world.client(token) as client, client.stream("GET", f"/workspaces/ours/jobs/{world.ours.run}/log", headers=SSE) as response:
            stream = seen(response)
            assert next(stream).name == "status"
            ok(owner.delete(f"/workspaces/ours/members/{user}"), 204)
            client.timeout = 6
            assert [one.name for one in stream][-1] == "closing"
        with world.client(token) as client:
            assert client.get("/workspaces/ours").status_code == 404


class RunLevitated(Event):
    """What a newer server may record."""

    type: Literal["run-levitated"] = "run-levitated"
    run: str


def test_an_event_that_cannot_be_read_ends_the_stream_with_a_sentence_and_reads_say_so(server: LiveServer, world: World) -> None:
    _, token = make_user(server, "poisoned")
    with server.client(token) as client:
        home = WorkspaceId(ok(client.post("/workspaces", json={"name": "poisoned"}), 201)["id"])
        context = Context(actor=ActorId("user/u-1"), command=CommandId("0" * 64), correlation="c-1")
        write = StreamWrite(Stream("run/heron"), 0, (RunLevitated(run="heron"),))
        with client.stream("GET", "/workspaces/poisoned/events", headers=SSE) as response:
            stream = seen(response)
            assert next(stream).data["type"] == "foldline.workspace-created"
            done = server.run(lambda: server.services.log.append(Commit(home, context, "0" * 64, (write,))))
            last = list(stream)[-1]
        assert last.name == "closing"
        assert "cannot be read by this server" in last.data["why"]
        for path in ("jobs", "journal", "events", "jobs/heron", "computes"):
            refused = client.get(f"/workspaces/poisoned/{path}", headers={"Foldline-Position": done.position.token()})
            assert (refused.status_code, refused.json()["code"]) == (503, "read_model_stopped"), path
        refused = client.post("/workspaces/poisoned/jobs/heron/cancel")
        assert (refused.status_code, refused.json()["code"]) == (503, "unreadable_event")
    with world.client(world.ours.reader) as client:
        ok(client.get("/workspaces/ours/jobs"), 200)


def test_a_server_that_stops_tells_its_followers_and_is_gone_within_seconds(dsn: str) -> None:  # noqa: F811
    live = LiveServer(dsn, temporary_folder())
    live.start()
    token = live.made.admin_token
    with live.client(token) as client:
        ok(client.post("/workspaces", json={"name": "short"}), 201)
        with client.stream("GET", "/workspaces/short/events", headers=SSE) as response:
            stream = seen(response)
            assert next(stream).data["type"] == "foldline.workspace-created"
            stopping = threading.Thread(target=live.stop)
            began = time.monotonic()
            stopping.start()
            last = list(stream)[-1]
            stopping.join()
    assert (last.name, last.data) == ("closing", {"resume": 1})
    assert time.monotonic() - began < 8


def test_metrics_are_seen_as_they_were_sent_with_what_is_no_number(server: LiveServer, world: World, run: str) -> None:
    agent = Agent(server, world, run)
    agent.started()
    agent.points(1, keys=["loss", "a/b c"], key=[0, 0, 1, 1], step=[0, 1, 0, 1], time_ms=[1, 2, 3, 4], value=[0.5, 0.25, "NaN", "Infinity"])
    agent.ended()
    with world.client(world.ours.reader) as client:
        where = f"/workspaces/ours/jobs/{run}/metrics"
        for _ in range(50):
            found = {one["key"]: one for one in ok(client.get(where), 200)["items"]}
            if found:
                break
        assert found["loss"]["last"] == 0.25
        assert (found["loss"]["min"], found["loss"]["max"], found["loss"]["count"]) == (0.25, 0.5, 2)
        assert found["a/b c"]["last"] == "Infinity"
        curve = ok(client.get(f"{where}/curve", params={"key": "a/b c"}), 200)
        assert [point["value"] for point in curve["points"]] == ["NaN", "Infinity"]
        assert ok(client.get(f"/workspaces/ours/jobs/{run}"), 200)["metrics"]["a/b c"] == "Infinity"

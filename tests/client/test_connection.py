"""Retries under one key, positions, typed errors, addresses: against a real server that misbehaves as written down."""

from __future__ import annotations

import pytest

from foldline.configuration import Target
from foldline.connection import Connection, path_of
from foldline.identifiers import traceparent, uuid7
from foldline.positions import InMemory
from foldline.problems import BadInput, Conflict, FoldlineError, NotAllowed, NotFound, NotLoggedIn, NotYet, ServerUnavailable
from foldline.resources.collection import items
from tests.client.scripted_server import Answer, ScriptedServer, page, problem


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def connection(server: ScriptedServer, clock: Clock | None = None, positions: InMemory | None = None) -> Connection:
    clock = clock or Clock()
    target = Target(server.url, "flu_me:1:secret")
    return Connection(target, positions=positions, patience_seconds=20, sleep=clock.sleep, now=clock.now)


BEHIND = Answer(problem(503, "behind", "Not there yet."), 503, {"Retry-After": "2"})


async def test_a_write_is_sent_again_under_the_same_key(server: ScriptedServer) -> None:
    clock = Clock()
    server.on("POST", "workspaces/lab/jobs", Answer(drop=True), BEHIND, Answer({"name": "r"}, 201))
    async with connection(server, clock) as open_connection:
        assert await open_connection.call("POST", "workspaces/lab/jobs", body={"a": 1}) == {"name": "r"}
    asked = server.requests("POST", "workspaces/lab/jobs")
    assert len(asked) == 3
    assert len({request.headers["idempotency-key"] for request in asked}) == 1
    assert all(request.json == {"a": 1} for request in asked)
    assert 2.0 in clock.slept


async def test_a_connection_that_breaks_before_an_answer_is_tried_again(server: ScriptedServer) -> None:
    clock = Clock()
    gone = Target("http://127.0.0.1:9", None)
    async with Connection(gone, patience_seconds=5, sleep=clock.sleep, now=clock.now) as open_connection:
        with pytest.raises(ServerUnavailable, match="cannot be reached") as refused:
            await open_connection.call("GET", "me")
    assert refused.value.exit_code == 6
    assert len(clock.slept) >= 3
    assert clock.time <= 5


async def test_two_writes_have_two_keys_and_a_read_none(server: ScriptedServer) -> None:
    server.on("POST", "x", Answer({}))
    server.on("GET", "x", Answer({}))
    async with connection(server) as open_connection:
        for method in ("POST", "POST", "GET"):
            await open_connection.call(method, "x")
    first, second = (request.headers["idempotency-key"] for request in server.requests("POST", "x"))
    assert first != second
    assert first[14] == "7"
    assert "idempotency-key" not in server.requests("GET", "x")[0].headers


async def test_patience_ends_and_the_last_answer_is_told(server: ScriptedServer) -> None:
    clock = Clock()
    server.on("GET", "x", BEHIND)
    async with connection(server, clock) as open_connection:
        with pytest.raises(ServerUnavailable, match=r"Not there yet\.") as refused:
            await open_connection.call("GET", "x")
    assert refused.value.code == "behind"
    assert clock.slept == [2.0] * 10


async def test_a_wait_longer_than_our_patience_is_not_begun(server: ScriptedServer) -> None:
    clock = Clock()
    server.on("GET", "x", Answer(problem(429, "limit_reached", "Slow down."), 429, {"Retry-After": "3600"}))
    async with connection(server, clock) as open_connection:
        with pytest.raises(ServerUnavailable, match=r"Slow down\."):
            await open_connection.call("GET", "x")
    assert clock.slept == []


async def test_retry_after_may_be_a_date(server: ScriptedServer) -> None:
    clock = Clock()
    past = Answer(None, 503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    server.on("GET", "x", past, Answer({"ok": 1}))
    async with connection(server, clock) as open_connection:
        assert await open_connection.call("GET", "x") == {"ok": 1}
    assert clock.slept == [0.0]


async def test_a_read_carries_the_position_of_the_last_write(server: ScriptedServer) -> None:
    server.on("POST", "workspaces/lab/jobs", Answer({}, 201, {"Foldline-Position": "log:0:5"}))
    server.on("POST", "users", Answer({}, 201, {"Foldline-Position": "log:3:9"}))
    for path in ("workspaces/lab/jobs", "users", "workspaces/other/jobs"):
        server.on("GET", path, Answer(page()))
    async with connection(server) as open_connection:
        await open_connection.call("GET", "workspaces/lab/jobs")
        await open_connection.call("POST", "workspaces/lab/jobs", body={})
        await open_connection.call("POST", "users", body={})
        for path in ("workspaces/lab/jobs", "users", "workspaces/other/jobs"):
            await open_connection.call("GET", path)
    lab = server.requests("GET", "workspaces/lab/jobs")
    assert "foldline-position" not in lab[0].headers
    assert lab[1].headers["foldline-position"] == "log:0:5"
    assert server.requests("GET", "users")[0].headers["foldline-position"] == "log:3:9"
    assert server.requests("GET", "workspaces/other/jobs")[0].headers["foldline-position"] == "log:3:9"


async def test_a_position_of_another_log_is_forgotten(server: ScriptedServer) -> None:
    positions = InMemory()
    positions.keep("lab", "old:0:1")
    server.on("GET", "workspaces/lab", Answer(problem(409, "other_log", "Of another log."), 409), Answer({"name": "lab"}))
    async with connection(server, positions=positions) as open_connection:
        assert await open_connection.call("GET", "workspaces/lab") == {"name": "lab"}
    first, second = server.requests("GET", "workspaces/lab")
    assert first.headers["foldline-position"] == "old:0:1"
    assert "foldline-position" not in second.headers
    assert positions.last("lab") is None


@pytest.mark.parametrize(
    ("status", "code", "kind", "exit_code"),
    [
        (400, "malformed", BadInput, 2),
        (401, "unauthenticated", NotLoggedIn, 4),
        (403, "forbidden", NotAllowed, 4),
        (404, "not_found", NotFound, 3),
        (409, "already_exists", Conflict, 5),
        (412, "precondition_failed", Conflict, 5),
        (413, "too_large", BadInput, 2),
        (422, "invalid_body", BadInput, 2),
        (422, "not_yet", NotYet, 7),
        (500, "internal", ServerUnavailable, 6),
    ],
)
async def test_problems_become_typed_errors(
    server: ScriptedServer, status: int, code: str, kind: type[FoldlineError], exit_code: int
) -> None:
    server.on("POST", "x", Answer(problem(status, code, "Words.", a=1), status))
    async with connection(server) as open_connection:
        with pytest.raises(kind) as refused:
            await open_connection.call("POST", "x", body={})
    assert refused.value.code == code
    assert refused.value.exit_code == exit_code
    assert "Words." in refused.value.detail
    assert kind is NotYet or refused.value.fields == {"a": 1}


async def test_an_answer_that_is_no_problem_is_told_all_the_same(server: ScriptedServer) -> None:
    server.on("GET", "x", Answer(b"<html>teapot</html>", 418))
    server.on("GET", "y", Answer(b"<html>hello</html>", 200))
    server.on("GET", "z", Answer(None, 302, {"Location": "http://elsewhere.example/"}))
    async with connection(server) as open_connection:
        with pytest.raises(BadInput, match="answered 418"):
            await open_connection.call("GET", "x")
        with pytest.raises(ServerUnavailable, match="not JSON"):
            await open_connection.call("GET", "y")
        with pytest.raises(Conflict, match="elsewhere"):
            await open_connection.call("GET", "z")


async def test_lists_are_read_page_by_page(server: ScriptedServer) -> None:
    server.on("GET", "things", Answer(page(1, 2, following="c2")), Answer(page(3, following="c3")), Answer(page(4)))
    async with connection(server) as open_connection:
        assert [item async for item in items(open_connection, "things", {"tag": ["a=b", "c=d"]})] == [1, 2, 3, 4]
    asked = server.requests("GET", "things")
    assert [request.query.get("cursor") for request in asked] == [None, ["c2"], ["c3"]]
    assert asked[0].query["tag"] == ["a=b", "c=d"]


async def test_a_limit_ends_a_list_early(server: ScriptedServer) -> None:
    server.on("GET", "things", Answer(page(1, 2, following="c2")), Answer(page(3, following="c3")))
    async with connection(server) as open_connection:
        assert [item async for item in items(open_connection, "things", limit=3)] == [1, 2, 3]
    assert [request.query["limit"] for request in server.requests("GET", "things")] == [["3"], ["1"]]


async def test_the_token_travels_in_its_header_only(server: ScriptedServer) -> None:
    server.on("GET", "me", Answer({}))
    async with connection(server) as open_connection:
        await open_connection.call("GET", "me")
    (asked,) = server.requests("GET", "me")
    assert asked.headers["authorization"] == "Bearer flu_me:1:secret"
    assert "secret" not in asked.path
    assert asked.headers["traceparent"].startswith("00-")


@pytest.mark.parametrize("segment", ["", ".", "..", "\ud800"])
def test_a_segment_that_would_change_the_path_is_refused(segment: str) -> None:
    with pytest.raises(BadInput):
        path_of("workspaces", segment)


def test_segments_are_quoted() -> None:
    assert path_of("a", "b/../c", "d e", "?x#y") == "a/b%2F..%2Fc/d%20e/%3Fx%23y"


async def test_a_body_that_json_cannot_carry_is_refused_before_it_is_sent(server: ScriptedServer) -> None:
    async with connection(server) as open_connection:
        with pytest.raises(BadInput, match="JSON"):
            await open_connection.call("POST", "x", body={"a": float("nan")})
    assert server.asked == []


def test_ids_are_ordered_and_trace_contexts_continue() -> None:
    ids = [uuid7() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(one[14] == "7" and one[19] in "89ab" for one in ids)
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    child = traceparent(parent)
    assert child[:36] == parent[:36]
    assert child != parent
    assert traceparent("nonsense").startswith("00-")

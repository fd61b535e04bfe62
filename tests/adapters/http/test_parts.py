"""The parts of the edge that need no server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.types import Message

from adapters.http import sse
from adapters.http.limits import EXPENSIVE_MAX, Fairness
from adapters.http.live import Follower
from adapters.http.manifests import File, canonical, check_files, parse, under
from adapters.http.names import ADJECTIVES, NOUNS, run_name
from adapters.http.paging import Cursors
from adapters.http.problems import STATUS_OF_KIND, Problem, answer_refusal, answer_unexpected, scrub
from adapters.http.requirements import check_requirements
from adapters.http.sse import event
from adapters.http.strict_json import DEPTH_MAX, parse_json_now
from adapters.http.zips import disposition
from adapters.memory.vault import MemoryVault
from core import errors
from core.errors import LimitReached, Refusal

DIGEST = "a" * 64


def refusals() -> list[type[Refusal]]:
    found, waiting = [], [Refusal]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if one.__module__ == errors.__name__ and one is not Refusal:
            found.append(one)
    return found


def test_every_kind_of_refusal_has_a_status_and_none_is_a_server_error_but_unavailable() -> None:
    for refusal in refusals():
        status = STATUS_OF_KIND[refusal.kind]
        assert 400 <= status < 500 or (status == 503 and refusal.kind == "unavailable"), refusal


def test_a_refusal_that_asks_for_patience_says_how_much() -> None:
    answer = answer_refusal(errors.Unavailable("Away.", retry_after_seconds=2.5))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer_refusal(LimitReached("requests", 1)).headers["retry-after"] == "1"
    assert answer_refusal(errors.Unauthenticated()).headers["www-authenticate"].startswith("Bearer")


async def test_a_stream_that_is_busy_for_ever_ends_for_a_reader_who_may_not_read_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "RECHECK_SECONDS", 0.01)
    monkeypatch.setattr(sse, "LAST_WORD_SECONDS", 0.01)
    answers: Iterator[Refusal | None] = iter([None, errors.Unavailable("The database is away."), errors.Unauthenticated()])
    asked: list[Refusal | None] = []

    async def history() -> AsyncIterator[bytes]:
        while True:
            yield sse.comment("more")

    async def recheck() -> None:
        asked.append(next(answers))
        if (refusal := asked[-1]) is not None:
            raise refusal

    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(5):
        await sse.EventStream(history(), recheck)({"type": "http", "method": "GET"}, receive, send)
    assert isinstance(asked[-1], errors.Unauthenticated)


def test_an_unexpected_error_tells_nothing_but_the_request_id() -> None:
    secret = "flu_u-1:t-1:0123456789abcdef0123"
    try:
        raise RuntimeError(f"SELECT * FROM people WHERE token = '{secret}' in /work/x")
    except RuntimeError as error:
        answer = answer_unexpected(error, "request-0001", "GET")
    told = json.loads(bytes(answer.body))
    assert (answer.status_code, told["code"], told["request_id"]) == (500, "internal", "request-0001")
    assert "SELECT" not in bytes(answer.body).decode()
    assert secret not in bytes(answer.body).decode()


@pytest.mark.parametrize("secret", [
    "flu_u-1:t-1:0123456789abcdef0123", "flr_ws-1:run:1:abcdef", "fln_ws-1:node:abcdef", "flj_j-1:secret-secret", "Bearer abc.def-ghi",
    "bearer xyz", "postgres://user:hunter2@host/db",
])
def test_secrets_and_control_characters_are_scrubbed(secret: str) -> None:
    shown = scrub(f"before {secret} after\x1b[31m\x00")
    assert secret not in shown
    assert "hunter2" not in shown
    assert shown.startswith("before ")
    assert "\x1b" not in shown
    assert "\x00" not in shown


def test_json_at_the_limits_is_read() -> None:
    assert parse_json_now(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX) is not None
    assert parse_json_now(b'{"a":"[[[[[{{{{{' + b"[" * 200 + b'","b":[1]}')["b"] == [1]
    assert parse_json_now('{"a":"\\ud83d\\ude00 é 😀","b":-0.0,"c":1E-400}'.encode())["a"] == "😀 é 😀"
    assert parse_json_now(b'"\\\\\\"[[["') == '\\"[[['


@pytest.mark.parametrize("content", [
    b'{"a":' * 300_000, b"[" * 1_500_000, b'"' + b"\\" * 900_000, b'{"a":"' + b"[" * 900_000, b"[1," * 300_000, b"[" + b"{}," * 300_000,
    b"9" * 1_000_000, b'{"' + b"\\u0041" * 150_000 + b'":',
])
def test_hostile_json_is_refused_quickly(content: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(Problem) as caught:
        parse_json_now(content)
    assert 400 <= caught.value.status < 500
    assert time.perf_counter() - began < 2


def test_a_manifest_is_read_back_as_it_was_written_and_nothing_else_is() -> None:
    files = check_files([File("b/c", DIGEST, 2, True), File("a é", DIGEST, 1)])
    assert parse(canonical(files)) == files
    line = f"{DIGEST} 1 - "
    for text in ("", "x\n", f"{line}../x\n", f"{line}/etc/passwd\n", f"{line}b\n{line}a\n", f"{line}a\n{line}a\n", f"{line}a\n{line}a/b\n",
        f"{line}a"):
        if text:
            with pytest.raises(ValueError, match=r".*"):
                parse(text.encode())
    assert parse(b"") == ()


def test_a_folder_within_keeps_its_own_name() -> None:
    files = [File("outputs/model/a", DIGEST, 1), File("outputs/model/b/c", DIGEST, 1), File("outputs/modelling", DIGEST, 1), File("z",
        DIGEST, 1)]
    assert [file.path for file in under(files, "outputs/model")] == ["model/a", "model/b/c"]
    assert [file.path for file in under(files, "z")] == ["z"]
    assert under(files, "outputs/mod") == ()


@pytest.mark.parametrize("text", ["numpy", "scikit-learn==1.5.*", "a[b,c]>=1,<2", "x~=1.0; python_version < '3.12' and extra == \"y\"",
    " six "])
def test_requirements_as_people_write_them_are_taken(text: str) -> None:
    assert check_requirements([text]) == (text.strip(),)


def test_a_follower_that_reads_too_slowly_is_cut_and_told() -> None:
    follower: Follower[int] = Follower(3)
    for number in range(3):
        follower.put(number)
    assert asyncio.run(follower.take(0)) == [0, 1, 2]
    for number in range(4):
        follower.put(number)
    assert follower.cut
    assert asyncio.run(follower.take(0)) == []


def test_one_caller_has_only_so_many_expensive_requests_at_once() -> None:
    fairness = Fairness()
    held = [fairness.hold("user/a", expensive=True) for _ in range(EXPENSIVE_MAX)]
    for one in held:
        one.__enter__()
    with pytest.raises(LimitReached), fairness.hold("user/a", expensive=True):
        pass
    with fairness.hold("user/b", expensive=True), fairness.hold("user/a", expensive=False):
        pass
    held[0].__exit__(None, None, None)
    with fairness.hold("user/a", expensive=True):
        pass


def test_a_cursor_opens_only_where_it_was_made() -> None:
    cursors = Cursors(MemoryVault())
    sealed = cursors.seal("[1]", "ws-1|jobs")
    assert cursors.open(sealed, "ws-1|jobs") == "[1]"
    assert cursors.open(None, "ws-1|jobs") is None
    for cursor, place in ((sealed, "ws-2|jobs"), (sealed, "ws-1|models"), ("é", "ws-1|jobs"), ("", "ws-1|jobs"), ("A" * 5000, "ws-1|jobs")):
        with pytest.raises(Problem):
            cursors.open(cursor, place)


def test_an_event_is_one_line_of_data_whatever_is_in_it() -> None:
    sent = event("log", {"text": "a\n\ndata: evil\r\nid: 7"}, 3).decode()
    assert sent.split("\n")[:2] == ["id: 3", "event: log"]
    assert sent.count("\n") == 4
    assert "\r" not in sent


@pytest.mark.parametrize("name", ['a"b', "a\r\nX: y", "é", "\u202e", "", "a/b\\c", "\x00", "x" * 5000])
def test_a_download_has_a_header_that_splits_nothing(name: str) -> None:
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert len(header) < 6000


def test_run_names_are_words_that_can_be_said() -> None:
    assert len(set(ADJECTIVES)) == len(ADJECTIVES) > 64
    assert len(set(NOUNS)) == len(NOUNS) > 64
    adjective, noun, tail = run_name("00" * 32).split("-")
    assert (adjective, noun, len(tail)) == (ADJECTIVES[0], NOUNS[0], 4)

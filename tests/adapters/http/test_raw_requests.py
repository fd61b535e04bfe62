"""Requests that no HTTP library sends: ambiguous framing, broken heads, bodies that never come."""

from __future__ import annotations

import time

import pytest

from adapters.http import protocol
from tests.adapters.http.live_server import LiveServer
from tests.adapters.http.world import World

PATH = b"/api/v1/workspaces/ours/computes"


def head(
    world: World, *lines: bytes, method: bytes = b"POST", path: bytes = PATH, version: bytes = b"HTTP/1.1", host: bool = True,
    last: bool = True,
) -> bytes:
    """The head of a request of our owner; with `last` the connection ends after it."""
    named = [b"Host: 127.0.0.1"] if host else []
    signed = [b"Authorization: Bearer " + world.ours.owner.encode(), b"Content-Type: application/json"]
    ending = [b"Connection: close"] if last else []
    return b"\r\n".join([method + b" " + path + b" " + version, *named, *signed, *ending, *lines]) + b"\r\n\r\n"


BODY = b'{"name":"x"}'
REFUSED: list[tuple[str, tuple[bytes, ...], bytes]] = [
    ("length and chunks", (b"Content-Length: 12", b"Transfer-Encoding: chunked"), b"0\r\n\r\n"),
    ("chunks and length", (b"Transfer-Encoding: chunked", b"Content-Length: 12"), b"c\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("two lengths that differ", (b"Content-Length: 12", b"Content-Length: 5"), BODY),
    ("two lengths alike", (b"Content-Length: 12", b"Content-Length: 12"), BODY),
    ("a list of lengths", (b"Content-Length: 12, 12",), BODY),
    ("a length with a sign", (b"Content-Length: +12",), BODY),
    ("a negative length", (b"Content-Length: -1",), BODY),
    ("a length in floating point", (b"Content-Length: 1e1",), BODY),
    ("a hex length", (b"Content-Length: 0x0c",), BODY),
    ("a coding that is none", (b"Transfer-Encoding: xchunked",), b"c\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("chunked that is not last", (b"Transfer-Encoding: chunked, identity",), b"c\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("two codings", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), b"c\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("a bad chunk size", (b"Transfer-Encoding: chunked",), b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("a huge chunk size", (b"Transfer-Encoding: chunked",), b"F" * 21 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("a bad chunk end", (b"Transfer-Encoding: chunked",), b"c\r\n" + BODY + b"xx0\r\n\r\n"),
    ("a space before the colon", (b"Content-Length : 12",), BODY),
    ("a folded header", (b"X-Fold: a", b" b", b"Content-Length: 12"), BODY),
    ("a NUL in a header", (b"X-Nul: a\x00b", b"Content-Length: 12"), BODY),
    ("a second Host", (b"Host: evil.example", b"Content-Length: 12"), BODY),
    ("the same Host again", (b"Host: 127.0.0.1", b"Content-Length: 12"), BODY),
]


@pytest.mark.parametrize(("lines", "sent"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_an_ambiguous_request_is_refused_and_nothing_is_recorded(
    server: LiveServer, world: World, lines: tuple[bytes, ...], sent: bytes,
) -> None:
    before = server.events()
    answer = server.raw(head(world, *lines) + sent, wait_seconds=3)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413"), answer
    assert answer.count(b"HTTP/1.1 4") == 1, "what follows an ambiguous request must not be read as another one"
    assert b"application/problem+json" in answer
    assert server.events() == before


@pytest.mark.parametrize("line", [
    b"GET /api/v1/me HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", b"GET /api/v1/me\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60, b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"\r\n\r\nnonsense\r\n\r\n",
])
def test_what_is_not_http_1_is_refused(server: LiveServer, world: World, line: bytes) -> None:
    answer = server.raw(line, wait_seconds=3)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 505", b""), answer
    assert server.raw(head(world, method=b"GET", path=b"/api/v1/me"), wait_seconds=1).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("hosts", [(), (b"Host:",), (b"Host: evil.example",), (b"Host: evil.example:5000",), (b"Host: user@127.0.0.1",)])
def test_the_host_must_be_one_and_ours_everywhere_but_at_health(server: LiveServer, world: World, hosts: tuple[bytes, ...]) -> None:
    for path in (b"/api/v1/me", b"/api/v1/docs", PATH):
        answer = server.raw(head(world, *hosts, method=b"GET", path=path, host=False), wait_seconds=1)
        assert answer.split(b" ")[1] in (b"400", b"421", b"403"), answer
    answer = server.raw(head(world, *hosts, method=b"GET", path=b"/health", host=False), wait_seconds=1)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


@pytest.mark.parametrize("path", [b"/api/v1/%", b"/api/v1/%zz", b"/api/v1/%ff", b"/api/v1/%ed%a0%80", b"/api/v1/workspaces/%2e%2e/x",
    b"/api/v1/../x",
                                  b"/api/v1/workspaces/ours\\x", b"/%252e%252e/etc/passwd", b"/api/v1/workspaces/ours;x/jobs",
                                  b"/" + b"a/" * 100])
def test_tricks_in_the_path_are_refused(server: LiveServer, world: World, path: bytes) -> None:
    answer = server.raw(head(world, method=b"GET", path=path), wait_seconds=1)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


def test_a_body_that_is_cut_off_changes_nothing(server: LiveServer, world: World) -> None:
    before = server.events()
    answer = server.raw(head(world, b"Content-Length: 50") + b'{"name":', close_writing=True, wait_seconds=3)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 ")), answer
    assert server.events() == before


def test_a_body_that_falls_silent_is_ended_in_time(server: LiveServer, world: World) -> None:
    began = time.monotonic()
    answer = server.raw(head(world, b"Content-Length: 50") + b"{", wait_seconds=10)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code": "body_timeout"' in answer
    assert time.monotonic() - began < 5


def test_a_head_that_falls_silent_is_ended_in_time(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    for sent in (b"", b"GET /api/v1/me HTTP/1.1\r\nHost: 127"):
        began = time.monotonic()
        answer = server.raw(sent, wait_seconds=10)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert time.monotonic() - began < 5


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: LiveServer, world: World) -> None:
    answer = server.raw(head(world, b"Content-Length: 999999999999", b"Expect: 100-continue"), wait_seconds=3)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"100 Continue" not in answer
    chunked = b"".join(b"10000\r\n" + b"a" * 65536 + b"\r\n" for _ in range(18))
    answer = server.raw(head(world, b"Transfer-Encoding: chunked") + chunked, wait_seconds=3)
    assert answer.startswith((b"HTTP/1.1 413 ", b"")), answer


def test_a_body_in_many_tiny_chunks_is_served_without_a_stall(server: LiveServer, world: World) -> None:
    content = b'{"packages_are_not":"here"' + b" " * 60_000 + b"}"
    sent = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in content) + b"0\r\n\r\n"
    began = time.monotonic()
    answer = server.raw(head(world, b"Transfer-Encoding: chunked") + sent, wait_seconds=5)
    assert answer.startswith(b"HTTP/1.1 422 "), answer[:200]
    assert time.monotonic() - began < 3


def test_a_head_that_is_too_long_or_has_too_many_lines_is_refused(server: LiveServer, world: World) -> None:
    many = tuple(b"X-%d: x" % number for number in range(200))
    assert server.raw(head(world, *many, method=b"GET", path=b"/api/v1/me"), wait_seconds=2).startswith(b"HTTP/1.1 431 ")
    endless = b"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 200_000
    assert server.raw(endless, wait_seconds=2).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_two_credentials_are_none(server: LiveServer, world: World) -> None:
    again = b"Authorization: Bearer " + world.ours.reader.encode()
    assert server.raw(head(world, again, method=b"GET", path=b"/api/v1/me"), wait_seconds=1).startswith(b"HTTP/1.1 401 ")


def test_overriding_headers_are_ignored(server: LiveServer, world: World) -> None:
    before = server.events()
    lines = (b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /api/v1/users", b"X-Forwarded-User: admin",
        b"X-Forwarded-Host: evil.example",
             b"X-Remote-User: admin", b"X-Forwarded-Proto: https", b"X-Request-Id: " + b"x" * 500, b"traceparent: nonsense")
    answer = server.raw(head(world, *lines, method=b"GET", path=b"/api/v1/me"), wait_seconds=1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x" * 100 not in answer
    assert b'"admin":false' in answer
    assert server.events() == before


def test_a_websocket_is_not_opened(server: LiveServer, world: World) -> None:
    lines = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    answer = server.raw(head(world, *lines, method=b"GET", path=b"/api/v1/workspaces/ours/events", last=False), wait_seconds=1)
    assert not answer.startswith(b"HTTP/1.1 101"), answer


def test_a_second_request_on_one_connection_is_answered_too(server: LiveServer, world: World) -> None:
    one = head(world, method=b"GET", path=b"/api/v1/me", last=False)
    last = head(world, method=b"GET", path=b"/api/v1/me")
    answer = server.raw(one + last, wait_seconds=2)
    assert answer.count(b"HTTP/1.1 200 OK") == 2

"""A real HTTP server on loopback whose answers a test writes down: for what a healthy Foldline server never says."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Answer:
    """`body` is JSON unless it is bytes. `drop` closes the connection after `body` without a proper end."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """`on` queues answers for a path; the last one is given again and again. Every request is kept in `asked`."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        self.asked: list[Asked] = []
        self.url = ""

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._answers[method, "/api/v1/" + path].extend(answers)

    def requests(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, "/api/v1/" + path)]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        queue = self._answers.get((asked.method, asked.path))
        if not queue:
            return Answer(problem(404, "not_found", f"There is nothing at {asked.path}."), 404)
        return queue.popleft() if len(queue) > 1 else queue[0]


def problem(status: int, code: str, detail: str, **fields: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": "Problem", "status": status, "code": code, "detail": detail, "fields": fields}


def page(*items: Any, following: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": following}


@contextmanager
def running() -> Iterator[ScriptedServer]:
    """The server on a free port of loopback, in a thread."""
    scripted = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._reply(scripted.answer(self._asked()))

        def _asked(self) -> Asked:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Asked(self.command, unquote(parts.path), parse_qs(parts.query), headers, body)

        def _reply(self, answer: Answer) -> None:
            raw = answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw) + (1000 if answer.drop else 0)))
            self.end_headers()
            self.wfile.write(raw)
            self.wfile.flush()
            if answer.drop:
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a client that hangs up in the middle is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

"""uvicorn's HTTP protocol with bounds on what comes before a request is complete, and its refusals as problem+json."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.http.limits import HEADER_BYTES_MAX, QUERY_BYTES_MAX

HEAD_BYTES_MAX = HEADER_BYTES_MAX + QUERY_BYTES_MAX + 8192
HEAD_SECONDS = 15.0
CHUNK_EXTENSION_BYTES_MAX = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """A head that is too long or too slow, and anything that is not HTTP/1.0 or 1.1 as the standard has it, ends the connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.parser is None:
            return
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._wait_for_head()
        super().data_received(data)
        if not self._in_body and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(431, "headers_too_large", "The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self._check_head()
        self._head_is_over()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "bad_http", "This is not an HTTP/1.1 request as the standard has it.")

    def _check_head(self) -> None:
        """What the parser lets through and no proxy agrees upon. Raises: httptools.HttpParserError."""
        names = [name for name, _ in self.headers]
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        wrong = (
            self.parser.get_http_version() not in ("1.0", "1.1")
            or names.count(b"content-length") > 1
            or (codings and (codings != [b"chunked"] or b"content-length" in names or self.parser.get_http_version() == "1.0"))
        )
        if wrong:
            raise httptools.HttpParserError("ambiguous framing")

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_over(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "head_timeout", "The head of the request did not come in time.")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._refused = True
        self._head_is_over()
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body: dict[str, Any] = {"type": "about:blank", "title": "Malformed request", "status": status, "code": code, "detail": detail}
        content = json.dumps(body).encode()
        head = "\r\n".join((
            f"HTTP/1.1 {status} Refused", "content-type: application/problem+json", f"content-length: {len(content)}", "connection: close",
        ))
        self.transport.write(f"{head}\r\n\r\n".encode() + content)
        self.transport.close()

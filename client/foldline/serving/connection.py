"""HTTP/1.1 on one connection. The other end is the gateway, or the pool's probe: one request at a time, kept alive."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import TYPE_CHECKING, cast

import httptools

from foldline.serving.answers import REASONS, problem

if TYPE_CHECKING:
    from foldline.serving.service import Service

_ID = re.compile(rb"^[!-~]{1,128}$")
_HEADERS_MAX = 200


class Connection(asyncio.Protocol):
    """Parses requests, hands whole ones to the service, writes its answers. Reading pauses while one is being answered."""

    __slots__ = (
        "_body", "_client_id", "_content_type", "_encoding", "_headers", "_keep_alive", "_parser", "_request_id", "_size", "_too_large",
        "_transport", "_url", "busy", "closed", "pending", "service",
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        self.busy = False
        """A request has been handed over and is not answered yet."""
        self.closed = False
        self.pending: object | None = None
        """What the service keeps of the request in work."""
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)

    # -- asyncio -------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.service.connections.discard(self)
        self.service.abandoned(self)

    def data_received(self, data: bytes) -> None:
        if self.busy:  # nobody pipelines here; whoever does is answered once
            self._keep_alive = False
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._request_id = self._client_id = b""
            self._keep_alive = False
            self.refuse(400, "bad_request", "This is not a well-formed HTTP/1.1 request.")

    # -- httptools -----------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self.busy:
            raise ValueError("a second request before the first was answered")
        self._url = b""
        self._content_type = self._encoding = self._request_id = self._client_id = b""
        self._body: list[bytes] = []
        self._size = self._headers = 0
        self._too_large = False
        self._keep_alive = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        match name.lower():
            case b"content-type":
                self._content_type = value.lower()
            case b"x-request-id":
                self._request_id = value if _ID.match(value) else b""
            case b"x-ms-request-id":
                self._client_id = value if _ID.match(value) else b""
            case b"content-encoding":
                self._encoding = value.lower()
            case b"content-length":
                self._too_large = not value.isdigit() or int(value) > self.service.body_bytes_max

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self.service.body_bytes_max:
            self._too_large = True
            self._body.clear()
        else:
            self._body.append(body)

    def on_headers_complete(self) -> None:
        if (self._too_large or self._headers > _HEADERS_MAX) and not self.busy:
            self._refuse_size()

    def on_message_complete(self) -> None:
        if self.busy or self.closed:
            self._keep_alive = False
            return
        self._keep_alive = self._keep_alive and self._parser.should_keep_alive()
        self.busy = True
        if self._too_large:
            self._refuse_size()
            return
        if not self._request_id:
            self._request_id = uuid.uuid4().hex.encode()
        method = self._parser.get_method()
        path = self._url.partition(b"?")[0]
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self.service.requested(self, method, path, self._content_type, self._encoding, body)

    # -- answers -------------------------------------------------------------------------------------------------------
    @property
    def request_id(self) -> str:
        return self._request_id.decode("ascii")

    def answer(self, status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Writes the answer of the request in work; the ids it came with are echoed."""
        if self.closed:
            return
        keep_alive = self._keep_alive and not self.service.draining
        request_id = self._request_id
        extra = b"".join(b"%s: %s\r\n" % header for header in headers) if headers else b""
        self._transport.write(b"".join((
            _STATUS[status], b"content-type: ", content_type, b"\r\ncontent-length: ", b"%d" % len(body),
            b"\r\nx-request-id: ", request_id, b"\r\nx-ms-request-id: ", self._client_id or request_id, b"\r\n", extra,
            b"\r\n" if keep_alive else b"connection: close\r\n\r\n", body,
        )))
        self.busy = False
        self.pending = None
        if not keep_alive:
            self.closed = True
            self._transport.close()

    def refuse(self, status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> None:
        self.answer(status, b"application/problem+json", problem(status, code, detail, self.request_id), *headers)

    def close_idle(self) -> None:
        """Ends the connection unless a request is in work."""
        if not self.busy and not self.closed:
            self.closed = True
            self._transport.close()

    def _refuse_size(self) -> None:
        self._keep_alive = False
        self._request_id = self._request_id or uuid.uuid4().hex.encode()
        if self._headers > _HEADERS_MAX:
            self.refuse(431, "too_many_headers", f"More than {_HEADERS_MAX} headers.")
        else:
            self.refuse(413, "too_large", f"The request's body is over the limit of {self.service.body_bytes_max} bytes.")


_STATUS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}

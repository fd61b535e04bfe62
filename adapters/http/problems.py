"""The only place where a refusal becomes an HTTP status. Every error leaves as problem+json (RFC 9457) with a stable `code`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.responses import Response

from core.errors import Kind, Refusal

STATUS_OF_KIND: Mapping[Kind, int] = {
    "invalid": 422, "unauthenticated": 401, "forbidden": 403, "missing": 404, "conflict": 409, "precondition": 412,
    "too_large": 413, "limit": 429, "unavailable": 503, "not_yet": 422,
}
TITLES: Mapping[int, str] = {
    400: "Malformed request", 401: "Not authenticated", 403: "Not allowed", 404: "Not found", 405: "Method not allowed",
    408: "Request timed out", 409: "Conflict", 412: "Changed meanwhile", 413: "Too large", 415: "Unsupported media type",
    416: "Range not satisfiable", 421: "Wrong host", 422: "Invalid request", 426: "Upgrade required", 428: "Precondition required",
    429: "Too many requests", 431: "Headers too large", 500: "Internal error", 503: "Unavailable",
}
SECRET = re.compile(r"(fl[urnj]_[A-Za-z0-9-]{1,64}:)[^\s'\"]+|(?i:bearer\s+)\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
DETAIL_MAX = 2000

log = structlog.get_logger("foldline.http")


class Problem(Refusal):
    """A refusal that belongs to HTTP alone: its status is its own."""

    code = "malformed"
    kind = "invalid"

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.status, self._code, self._headers, self._facts = status, code, dict(headers or {}), facts

    def fields(self) -> dict[str, Any]:
        return self._facts

    @property
    def own_code(self) -> str:
        return self._code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers


def malformed(detail: str, *, code: str = "malformed", **facts: Any) -> Problem:
    """400: what came cannot be read at all."""
    return Problem(400, code, detail, **facts)


def answer_refusal(refusal: Refusal) -> Response:
    """The answer to a refusal. The same refusal is the same bytes: nothing in the body tells one request from another."""
    if isinstance(refusal, Problem):
        return render(refusal.status, refusal.own_code, str(refusal), refusal.fields(), refusal.headers)
    status = STATUS_OF_KIND[refusal.kind]
    headers: dict[str, str] = {}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_seconds)))
    elif status in (429, 503):
        headers["Retry-After"] = "1"
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="foldline"'
    return render(status, refusal.code, str(refusal), refusal.fields(), headers)


def answer_unexpected(error: BaseException, request_id: str, route: str) -> Response:
    """500 with nothing but the request id; the trace goes to the log, scrubbed."""
    log.error("http.unexpected", request_id=request_id, route=route, error=type(error).__name__, trace=scrub(_trace(error)))
    detail = f"Something went wrong on our side; the server's log has the request id {request_id}."
    return render(500, "internal", detail, {}, {}, request_id=request_id)


def render(
    status: int, code: str, detail: str, fields: Mapping[str, Any], headers: Mapping[str, str], *, request_id: str | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank", "title": TITLES.get(status, "Error"), "status": status, "code": code, "detail": _plain(detail)[:DETAIL_MAX],
    }
    facts = {name: value for name, value in fields.items() if value is not None}
    if facts:
        body["fields"] = facts
    if request_id is not None:
        body["request_id"] = request_id
    content = json.dumps(body, default=str, allow_nan=False).encode()
    return Response(content, status, headers=dict(headers), media_type="application/problem+json")


def scrub(text: str) -> str:
    """Without tokens, bearer credentials, passwords in URLs and control characters."""
    return CONTROL.sub("?", SECRET.sub(lambda m: (m.group(1) or "") + "***", text))


def _plain(text: str) -> str:
    """What JSON can carry to anybody: no lone surrogates."""
    return scrub(text.encode("utf-8", "replace").decode())


def _trace(error: BaseException) -> str:
    """Frames and types; no values of ours that could be secrets."""
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-20))[-8000:]

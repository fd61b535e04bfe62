"""What is refused before a handler sees it: hosts, origins, paths, headers, media types, sizes and slowness."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from starlette.types import Receive, Scope

from adapters.http.problems import Problem, malformed
from core.errors import LimitReached

HEADERS_MAX = 100
HEADER_BYTES_MAX = 32 * 1024
QUERY_BYTES_MAX = 16 * 1024
JSON_BYTES_MAX = 1024 * 1024
SEGMENTS_MAX = 16
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
IN_FLIGHT_MAX = 256
EXPENSIVE_MAX = 16
FOLLOWERS_MAX = 128

_SEGMENT = re.compile(r"^[A-Za-z0-9_.~@:-]{1,255}$")
_HOST = re.compile(r"^(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?$")

Headers = Mapping[bytes, list[bytes]]


def headers_of(scope: Scope) -> dict[bytes, list[bytes]]:
    """All headers by lower-case name. Raises: Problem 431."""
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    found: dict[bytes, list[bytes]] = {}
    count, size = 0, 0
    for name, value in pairs:
        count += 1
        size += len(name) + len(value)
        found.setdefault(name, []).append(value)
    if count > HEADERS_MAX or size > HEADER_BYTES_MAX:
        most = f"At most {HEADERS_MAX} headers and {HEADER_BYTES_MAX} bytes."
        raise Problem(431, "headers_too_large", most, headers={"Connection": "close"})
    return found


def check_method(method: str) -> None:
    """TRACE and everything unknown is 405, whatever an overriding header says."""
    if method not in METHODS:
        raise Problem(405, "method_not_allowed", "This method is not allowed here.", headers={"Allow": ", ".join(sorted(METHODS))})


def check_host(headers: Headers, hosts: frozenset[str]) -> None:
    """Exactly one Host, and one of ours: a foreign name means that somebody's DNS points at us."""
    given = headers.get(b"host", [])
    if len(given) != 1:
        raise malformed("Send exactly one Host header.", code="bad_host")
    match = _HOST.match(given[0].decode("latin-1"))
    if match is None:
        raise malformed("The Host header is not a host name.", code="bad_host")
    if match["name"].lower() not in hosts:
        raise Problem(421, "wrong_host", "This server does not answer under that name.")


def check_origin(scope: Scope, headers: Headers, public_url: str) -> None:
    """Methods that change something are refused when a browser sends them from another site."""
    if scope["method"] in SAFE_METHODS:
        return
    for site in headers.get(b"sec-fetch-site", []):
        if site not in (b"same-origin", b"none"):
            raise Problem(403, "cross_site", "Requests from other sites change nothing here.")
    host = headers.get(b"host", [b""])[0].decode("latin-1").lower()
    own = {f"{scope['scheme']}://{host}", public_url.lower()}
    for origin in headers.get(b"origin", []):
        if origin.decode("latin-1").lower() not in own:
            raise Problem(403, "cross_site", "Requests from other sites change nothing here.")


def segments_of(scope: Scope) -> tuple[str, ...]:
    """The path's segments. No name of ours needs an escape, so whatever hides behind one is refused. Raises: Problem 400."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    text = raw.decode("latin-1")
    parts = text.split("/")
    if parts[0] != "" or len(parts) > SEGMENTS_MAX:
        raise malformed("This path cannot be meant.", code="bad_path")
    for part in parts[1:]:
        if not _SEGMENT.match(part) or part in (".", "..") or ".." in part:
            raise malformed(
                "The path holds something that no name of ours has: escapes, empty parts, dots, `;`, control characters.", code="bad_path",
            )
    return tuple(parts[1:])


def check_body_headers(headers: Headers, media: str | None) -> int | None:
    """Refuses compressed and foreign bodies; returns the announced length. `media` None takes any."""
    if headers.get(b"content-encoding", [b"identity"]) != [b"identity"]:
        raise Problem(415, "content_encoding", "Send the body as it is; compressed requests are not read.", headers={"Connection": "close"})
    if media is not None:
        given = headers.get(b"content-type", [])
        kind, _, parameters = (given[0].decode("latin-1") if len(given) == 1 else "").partition(";")
        charset = parameters.lower().replace(" ", "").replace('"', "")
        if kind.strip().lower() != media:
            raise Problem(415, "media_type", f"Send the body as {media}.", headers={"Connection": "close"})
        if charset not in ("", "charset=utf-8"):
            raise Problem(415, "media_type", "The body must be UTF-8.", headers={"Connection": "close"})
    length = headers.get(b"content-length")
    if length is None:
        return None
    if len(length) != 1 or not length[0].isdigit() or len(length[0]) > 18:
        raise malformed("Content-Length is not a number.", code="bad_length")
    return int(length[0])


async def read_body(receive: Receive, announced: int | None, bytes_max: int, silent_seconds: float) -> bytes:
    """The whole body. Raises: Problem 413, 408, 400 when it is cut off."""
    if announced is not None and announced > bytes_max:
        raise too_large(bytes_max)
    parts = [chunk async for chunk in stream_body(receive, bytes_max, silent_seconds, whole=True)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def stream_body(receive: Receive, bytes_max: int, silent_seconds: float, *, whole: bool = False) -> AsyncIterator[bytes]:
    """The body's chunks. With `whole` the time is for all of it, else for each silence. Raises: as `read_body`."""
    size = 0
    until = asyncio.get_running_loop().time() + silent_seconds
    while True:
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise Problem(408, "body_timeout", "The rest of the body did not come in time.", headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Problem(400, "body_cut_off", "The connection ended before the body did.", headers={"Connection": "close"})
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise too_large(bytes_max)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return
        if not whole:
            until = asyncio.get_running_loop().time() + silent_seconds


def too_large(bytes_max: int) -> Problem:
    """413, and the connection ends: nobody reads the rest."""
    return Problem(413, "too_large", f"The body is over the limit of {bytes_max} bytes.", headers={"Connection": "close"}, limit=bytes_max)


class Fairness:
    """How much one caller may have in flight, so that nobody slows the others down."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], int] = {}

    def hold(self, caller: str, expensive: bool) -> AbstractContextManager[None]:
        """Raises: LimitReached (429) when the caller has too many such requests open."""
        return self._count(caller, "expensive", EXPENSIVE_MAX) if expensive else self._count(caller, "all", IN_FLIGHT_MAX)

    def follow(self, caller: str) -> AbstractContextManager[None]:
        """As `hold`, for what stays open: followers and agents that wait for work. Raises: LimitReached."""
        return self._count(caller, "followers", FOLLOWERS_MAX)

    @contextmanager
    def _count(self, caller: str, kind: str, most: int) -> Iterator[None]:
        key = (caller, kind)
        count = self._held.get(key, 0)
        if count >= most:
            raise LimitReached("requests at the same time", most)
        self._held[key] = count + 1
        try:
            yield
        finally:
            left = self._held[key] - 1
            if left:
                self._held[key] = left
            else:
                del self._held[key]

"""Read your own writes: `Foldline-Position` in answers and requests, and `If-Match` / `ETag` over stream versions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from adapters.http.limits import Headers
from adapters.http.problems import malformed
from core.errors import OtherLog
from core.ids import Position, Stream

POSITION = b"foldline-position"
_TOKEN = re.compile(r"^[A-Za-z0-9_.-]{1,100}:[0-9]{1,6}:(-1|[0-9]{1,18})$")
_ETAG = re.compile(r'^"?([0-9]{1,18})"?$')


def asked_position(headers: Headers, log: str) -> Position | None:
    """The position that the caller has seen. Raises: Problem 400, OtherLog."""
    given = headers.get(POSITION)
    if given is None:
        return None
    text = given[0].decode("latin-1")
    if len(given) != 1 or not _TOKEN.match(text):
        raise malformed("Foldline-Position is none that this server gave.", code="bad_position")
    position = Position.parse(text)
    if position.log != log:
        raise OtherLog
    return position


def expected_version(headers: Headers, stream: Stream) -> Mapping[Stream, int] | None:
    """What If-Match says about the stream. Raises: Problem 400."""
    given = headers.get(b"if-match")
    if given is None or given == [b"*"]:
        return None
    match = _ETAG.match(given[0].decode("latin-1")) if len(given) == 1 else None
    if match is None:
        raise malformed("If-Match is the ETag that a read gave, or *.", code="bad_if_match")
    return {stream: int(match[1])}

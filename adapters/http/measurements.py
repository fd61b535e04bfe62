"""Points and log lines as agents send them: checked, compressed, appended. The busiest routes of all."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Literal

import msgspec
import zstandard
from starlette.responses import Response

from adapters.http.access import API
from adapters.http.agent import ATTEMPT_MAX, check_protocol, holding
from adapters.http.call import Call
from adapters.http.manifests import check_path
from adapters.http.problems import Problem, malformed
from adapters.http.routing import Route
from core.errors import Invalid
from core.ports import MeasurementBatch
from foldline.wire.measurements import LOG_BYTES_MAX, POINTS_MAX, PointsBatch

POINTS_BYTES_MAX = 4 * 1024 * 1024
INLINE_BYTES_MAX = 64 * 1024
SEQUENCE_MAX = 1 << 53
KEYS_MAX = 1000
LEVEL = 1

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Source = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    """`foldline.wire.measurements.PointsBatch`, decoded fast."""

    attempt: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPT_MAX)]
    source: _Source
    sequence: Annotated[int, msgspec.Meta(ge=1, le=SEQUENCE_MAX)]
    keys: Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=250)]], msgspec.Meta(max_length=KEYS_MAX)]
    key: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=KEYS_MAX)]], msgspec.Meta(max_length=POINTS_MAX)]
    step: Annotated[list[_Int64], msgspec.Meta(max_length=POINTS_MAX)]
    time_ms: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]], msgspec.Meta(max_length=POINTS_MAX)]
    value: Annotated[list[float | Literal["NaN", "Infinity", "-Infinity"]], msgspec.Meta(max_length=POINTS_MAX)]
    kind: Literal["points", "system"] = "points"


_DECODER = msgspec.json.Decoder(_Columns)


async def points(call: Call) -> Response:
    check_protocol(call)
    content = await call.read(POINTS_BYTES_MAX)
    columns = parse_points(content)
    await holding(call, call.path["run"], columns.attempt)
    await call.services.measurements.append(MeasurementBatch(
        workspace=call.node.workspace, run=call.path["run"], attempt=columns.attempt, source=columns.source, sequence=columns.sequence,
        kind=columns.kind, body=await _squeeze(content), sha256=hashlib.sha256(content).hexdigest(),
    ))
    return call.done()


def parse_points(content: bytes) -> _Columns:
    """Raises: Problem 400, 422."""
    try:
        columns = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        if "out of range" in text:
            raise Problem(422, "number_out_of_range", "A number is too large to be kept.") from None
        if isinstance(error, msgspec.ValidationError):
            raise Problem(422, "invalid_body", text[:300]) from None
        raise malformed(f"The body is not JSON: {text[:200]}.", code="not_json") from None
    count = len(columns.key)
    if not count == len(columns.step) == len(columns.time_ms) == len(columns.value):
        raise Problem(422, "invalid_body", "key, step, time_ms and value must be equally long.")
    if count and max(columns.key) >= len(columns.keys):
        raise Problem(422, "invalid_body", "key holds an index that keys has not got.")
    for key in columns.keys:
        if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in key):
            raise Problem(422, "invalid_body", "A metric's key holds a control character or a lone surrogate.")
    return columns


async def log(call: Call) -> Response:
    """A segment of at most 1 MiB, at the offset where the one before it ended."""
    check_protocol(call)
    attempt = call.number("attempt", None, 1, ATTEMPT_MAX)
    sequence = call.number("sequence", None, 1, SEQUENCE_MAX)
    offset = call.number("offset", None, 0, 1 << 60)
    source, name = call.text("source", 100), call.text("name", 4096)
    if attempt is None or sequence is None or offset is None or source is None or name is None:
        raise Invalid("A log segment needs attempt, source, sequence, name and offset in the query.")
    check_path(name)
    content = await call.read(LOG_BYTES_MAX, media=None)
    await holding(call, call.path["run"], attempt)
    await call.services.measurements.append(MeasurementBatch(
        workspace=call.node.workspace, run=call.path["run"], attempt=attempt, source=source, sequence=sequence, kind="log",
        body=await _squeeze(content), log_name=name, log_offset=offset, log_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
    ))
    return call.done()


async def _squeeze(content: bytes) -> bytes:
    """zstd; a large body in a worker thread, so that the event loop goes on."""
    if len(content) <= INLINE_BYTES_MAX:
        return zstandard.ZstdCompressor(level=LEVEL).compress(content)
    return await asyncio.to_thread(zstandard.ZstdCompressor(level=LEVEL).compress, content)


_RUN = f"{API}/agent/runs/{{run}}"
ROUTES = (
    Route(method="POST", path=f"{_RUN}/points", handler=points, summary="Points of metrics, in columns", body=PointsBatch, status=204),
    Route(method="POST", path=f"{_RUN}/log", handler=log, summary="A segment of a log", raw="application/octet-stream", status=204,
          query=("attempt", "source", "sequence", "name", "offset")),
)

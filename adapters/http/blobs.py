"""Files by their content. Nobody names a place: a file's key is the SHA-256 of what is in it."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import AsyncIterator
from typing import IO

import anyio.to_thread
from starlette.responses import Response

from adapters.http import limits
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.problems import Problem
from adapters.http.routing import Route
from adapters.http.zips import Streamed
from core.errors import NotFound
from foldline.wire.files import MissingAnswer, MissingRequest

DIGESTS_BYTES_MAX = 8 * 1024 * 1024
HELD_BYTES_MAX = 4 * 1024 * 1024
STORED_FILE_BYTES_MAX = 1 << 30
READ_BYTES = 1 << 20
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


async def missing(call: Call) -> Response:
    wanted = await call.body(MissingRequest, DIGESTS_BYTES_MAX)
    found = await call.services.blobs.missing(call.home, list(dict.fromkeys(wanted.digests)))
    return call.answer(MissingAnswer(missing=list(found)))


async def upload(call: Call) -> Response:
    """201 when it is new, 200 when it was there."""
    digest = _digest(call)
    _, _, new = await receive_blob(call, digest)
    return Response(status_code=201 if new else 200)


async def download(call: Call) -> Response:
    digest = _digest(call)
    size = await call.services.blobs.size(call.home, digest)
    if size is None:
        raise NotFound("blob", digest)
    return Streamed(call.services.blobs.open(call.home, digest), media_type="application/octet-stream", name=digest, size=size)


async def receive_blob(call: Call, digest: str | None) -> tuple[str, int, bool]:
    """Stores the body under its digest, which is worked out when not given: (digest, size, whether it is new).

    Raises: Problem 413, 408, 415, 422 `wrong_digest` when the content is another.
    """
    services = call.services
    bytes_max = services.settings.blob_bytes_max if digest is not None else min(services.settings.blob_bytes_max, STORED_FILE_BYTES_MAX)
    announced = limits.check_body_headers(call.headers, None)
    if announced is not None and announced > bytes_max:
        raise limits.too_large(bytes_max)
    chunks = limits.stream_body(call.wire.receive, bytes_max, services.settings.body_seconds)
    if digest is None:
        return await _receive_unnamed(call, chunks, bytes_max)
    known = await services.blobs.size(call.home, digest)
    if known is not None:
        async for _ in chunks:
            pass
        return digest, known, False
    size = await services.blobs.put(call.home, digest, chunks, bytes_max)
    return digest, size, True


async def _receive_unnamed(call: Call, chunks: AsyncIterator[bytes], bytes_max: int) -> tuple[str, int, bool]:
    """The content waits in an unnamed file until its digest is known."""
    with tempfile.SpooledTemporaryFile(max_size=HELD_BYTES_MAX) as held:
        hasher, size = hashlib.sha256(), 0
        async for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            await anyio.to_thread.run_sync(held.write, chunk) if size > HELD_BYTES_MAX else held.write(chunk)
        digest = hasher.hexdigest()
        held.seek(0)
        await call.services.blobs.put(call.home, digest, _chunks_of(held), bytes_max)
    return digest, size, True


async def _chunks_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await anyio.to_thread.run_sync(file.read, READ_BYTES):
        yield chunk


def _digest(call: Call) -> str:
    digest = call.path["sha256"]
    if not _DIGEST.match(digest):
        raise Problem(400, "bad_digest", "A digest is 64 lower-case hex digits.")
    return digest


ROUTES = (
    Route(method="POST", path=f"{W}/blobs/missing", handler=missing, summary="Which of these files the store has not got",
          body=MissingRequest, answer=MissingAnswer),
    Route(method="PUT", path=f"{W}/blobs/{{sha256}}", handler=upload, summary="Upload a file under its digest", raw="*/*", status=201),
    Route(method="GET", path=f"{W}/blobs/{{sha256}}", handler=download, summary="A file, for nodes", produces="application/octet-stream"),
)

"""The log of a run: as text, or followed live from any offset to its end, with nothing missing and nothing twice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import zstandard
from starlette.responses import Response

from adapters.http import run_views, sse
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.live import Follower
from adapters.http.manifests import check_path
from adapters.http.problems import malformed
from adapters.http.routing import Route
from core.errors import Behind, NotFound, Refusal
from core.events import Recorded
from core.ids import WorkspaceId
from core.ports import MeasurementBatch
from core.runs import stream_of
from projections import run_history, run_logs, source_progress
from projections.run_history import RunRow

DEFAULT_NAME = "user_logs/std_log.txt"
OFFSET_MAX = 1 << 60
TEXT_BYTES_MAX = 16 * 1024 * 1024
PIECE_BYTES_MAX = 256 * 1024
COMPLETE_SECONDS = 10.0
CATCH_UP_SECONDS = 0.02
RECHECK_SECONDS = 3.0
_RESUME = re.compile(r"^(?:(?P<attempt>[1-9][0-9]{0,6}):)?(?P<offset>[0-9]{1,18})$")


async def log(call: Call) -> Response:
    """Text of what is there, or with `Accept: text/event-stream` a stream that follows."""
    name = check_path(call.text("name", 4096) or DEFAULT_NAME)
    attempt = call.number("attempt", None, 1, 1_000_000)
    offset = call.number("offset", 0, 0, OFFSET_MAX) or 0
    accept = b",".join(call.headers.get(b"accept", []))
    if b"text/event-stream" in accept:
        return await _followed(call, name, attempt, offset)
    row = await run_views.load_row(call, call.path["run"])
    pool, home = call.services.pool, call.home
    which = attempt or max(row.attempt, 1)
    await call.wait_for_measurements("run_logs")
    piece = await run_logs.read(pool, home, row.run, which, name, offset, TEXT_BYTES_MAX)
    headers = {**call.extra_headers(), "Foldline-Log-Length": str(piece.total), "Foldline-Log-Attempt": str(which)}
    return Response(piece.data, headers=headers, media_type="text/plain")


async def _followed(call: Call, name: str, attempt: int | None, offset: int) -> Response:
    """Refused before the stream begins when there is no such run."""
    resume = call.headers.get(b"last-event-id")
    if resume is not None:
        match = _RESUME.match(resume[0].decode("latin-1"))
        if match is None or len(resume) != 1:
            raise malformed("Last-Event-ID is none that this stream gave.", code="bad_last_event_id")
        offset, attempt = int(match["offset"]), int(match["attempt"]) if match["attempt"] else attempt
    recorded = await call.services.log.read(call.home, stream_of(call.path["run"]))
    if not recorded:
        raise NotFound("run", call.path["run"])
    fixed = call.text("attempt") is not None
    return sse.EventStream(_LogStream(call, name, attempt, offset, fixed).events(), call.recheck, call.extra_headers())


@dataclass(slots=True)
class _Told:
    status: str = ""
    why: str = ""


class _LogStream:
    """One follower: history from the read model, then what comes live; the read model again where a piece is missing."""

    def __init__(self, call: Call, name: str, attempt: int | None, offset: int, fixed: bool) -> None:
        self._call, self._name, self._fixed = call, name, fixed
        self._attempt, self._offset = attempt or 0, offset
        self._run = call.path["run"]
        self._home: WorkspaceId = call.home
        self._pool = call.services.pool
        self._row: RunRow | None = None
        self._version, self._position = 0, ""
        self._told = _Told()

    async def events(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with self._call.live.follow_run(self._home, self._run) as follower:
            for recorded in await self._call.services.log.read(self._home, stream_of(self._run)):
                self._hear(recorded)
            for chunk in self._status():
                yield chunk
            with contextlib.suppress(Behind):
                await self._call.wait_for_measurements("run_logs")
            async for chunk in self._catch_up():
                yield chunk
            beat = loop.time() + self._call.services.settings.sse_heartbeat_seconds
            recheck = loop.time() + RECHECK_SECONDS
            while not self._final:
                async for chunk in self._news(follower, max(0.0, min(recheck, beat) - loop.time())):
                    yield chunk
                    beat = loop.time() + self._call.services.settings.sse_heartbeat_seconds
                if follower.cut or follower.ended:
                    yield sse.event("cut" if follower.cut else "closing", {"resume": self._identifier()}, self._identifier())
                    return
                if loop.time() >= recheck:
                    if not await _still_allowed(self._call):
                        yield sse.event("closing", {"why": "The credential is not valid for this any more."})
                        return
                    recheck = loop.time() + RECHECK_SECONDS
                    async for chunk in self._catch_up():
                        yield chunk
                if loop.time() >= beat:
                    yield sse.comment("beat")
                    beat = loop.time() + self._call.services.settings.sse_heartbeat_seconds
            async for chunk in self._ending():
                yield chunk

    @property
    def _final(self) -> bool:
        return self._row is not None and self._row.final

    async def _news(self, follower: Follower[Recorded | MeasurementBatch], wait_seconds: float) -> AsyncIterator[bytes]:
        for item in await follower.take(wait_seconds):
            if isinstance(item, Recorded):
                before = self._attempt
                self._hear(item)
                for chunk in self._status():
                    yield chunk
                if self._attempt != before:
                    async for chunk in self._catch_up():
                        yield chunk
            elif item.attempt == self._attempt and item.log_name == self._name:
                async for chunk in self._segment(item):
                    yield chunk

    async def _segment(self, batch: MeasurementBatch) -> AsyncIterator[bytes]:
        start, size = batch.log_offset or 0, batch.log_bytes or 0
        for _ in range(int(COMPLETE_SECONDS / CATCH_UP_SECONDS)):
            if start <= self._offset:
                break
            async for chunk in self._catch_up():
                yield chunk
            if start > self._offset:
                await asyncio.sleep(CATCH_UP_SECONDS)
        if start + size > self._offset >= start:
            data = zstandard.ZstdDecompressor().decompress(batch.body, max_output_size=size)
            yield self._piece(data[self._offset - start:])

    async def _catch_up(self) -> AsyncIterator[bytes]:
        """What the read model has from here on."""
        if self._attempt == 0:
            return
        while True:
            piece = await run_logs.read(self._pool, self._home, self._run, self._attempt, self._name, self._offset, PIECE_BYTES_MAX)
            if not piece.data:
                return
            self._offset = piece.offset
            yield self._piece(piece.data)

    async def _ending(self) -> AsyncIterator[bytes]:
        """The rest of the log, once all that the attempt sent has arrived, and the last word."""
        row = self._row
        sources = row.source_ends if row is not None else ()
        complete = False
        with contextlib.suppress(Behind):
            await self._call.wait_for_measurements("run_logs", "source_progress")
        for _ in range(int(COMPLETE_SECONDS / CATCH_UP_SECONDS)):
            complete = await source_progress.complete(self._pool, self._home, self._run, sources)
            async for chunk in self._catch_up():
                yield chunk
            if complete:
                break
            await asyncio.sleep(CATCH_UP_SECONDS)
        yield sse.event("end", {
            "status": self._told.status, "why": self._told.why, "exit_code": row.exit_code if row else None, "complete": complete,
            "offset": self._offset, "position": self._position,
        }, self._identifier())

    def _hear(self, recorded: Recorded) -> None:
        if recorded.version <= self._version:
            return
        self._version, self._position = recorded.version, recorded.position.token()
        self._row = run_history.fold(self._row, recorded)
        newest = self._row.attempt if self._row is not None else 0
        if not self._fixed and newest > self._attempt:
            if self._attempt:
                self._offset = 0
            self._attempt = newest

    def _status(self) -> list[bytes]:
        if self._row is None:
            return []
        told = _Told(self._row.status, run_history.why(self._row))
        if told == self._told:
            return []
        self._told = told
        return [sse.event("status", {"status": told.status, "why": told.why, "attempt": self._row.attempt, "node": self._row.node})]

    def _piece(self, data: bytes) -> bytes:
        offset = self._offset
        self._offset += len(data)
        text = base64.b64encode(data).decode()
        return sse.event("log", {"offset": offset, "data64": text, "attempt": self._attempt, "name": self._name}, self._identifier())

    def _identifier(self) -> str:
        """What Last-Event-ID brings back: the next offset, with the attempt before it when it is not the first."""
        return str(self._offset) if self._attempt <= 1 else f"{self._attempt}:{self._offset}"


async def _still_allowed(call: Call) -> bool:
    try:
        await call.recheck()
    except Refusal:
        return False
    return True


ROUTES = (
    Route(method="GET", path=f"{W}/jobs/{{run}}/log", handler=log, summary="A log of the run: its text, or an event stream",
          query=("name", "attempt", "offset"), produces="text/plain", held=True),
)

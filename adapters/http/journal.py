"""What happened, who did it, when, because of what: stories, the journal, and the events as they happen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import Response

from adapters.http import sse
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.logs import RECHECK_SECONDS
from adapters.http.names import people_behind
from adapters.http.problems import malformed
from adapters.http.routing import Route
from core.envelope import spell_time
from core.errors import Behind, NotFound, Refusal
from core.events import Recorded, Unreadable
from core.runs import NoRun, stream_of
from foldline.wire.jobs import Happening
from foldline.wire.shapes import Page
from projections import journal as rows
from projections.journal import JournalRow
from projections.page import encode

PAGE_ROWS = 500
CATCH_UP_SECONDS = 0.05
UNREADABLE = "The next event cannot be read by this server; an administrator has to update it. Nothing is lost."


async def story(call: Call) -> Response:
    run = call.path["run"]
    if isinstance(await call.services.executor.state(call.home, stream_of(run)), NoRun):
        raise NotFound("run", run)
    await call.wait("journal")
    found = await rows.story(call.services.pool, call.home, run, limit=call.limit, cursor=call.cursor)
    return call.page(await _happenings(call, found.items), found.next)


async def journal(call: Call) -> Response:
    await call.wait("journal")
    found = await rows.page(
        call.services.pool, call.home, subject=call.text("subject"), actor=call.text("actor"), event_type=call.text("type"),
        since=call.time("since"), until=call.time("until"), limit=call.limit, cursor=call.cursor,
    )
    return call.page(await _happenings(call, found.items), found.next)


async def _happenings(call: Call, found: Sequence[JournalRow]) -> list[Happening]:
    names = await people_behind(call.services, {row.actor for row in found})
    return [
        Happening(
            sequence=row.sequence, at=row.at, actor=row.actor, actor_name=names.get(row.actor), type=row.type, subject=row.subject,
            summary=row.summary, because=row.cause, correlation=row.correlation, event=row.event,
        )
        for row in found
    ]


async def events(call: Call) -> Response:
    """All events of the workspace, live, as CloudEvents; from the beginning, or after Last-Event-ID."""
    resume = call.headers.get(b"last-event-id")
    after = call.number("after", None, 0, 1 << 60)
    if resume is not None:
        if len(resume) != 1 or not re.fullmatch(rb"[0-9]{1,18}", resume[0]):
            raise malformed("Last-Event-ID is none that this stream gave.", code="bad_last_event_id")
        after = int(resume[0])
    with contextlib.suppress(Behind):
        await call.wait("journal")  # which refuses here, before the stream begins, when the journal stands still
    await _check_known(call, after or 0)
    return sse.EventStream(_follow(call, after or 0), call.recheck, call.extra_headers())


async def _check_known(call: Call, after: int) -> None:
    """Raises: Problem 400 for a place that the workspace has not reached: nobody has been given it."""
    newest = 0
    for _ in range(int(call.services.settings.wait_seconds / CATCH_UP_SECONDS)):
        found = await rows.page(call.services.pool, call.home, limit=1)
        newest = found.items[0].sequence if found.items else 0
        if newest >= after:
            return
        await asyncio.sleep(CATCH_UP_SECONDS)
    raise malformed(f"The workspace has {newest} events; begin at one of them.", code="bad_last_event_id", newest=newest)


async def _follow(call: Call, after: int) -> AsyncIterator[bytes]:
    """History from the journal, then what comes live; `sequence` has no gaps, so a missing one is seen at once."""
    loop = asyncio.get_running_loop()
    settings = call.services.settings
    with call.live.follow_workspace(call.home) as follower:
        with contextlib.suppress(Behind):
            await call.wait_for_everything("journal")
        async for row in _history(call, after):
            after = row.sequence
            yield sse.event("event", _cloud_event_of_row(call, row), after)
        beat, recheck = loop.time() + settings.sse_heartbeat_seconds, loop.time() + RECHECK_SECONDS
        while True:
            for recorded in await follower.take(max(0.0, min(beat, recheck) - loop.time())):
                if isinstance(recorded.event, Unreadable):
                    yield sse.event("closing", {"why": UNREADABLE, "resume": after}, after)
                    return
                while recorded.sequence > after + 1:
                    if call.home in call.services.progress.stopped("journal"):
                        yield sse.event("closing", {"why": UNREADABLE, "resume": after}, after)
                        return
                    async for row in _history(call, after):
                        if row.sequence < recorded.sequence:
                            after = row.sequence
                            yield sse.event("event", _cloud_event_of_row(call, row), after)
                    if recorded.sequence > after + 1:
                        await asyncio.sleep(CATCH_UP_SECONDS)
                if recorded.sequence == after + 1:
                    after = recorded.sequence
                    yield sse.event("event", cloud_event(recorded, call.services.log.id), after)
                    beat = loop.time() + settings.sse_heartbeat_seconds
            if follower.cut or follower.ended:
                yield sse.event("cut" if follower.cut else "closing", {"resume": after}, after)
                return
            if loop.time() >= recheck:
                recheck = loop.time() + RECHECK_SECONDS
                try:
                    await call.recheck()
                except Refusal:
                    yield sse.event("closing", {"why": "The credential is not valid for this any more."})
                    return
                async for row in _history(call, after):
                    after = row.sequence
                    yield sse.event("event", _cloud_event_of_row(call, row), after)
            if loop.time() >= beat:
                yield sse.comment("beat")
                beat = loop.time() + settings.sse_heartbeat_seconds


async def _history(call: Call, after: int) -> AsyncIterator[JournalRow]:
    """What the journal has after a sequence, in order."""
    cursor: str | None = encode((after,))
    while True:
        found = await rows.page(call.services.pool, call.home, limit=PAGE_ROWS, cursor=cursor, newest_first=False)
        for row in found.items:
            yield row
        if found.next is None:
            return
        cursor = found.next


def cloud_event(recorded: Recorded, log: str) -> dict[str, Any]:
    """CloudEvents 1.0 in structured JSON, with our extensions."""
    made = {
        "specversion": "1.0", "id": recorded.id, "source": f"/foldline/{log}/{recorded.workspace}",
        "type": f"foldline.{recorded.event.type}", "subject": recorded.stream, "time": spell_time(recorded.at),
        "datacontenttype": "application/json", "dataschema": f"/schemas/events/{recorded.event.type}.json",
        "partitionkey": recorded.workspace, "sequence": str(recorded.sequence), "streamversion": str(recorded.version),
        "actor": recorded.actor, "correlationid": recorded.correlation, "commandid": recorded.command, "chain": recorded.chain,
        "data": json.loads(recorded.event.model_dump_json(exclude_none=True)),
    }
    if recorded.causation is not None:
        made["causationid"] = recorded.causation
    if recorded.traceparent is not None:
        made["traceparent"] = recorded.traceparent
    return made


def _cloud_event_of_row(call: Call, row: JournalRow) -> dict[str, Any]:
    made = {
        "specversion": "1.0", "id": f"{row.workspace}/{row.sequence}", "source": f"/foldline/{call.services.log.id}/{row.workspace}",
        "type": f"foldline.{row.type}", "subject": row.subject, "time": spell_time(row.at), "datacontenttype": "application/json",
        "dataschema": f"/schemas/events/{row.type}.json", "partitionkey": row.workspace, "sequence": str(row.sequence),
        "streamversion": str(row.version), "actor": row.actor, "correlationid": row.correlation, "commandid": row.command,
        "data": row.event,
    }
    if row.causation is not None:
        made["causationid"] = f"{row.workspace}/{row.causation}"
    return made


ROUTES = (
    Route(method="GET", path=f"{W}/jobs/{{run}}/story", handler=story, summary="The story of a run", answer=Page[Happening],
          query=("limit", "cursor"), expensive=True),
    Route(method="GET", path=f"{W}/journal", handler=journal, summary="Everything that happened, newest first", answer=Page[Happening],
          query=("subject", "type", "actor", "since", "until", "limit", "cursor"), expensive=True),
    Route(method="GET", path=f"{W}/events", handler=events, summary="Events as they happen, as CloudEvents", query=("after",),
          produces="text/event-stream", held=True),
)

"""Takes whole requests, calls the script where it belongs, keeps the limits.

The script's functions are called in the main thread only, `init()` and `run()` alike, so what they keep per thread stays
theirs. A quick `run()` is called straight from the loop. When it turns out slow, the loop moves to a second thread (see
`worker`) and the main thread takes requests from a queue: then health is answered beside a running `run()`, and limits count.
An async `run()` is awaited in the loop.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from foldline.serving.answers import NOT_RUN, NotJson, encode_result, is_json
from foldline.serving.connection import Connection
from foldline.serving.script import Script

SLOW_SECONDS = 0.005
SLOW_CALLS = 3
"""So many slow calls in a row move the loop to its own thread."""


@dataclass(slots=True, eq=False)
class Job:
    """One request between its hand-over and its answer."""

    connection: Connection
    raw: str
    content_type: bytes
    deadline: asyncio.TimerHandle | None = None
    task: asyncio.Task[object] | None = None
    given_up: bool = False
    """The caller has gone or has had its answer: nobody waits for the result."""


class Service:
    """One worker's requests. Everything but `work` is called in the loop's thread."""

    def __init__(
        self, script: Script, loop: asyncio.AbstractEventLoop, *, concurrent_max: int, timeout_seconds: float, body_bytes_max: int,
    ) -> None:
        self.body_bytes_max = body_bytes_max
        self.connections: set[Connection] = set()
        self.draining = False
        self.threaded = False
        self.on_idle: Callable[[], None] | None = None
        """Called when the last request in work is answered."""
        self._script, self._loop = script, loop
        self._run = script.run
        self._concurrent_max, self._timeout_seconds = concurrent_max, timeout_seconds
        self._jobs: set[Job] = set()
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._slow = 0

    def requested(self, connection: Connection, method: bytes, path: bytes, content_type: bytes, encoding: bytes, body: bytes) -> None:
        """Answers a whole request now, or sees to it that it is answered."""
        if path == b"/score":
            if method != b"POST":
                connection.refuse(405, "method_not_allowed", "Send the data with POST.", (b"allow", b"POST"))
                return
            self._score(connection, content_type, encoding, body)
        elif path == b"/":
            if method in (b"GET", b"HEAD"):
                connection.answer(200, b"text/plain; charset=utf-8", b"Healthy" if method == b"GET" else b"")
            else:
                connection.refuse(405, "method_not_allowed", "This path answers GET.", (b"allow", b"GET, HEAD"))
        else:
            connection.refuse(404, "not_found", "A worker serves GET / and POST /score.")

    @property
    def in_work(self) -> int:
        return len(self._jobs)

    def abandoned(self, connection: Connection) -> None:
        """The caller has gone: what nobody waits for is not begun, and a coroutine is cancelled."""
        job = connection.pending
        if isinstance(job, Job):
            job.given_up = True
            if job.task is not None:
                job.task.cancel()

    def work(self) -> None:
        """The main thread's loop once `threaded`: one request after the other, until `end_work`."""
        while (job := self._queue.get()) is not None:
            if job.given_up:
                self._loop.call_soon_threadsafe(self._over, job)
                continue
            outcome = self._called(job)
            self._loop.call_soon_threadsafe(self._finish, job, outcome)

    def end_work(self) -> None:
        self._queue.put(None)

    # -- in order ------------------------------------------------------------------------------------------------------
    def _score(self, connection: Connection, content_type: bytes, encoding: bytes, body: bytes) -> None:
        if not _is_text(content_type) or encoding not in (b"", b"identity"):
            connection.refuse(415, "unsupported_media_type", "Send UTF-8 text: application/json, text/plain or text/csv, not compressed.")
            return
        try:
            raw = body.decode()
        except UnicodeDecodeError:
            connection.refuse(400, "not_utf8", "The request's body is not UTF-8 text.")
            return
        if not (self._script.is_async or self.threaded):
            self._score_here(Job(connection, raw, content_type))
            return
        if len(self._jobs) >= self._concurrent_max:
            connection.refuse(
                503, "too_many_requests", f"This replica has {self._concurrent_max} requests in work, as many as it may.",
                (b"retry-after", b"1"), NOT_RUN,
            )
            return
        job = Job(connection, raw, content_type)
        connection.pending = job
        self._jobs.add(job)
        job.deadline = self._loop.call_later(self._timeout_seconds, self._timed_out, job)
        if self._script.is_async:
            job.task = self._loop.create_task(self._awaited(job))  # held in _jobs; awaited by nobody, since it answers by itself
        else:
            self._queue.put(job)

    def _score_here(self, job: Job) -> None:
        started = time.perf_counter()
        outcome = self._called(job)
        self._slow = self._slow + 1 if time.perf_counter() - started > SLOW_SECONDS else 0
        self._tell(job, outcome)
        if self._slow >= SLOW_CALLS and not self.draining:
            self.threaded = True
            self._loop.stop()

    def _called(self, job: Job) -> bytes | Exception:
        try:
            return encode_result(self._run(job.raw))
        except (Exception, SystemExit) as error:
            return self._logged(job, error)

    async def _awaited(self, job: Job) -> None:
        outcome: bytes | Exception
        try:
            outcome = encode_result(await self._run(job.raw))
        except asyncio.CancelledError:
            self._over(job)
            raise
        except (Exception, SystemExit) as error:
            outcome = self._logged(job, error)
        self._finish(job, outcome)

    def _finish(self, job: Job, outcome: bytes | Exception) -> None:
        self._over(job)
        if not job.given_up:
            self._tell(job, outcome)

    def _over(self, job: Job) -> None:
        self._jobs.discard(job)
        if job.deadline is not None:
            job.deadline.cancel()
        if not self._jobs and self.on_idle is not None:
            self._loop.call_soon(self.on_idle)

    def _timed_out(self, job: Job) -> None:
        """The caller gets its answer; a `run()` that is under way holds its place until it returns."""
        if job.given_up:
            return
        job.connection.refuse(504, "scoring_timeout", f"run() did not answer within {self._timeout_seconds:g} seconds.")
        job.given_up = True
        if job.task is not None:
            job.task.cancel()

    def _tell(self, job: Job, outcome: bytes | Exception) -> None:
        match outcome:
            case bytes():
                job.connection.answer(200, b"application/json", outcome)
            case NotJson():
                job.connection.refuse(500, "result_not_json", f"The scoring script returned {outcome}, which JSON cannot hold.")
            case json.JSONDecodeError() if b"json" in job.content_type and not is_json(job.raw):
                job.connection.refuse(400, "invalid_json", "The request's body is not valid JSON.")
            case _:
                job.connection.refuse(500, "scoring_failed", "The scoring script raised an exception; the deployment's log has its trace.")

    def _logged(self, job: Job, error: BaseException) -> Exception:
        trace = "".join(traceback.format_exception(error))
        sys.stderr.write(f"Request {job.connection.request_id} failed:\n{trace}")
        sys.stderr.flush()
        return error if isinstance(error, Exception) else RuntimeError("SystemExit")


def _is_text(content_type: bytes) -> bool:
    kind, _, parameters = content_type.partition(b";")
    kind = kind.strip()
    charset = parameters.partition(b"charset=")[2].split(b";")[0].strip(b' "')
    text = kind in (b"", b"application/json") or kind.startswith(b"text/") or kind.endswith(b"+json")
    return text and charset in (b"", b"utf-8", b"utf8", b"us-ascii")

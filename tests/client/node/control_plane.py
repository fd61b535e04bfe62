"""A small server that keeps the agent's side of the HTTP contract, over real HTTP, checking every message with the wire types."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foldline.wire.files import Manifest, MissingRequest
from foldline.wire.measurements import NO_DIGEST, PointsBatch, chain_digest, unspell
from foldline.wire.nodes import Assignment, Ended, Exited, Hello, Parameters, Started, Stop, WorkRequest

REPORTS = ("started", "exited", "ended", "points", "log", "parameters", "tags")
TOKEN = "fln_ws-1:node-1:secret"
WORKSPACE = "ws-1"


@dataclass
class SeenRun:
    """What was heard of one attempt."""

    assignment: Assignment
    listed: bool = False
    started: list[Started] = field(default_factory=list)
    exited: list[Exited] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    bodies: dict[str, dict[int, str]] = field(default_factory=dict)
    """Per source the hash of each sequence's body."""
    points: list[tuple[str, int, float]] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    logs: dict[str, bytearray] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    doubled: int = 0
    stop: Stop | None = None
    drop: bool = False

    @property
    def log(self) -> str:
        return self.logs.get("user_logs/std_log.txt", bytearray()).decode()


class ControlPlane:
    """Holds requests for work, stores blobs and manifests, and remembers all it hears."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], SeenRun] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.heartbeats = 0
        self.hellos: list[Hello] = []
        self.lease_seconds = 15.0
        self.heartbeat_seconds = 0.3
        self.release = False
        self.stale: set[tuple[str, int]] = set()
        self.problems: list[str] = []
        self.refuse_token = False
        self.fail_next: Callable[[str], bool] = lambda path: False
        self.news = asyncio.Condition()
        self.port = _free_port()
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def up(self) -> None:
        config = uvicorn.Config(self._app(), host="127.0.0.1", port=self.port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)

    async def down(self) -> None:
        assert self._server is not None and self._task is not None
        self._server.should_exit = True
        self._server.force_exit = True
        await self._task

    # -- for tests -----------------------------------------------------------------------------------------------------
    async def assign(
        self,
        command: str,
        *,
        run: str = "calm-fox-1",
        attempt: int = 1,
        files: dict[str, bytes] | None = None,
        **more: Any,
    ) -> SeenRun:
        packages = more.pop("packages", [])
        assignment = Assignment(
            workspace=WORKSPACE,
            workspace_name="team",
            run=run,
            attempt=attempt,
            experiment="digits",
            command=command,
            environment_key=key_of(more.get("python", ""), packages),
            packages=packages,
            snapshot=self.snapshot(files) if files else None,
            run_token=f"flr_{WORKSPACE}:{run}:{attempt}:RUNSECRET",
            **more,
        )
        seen = self.runs[run, attempt] = SeenRun(assignment)
        await self._tell()
        return seen

    def snapshot(self, files: dict[str, bytes], executable: tuple[str, ...] = ()) -> str:
        entries = []
        for path, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            self.blobs[digest] = content
            entries.append({"path": path, "sha256": digest, "bytes": len(content), "executable": path in executable})
        manifest = Manifest.model_validate({"files": entries})
        digest = hashlib.sha256(manifest.canonical()).hexdigest()
        self.manifests[digest] = manifest
        return digest

    async def stop(self, seen: SeenRun, grace: float, cause: str = "canceled") -> None:
        seen.stop = Stop(run=seen.assignment.run, attempt=seen.assignment.attempt, cause=cause, grace_seconds=grace)
        await self._tell()

    async def drop(self, seen: SeenRun) -> None:
        seen.drop = True
        await self._tell()

    async def until(self, wanted: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
        """Waits for something to be so; the state at the deadline is the message."""
        try:
            async with asyncio.timeout(seconds):
                async with self.news:
                    await self.news.wait_for(wanted)
        except TimeoutError:
            raise AssertionError(f"not so after {seconds} s: {what}; {self.problems} {list(self.runs.values())}"[:6000]) from None

    async def over(self, seen: SeenRun, seconds: float = 60.0) -> Ended:
        await self.until(lambda: seen.ended, seconds, "the run has ended")
        return seen.ended[0]

    def output(self, seen: SeenRun, path: str) -> bytes:
        digest = seen.ended[0].outputs
        assert digest is not None
        entry = next(entry for entry in self.manifests[digest].files if entry.path == path)
        return self.blobs[entry.sha256]

    def outputs(self, seen: SeenRun) -> list[str]:
        digest = seen.ended[0].outputs
        assert digest is not None
        return [entry.path for entry in self.manifests[digest].files]

    def check_complete(self, seen: SeenRun) -> None:
        """Every source is there to its end, each sequence once, with the digest that the agent tells."""
        for end in seen.ended[0].sources:
            bodies = seen.bodies.get(end.source, {})
            assert sorted(bodies) == list(range(1, end.last_sequence + 1)), (end, sorted(bodies))
            digest = NO_DIGEST
            for sequence in sorted(bodies):
                digest = chain_digest(digest, bodies[sequence])
            assert digest == end.digest, end
        assert not self.problems

    # -- routes --------------------------------------------------------------------------------------------------------
    def _app(self) -> Starlette:
        agent, home = "/api/v1/agent", f"/api/v1/workspaces/{WORKSPACE}"
        routes = [
            Route(f"{agent}/hello", self._hello, methods=["POST"]),
            Route(f"{agent}/work", self._work, methods=["POST"]),
            *(Route(f"{agent}/runs/{{run}}/{what}", self._report, methods=["POST"]) for what in REPORTS),
            Route(f"{home}/blobs/missing", self._missing, methods=["POST"]),
            Route(f"{home}/blobs/{{digest}}", self._blob, methods=["GET", "PUT"]),
            Route(f"{home}/snapshots", self._store, methods=["POST"]),
            Route(f"{home}/snapshots/{{digest}}", self._manifest, methods=["GET"]),
            Route("/api/v1/nodes/join", self._join, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    def _refused(self, request: Request) -> Response | None:
        if self.fail_next(request.url.path):
            return _problem(503, "unavailable", "Try again.")
        if self.refuse_token or request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _problem(401, "unauthenticated", "The token is not valid.")
        if request.headers.get("foldline-protocol") != "1":
            return _problem(426, "unsupported_protocol", "Speak 1.")
        return None

    async def _join(self, request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer flj_once:secret":
            return _problem(401, "unauthenticated", "The join token was used, or never was one.")
        await request.json()
        return JSONResponse({"node": "mine-1", "workspace": WORKSPACE, "compute": "mine", "token": TOKEN})

    async def _hello(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        self.hellos.append(Hello.model_validate_json(await request.body()))
        await self._tell()
        timers = {"heartbeat_seconds": self.heartbeat_seconds, "lease_seconds": self.lease_seconds, "cancel_grace_seconds": 2.0}
        return JSONResponse({"node": "node-1", "workspace": WORKSPACE, "compute": "cpu", **timers})

    async def _work(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        wanted = WorkRequest.model_validate_json(await request.body())
        listed = {(one.run, one.attempt) for one in wanted.attempts}
        self.heartbeats += 1
        for key in listed:
            if key in self.runs:
                self.runs[key].listed = True
        await self._tell()

        def news() -> bool:
            open_runs = {key: seen for key, seen in self.runs.items() if not seen.ended and not seen.drop}
            dropped = any(seen.drop and key in listed for key, seen in self.runs.items())
            stopped = any(seen.stop and key in listed for key, seen in open_runs.items())
            return self.release or dropped or stopped or any(key not in listed for key in open_runs)

        try:
            async with asyncio.timeout(wanted.wait_seconds), self.news:
                await self.news.wait_for(news)
        except TimeoutError:
            pass
        alive = {key: seen for key, seen in self.runs.items() if not seen.ended and not seen.drop}
        if all(key in listed for key in alive) and any(key in listed and seen.stop for key, seen in alive.items()):
            await asyncio.sleep(0.02)
        return JSONResponse(
            {
                "assignments": [seen.assignment.model_dump() for key, seen in alive.items() if key not in listed],
                "stops": [seen.stop.model_dump() for key, seen in alive.items() if seen.stop and key in listed],
                "drop": [
                    {"run": key[0], "attempt": key[1], "phase": "running"} for key in listed if key in self.runs and self.runs[key].drop
                ],
                "release": self.release,
            }
        )

    async def _report(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        what, run, body = request.url.path.rpartition("/")[2], request.path_params["run"], await request.body()
        try:
            number = int(request.query_params["attempt"]) if what in ("log", "parameters", "tags") else int(json.loads(body)["attempt"])
            seen = self.runs[run, number]
            if (run, number) in self.stale:
                return _problem(409, "stale_attempt", "Another attempt counts.")
            answer = self._heard(what, seen, body, request)
        except Exception as problem:
            self.problems.append(f"{request.url.path}: {problem!r}")
            return _problem(422, "invalid", str(problem))
        await self._tell()
        return answer

    def _heard(self, what: str, seen: SeenRun, body: bytes, request: Request) -> Response:
        match what:
            case "started":
                seen.started.append(Started.model_validate_json(body))
            case "exited":
                assert seen.started
                seen.exited.append(Exited.model_validate_json(body))
            case "ended":
                seen.ended.append(Ended.model_validate_json(body))
            case "parameters":
                given = Parameters.model_validate_json(body).parameters
                if any(seen.parameters.get(key, value) != value for key, value in given.items()):
                    return _problem(409, "conflict", "The parameter never changes.")
                seen.parameters.update(given)
            case "tags":
                seen.tags.update(json.loads(body)["tags"])
            case "points":
                batch = PointsBatch.model_validate_json(body)
                if self._once(seen, batch.source, batch.sequence, body):
                    for key, step, value in zip(batch.key, batch.step, batch.value, strict=True):
                        if batch.kind == "points":
                            seen.points.append((batch.keys[key], step, unspell(value)))
                        else:
                            seen.system.append(batch.keys[key])
            case "log":
                query = request.query_params
                if self._once(seen, query["source"], int(query["sequence"]), body):
                    log = seen.logs.setdefault(query["name"], bytearray())
                    assert len(log) == int(query["offset"]), (len(log), query["offset"])
                    log.extend(body)
        return Response(status_code=204)

    def _once(self, seen: SeenRun, source: str, sequence: int, body: bytes) -> bool:
        known = seen.bodies.setdefault(source, {})
        digest = hashlib.sha256(body).hexdigest()
        if sequence in known:
            assert known[sequence] == digest, f"{source} #{sequence} came twice, with other content"
            seen.doubled += 1
            return False
        assert sequence == len(known) + 1, f"{source}: {sequence} after {len(known)}"
        known[sequence] = digest
        return True

    async def _missing(self, request: Request) -> Response:
        digests = MissingRequest.model_validate_json(await request.body()).digests
        return self._refused(request) or JSONResponse({"missing": [digest for digest in digests if digest not in self.blobs]})

    async def _blob(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        digest = request.path_params["digest"]
        if request.method == "GET":
            return Response(self.blobs[digest]) if digest in self.blobs else _problem(404, "not_found", "No such blob.")
        body = await request.body()
        if hashlib.sha256(body).hexdigest() != digest:
            return _problem(422, "invalid", "The content does not have its hash.")
        self.blobs[digest] = body
        return Response(status_code=201)

    async def _store(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        manifest = Manifest.model_validate_json(await request.body())
        assert all(entry.sha256 in self.blobs for entry in manifest.files)
        digest = hashlib.sha256(manifest.canonical()).hexdigest()
        self.manifests[digest] = manifest
        return JSONResponse({"digest": digest, "files": len(manifest.files), "bytes": sum(entry.bytes for entry in manifest.files)}, 201)

    async def _manifest(self, request: Request) -> Response:
        found = self.manifests.get(request.path_params["digest"])
        return self._refused(request) or (Response(found.model_dump_json()) if found else _problem(404, "not_found", "No such snapshot."))


@asynccontextmanager
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    await plane.up()
    try:
        yield plane
    finally:
        await plane.down()


def key_of(python: str, packages: Sequence[str]) -> str:
    """As `core.environments.EnvironmentSpec.key` has it."""
    return hashlib.sha256(json.dumps({"python": python, "packages": sorted(packages)}, sort_keys=True).encode()).hexdigest()


def _problem(status: int, code: str, detail: str) -> Response:
    return JSONResponse({"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}, status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Jobs as they are submitted and the runs that come of them."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from foldline.answers import plain
from foldline.connection import Connection, path_of
from foldline.problems import RunNotSuccessful, ServerUnavailable
from foldline.resources.collection import Collection, items, set_fields
from foldline.resources.follow import Happening, LogPiece, StatusChange, follow
from foldline.transfers import Progress, RemoteFile, fetch_folder, send_file, store_folder

if TYPE_CHECKING:
    from foldline.jobfile import JobPlan
    from foldline.wire import jobs as wire

FINAL = frozenset({"completed", "failed", "canceled"})
USER_LOG = "user_logs/std_log.txt"
SETTLE_SECONDS, SETTLE_TRIES_MAX = 0.1, 300


class Run:
    """One run. `answer` is what the server said last; `refresh` asks again."""

    def __init__(self, connection: Connection, workspace: str, answer: wire.Run) -> None:
        self._connection = connection
        self._workspace = workspace
        self.answer = answer

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.status}>"

    @property
    def name(self) -> str:
        return self.answer.name

    @property
    def status(self) -> str:
        return self.answer.status

    @property
    def why(self) -> str:
        """One sentence: what the status means for this run."""
        return self.answer.why

    @property
    def link(self) -> str:
        """The run's address, for people and browsers."""
        return str(getattr(self.answer, "link", "") or f"{self._connection.target.url}/api/v1/{self._path()}")

    def _path(self, *segments: str) -> str:
        return path_of("workspaces", self._workspace, "jobs", self.name, *segments)

    async def refresh(self) -> Run:
        self.answer = self._connection.decode("jobs.Run", await self._connection.call("GET", self._path()))
        return self

    def follow(self, log: str | None = None) -> AsyncGenerator[Happening, None]:
        """States and log as they come, from the beginning to the end of the run; taken up again when the connection breaks."""
        return follow(self._connection, self._path("log"), name=log)

    async def logs(self) -> AsyncIterator[str]:
        """The log line by line, live, until the run is final and the log complete."""
        rest = ""
        async for happening in self.follow():
            if isinstance(happening, LogPiece):
                *lines, rest = (rest + happening.text).split("\n")
                for line in lines:
                    yield line
        if rest:
            yield rest

    async def wait(self, *, check: bool = False) -> Run:
        """Returns once the run is final. Raises: RunNotSuccessful when `check` is set and it did not complete."""
        async with aclosing(self.follow()) as happenings:
            async for happening in happenings:
                if isinstance(happening, StatusChange) and happening.status in FINAL:
                    break
        await self.settle()
        if check and self.status != "completed":
            raise RunNotSuccessful(f"Run {self.name} {self.status}: {self.why}", code=f"run_{self.status}", fields={"run": self.name})
        return self

    async def settle(self) -> Run:
        """After the stream's end: asks until the run shows its final state. Raises: ServerUnavailable when it does not."""
        for _ in range(SETTLE_TRIES_MAX):
            if (await self.refresh()).status in FINAL:
                return self
            await asyncio.sleep(SETTLE_SECONDS)
        raise ServerUnavailable(f"Run {self.name} has ended, but the server still shows it as {self.status}.", code="behind")

    async def log_bytes(self, *, name: str = USER_LOG, attempt: int | None = None) -> AsyncIterator[bytes]:
        """What is in the log now, piece by piece."""
        offset, total = 0, 1
        while offset < total:
            params = set_fields(name=name, attempt=attempt, offset=offset)
            async with self._connection.open("GET", self._path("log"), params=params) as response:
                total = int(response.headers.get("Foldline-Log-Length", 0))
                before = offset
                async for piece in response.aiter_bytes():
                    offset += len(piece)
                    yield piece
            if offset == before:
                return

    async def log_text(self, *, name: str = USER_LOG, attempt: int | None = None) -> str:
        """What is in the log now."""
        return b"".join([piece async for piece in self.log_bytes(name=name, attempt=attempt)]).decode(errors="replace")

    async def metrics(self) -> list[wire.MetricSummary]:
        """Last, least and greatest value of each metric."""
        page = await self._connection.call("GET", self._path("metrics"))
        return [self._connection.decode("jobs.MetricSummary", item) for item in page["items"]]

    async def curve(self, key: str, *, buckets: int = 500, attempt: int | None = None) -> wire.Curve:
        """One metric over its steps, at most `buckets` points, every spike kept."""
        params = set_fields(key=key, buckets=buckets, attempt=attempt)
        answer = await self._connection.call("GET", self._path("metrics", "curve"), params=params)
        return cast("wire.Curve", self._connection.decode("jobs.Curve", answer))

    async def story(self) -> list[wire.Happening]:
        """What happened to the run, in order."""
        return [self._connection.decode("jobs.Happening", item) async for item in items(self._connection, self._path("story"))]

    async def outputs(self) -> list[wire.OutputFile]:
        """The files kept with the run."""
        return [self._connection.decode("jobs.OutputFile", item) async for item in items(self._connection, self._path("outputs"))]

    async def download(self, destination: str | Path | None = None, *, below: str = "", progress: Progress | None = None) -> list[Path]:
        """Downloads the kept files into `destination` (else a folder named after the run), each checked by its hash.

        `below` takes only the files whose path is it or lies below it.
        """
        target = Path(destination) if destination is not None else Path(self.name)
        prefix = below.rstrip("/")
        wanted = [
            RemoteFile(file.path, file.bytes, file.sha256)
            for file in map(_attributes, plain(await self.outputs()))
            if not prefix or file.path == prefix or file.path.startswith(prefix + "/")
        ]
        return await fetch_folder(self._connection, self._path("outputs", "file"), wanted, target, progress)

    async def attach(self, file: str | Path, path: str) -> wire.OutputFile:
        """Stores a file of yours with the run, as `path` (below `outputs/`, say)."""
        answer = await send_file(self._connection, self._path("outputs", "file"), Path(file), {"path": path})
        return cast("wire.OutputFile", self._connection.decode("jobs.OutputFile", answer))

    async def cancel(self) -> Run:
        """Asks the run to stop; it gets its grace first."""
        self.answer = self._connection.decode("jobs.Run", await self._connection.call("POST", self._path("cancel")))
        return self

    async def update(self, change: wire.JobUpdate | Mapping[str, Any]) -> Run:
        """Changes names, description, tags or whether it is archived."""
        self.answer = self._connection.decode("jobs.Run", await self._connection.call("PATCH", self._path(), body=change))
        return self

    async def archive(self) -> Run:
        """Leaves the run out of lists."""
        return await self.update({"archived": True})

    async def restore(self) -> Run:
        return await self.update({"archived": False})


class Jobs(Collection):
    """The workspace's jobs."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        super().__init__(connection, "workspaces", workspace, "jobs")
        self._workspace = workspace

    async def submit(
        self,
        job: str | Path | object,
        *,
        name: str | None = None,
        overrides: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Run:
        """Submits a job file, a `JobCreate`, a dictionary in a job file's shape, or a command job of the package azure-ai-ml.

        `overrides` are `a.b=c`, as `--set` takes them. The code folder is sent as a snapshot, what the server has of it left out.
        Raises: BadInput, NotYet before anything is sent; FoldlineError.
        """
        from foldline.jobfile import plan_of

        plan = await asyncio.to_thread(plan_of, job, tuple(overrides), name)
        return await self.submit_plan(plan, progress=progress)

    async def submit_plan(self, plan: JobPlan, *, progress: Progress | None = None) -> Run:
        """Sends what `foldline.jobfile` read."""
        body = plan.body()
        if plan.code is not None:
            from foldline import git
            from foldline.snapshots import snapshot

            folder = await asyncio.to_thread(snapshot, plan.code)
            facts = await asyncio.to_thread(git.facts, plan.code)
            body["snapshot"] = await store_folder(self._connection, self._workspace, folder, progress)
            if facts is not None:
                body["git"] = set_fields(commit=facts.commit, dirty=facts.dirty, branch=facts.branch, repository=facts.repository)
        return self._run(await self._connection.call("POST", self._path(), body=body), "jobs.RunCreated")

    async def get(self, name: str) -> Run:
        return self._run(await self._connection.call("GET", self._path(name)))

    async def list(
        self,
        *,
        experiment: str | None = None,
        status: str | None = None,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        archived: bool | None = None,
        limit: int | None = 100,
    ) -> builtins.list[Run]:
        """The newest runs first."""
        params: dict[str, Any] = set_fields(experiment=experiment, status=status, parent=parent, archived=archived)
        params["tag"] = [f"{key}={value}" for key, value in (tags or {}).items()]
        return [self._run(item) async for item in items(self._connection, self._path(), params, limit)]

    async def cancel(self, name: str) -> Run:
        return await (await self.get(name)).cancel()

    async def archive(self, name: str) -> Run:
        return await (await self.get(name)).archive()

    async def restore(self, name: str) -> Run:
        return await (await self.get(name)).restore()

    async def compare(self, names: Sequence[str], *, metrics: Sequence[str] = (), buckets: int = 200) -> Any:
        """Parameters, last metrics and curves of several runs side by side: a `foldline.resources.compare.Comparison`."""
        from foldline.resources.compare import compare

        return await compare([await self.get(name) for name in names], metrics=metrics, buckets=buckets)

    def _run(self, data: Any, kind: str = "jobs.Run") -> Run:
        return Run(self._connection, self._workspace, self._connection.decode(kind, data))


def _attributes(fields: dict[str, Any]) -> Any:
    from foldline.answers import Record

    return Record(fields)

"""One replica from its order to its end: prepared, started, probed, watched, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from adapters.serving.content import ContentCache, ContentFailed
from adapters.serving.folders import ReplicaFolder
from adapters.serving.launching import Ingredients, Launcher
from adapters.serving.outliving import Process
from adapters.serving.probe import is_healthy
from core.environments import EnvironmentSpec
from core.ports import ReplicaOrder, ReplicaStatus
from foldline.node.environments import BuiltEnvironment, EnvironmentCache, EnvironmentFailed
from foldline.serving import REQUIREMENTS

REASON_LINES = 20
REASON_CHARS_MAX = 8_000
PROBE_SECONDS_MAX = 0.2
STOP_SLACK_SECONDS = 5.0
BACK_OFF_SECONDS_MAX = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Where a replica gets what it is made of."""

    content: ContentCache
    environments: EnvironmentCache
    launcher: Launcher
    start_limit_seconds: float


class Replica:
    """`live` is its life, a task of the pool's; `end` is its end. `phase` and `reason` are what the pool tells of it."""

    def __init__(self, folder: ReplicaFolder, order: ReplicaOrder, uid: int, kitchen: Kitchen, changed: Callable[[], None]) -> None:
        self.folder, self.order, self.uid = folder, order, uid
        self.phase, self.reason = "starting", ""
        self.failures = 0
        self.task: asyncio.Task[None] | None = None
        self.ending = asyncio.Lock()
        self._kitchen, self._changed = kitchen, changed
        self._process: Process | None = None

    @property
    def status(self) -> ReplicaStatus:
        o, address = self.order, str(self.folder.socket) if self.phase == "ready" else ""
        return ReplicaStatus(o.workspace, o.endpoint, o.deployment, o.revision, o.replica, self.phase, self.reason, address)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def recognise(self) -> None:
        """Looks for what an earlier server has left: a worker that answers is ready at once, with no gap."""
        self._process = self.folder.process()
        if self._process is not None:
            log.info("replica.adopted", replica=self.order.replica, pid=self._process.pid)
            if await is_healthy(self.folder.socket):
                self._set("ready", "")

    async def live(self, wait_seconds: float) -> None:
        """Runs the replica, or takes up the one that an earlier server has started; returns when it has failed."""
        try:
            await asyncio.sleep(wait_seconds)
            if self._process is None or not self._process.alive:
                self._process = await self._begin()
            await self._serve()
            if (other := self.folder.process()) is not None:  # an earlier server's start of it was just under way
                self._process = other
                await self._serve()
            reason = self._why_ended()
        except (ContentFailed, EnvironmentFailed, OSError) as problem:
            self.folder.write_log(f"foldline: {problem}")
            reason = str(problem)
        self.failures += 1
        log.warning("replica.failed", replica=self.order.replica, deployment=self.order.deployment, reason=reason.split("\n")[0])
        self._set("failed", storable(reason))

    def set_starting(self) -> None:
        self._set("starting", "")

    def back_off_seconds(self) -> float:
        """How long the next start waits: nothing the first time, then 1, 2, 4 … seconds."""
        return 0.0 if self.failures == 0 else min(BACK_OFF_SECONDS_MAX, 2.0 ** (self.failures - 1))

    async def end(self, drain_seconds: float) -> None:
        """Stops it in order, at most `drain_seconds` for what is in work; its log is kept, its folder goes."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        self._set("stopped", "")
        process = self._process or self.folder.process()
        if process is not None:
            (self.folder.control / "stop").write_text(f"{drain_seconds:g}\n")
            process.send(signal.SIGTERM)
            if not await process.ended_within(drain_seconds + STOP_SLACK_SECONDS):
                process.send(signal.SIGKILL)
                await process.ended()
        await asyncio.to_thread(self._kitchen.launcher.clear, self.folder)
        log.info("replica.stopped", replica=self.order.replica, deployment=self.order.deployment)

    async def _begin(self) -> Process:
        """Prepares and starts it. Raises: ContentFailed, EnvironmentFailed, OSError."""
        order, began = self.order, time.monotonic()
        self.folder.write_log(f"Starting {order.model}:{order.model_version} as revision {order.revision} of {order.deployment}.")
        model = await self._kitchen.content.folder(order.workspace, order.model_manifest)
        code = await self._kitchen.content.folder(order.workspace, order.code_manifest)
        built = await self._built(order.packages)
        library = await self._built(REQUIREMENTS)  # beside it, so that a job's environment is a deployment's too
        ingredients = Ingredients(model, code, built.path, library.path)
        prepared = time.monotonic()
        process = await asyncio.to_thread(self._kitchen.launcher.launch, self.folder, order, self.uid, ingredients)
        log.info(
            "replica.started", replica=order.replica, deployment=order.deployment, pid=process.pid, uid=self.uid,
            preparing_seconds=round(prepared - began, 3), environment_cached=built.cached,
        )
        return process

    async def _built(self, packages: Sequence[str]) -> BuiltEnvironment:
        spec = EnvironmentSpec(python=self.order.python, packages=tuple(packages))
        return await self._kitchen.environments.ensure(spec.key, spec.python, spec.packages, self.folder.write_log)

    async def _serve(self) -> None:
        """From a running process to its end; `ready` once it answers."""
        assert self._process is not None  # noqa: S101  # `live` has just set it
        began = time.monotonic()
        wait_seconds = 0.01
        while not await is_healthy(self.folder.socket):
            if not self._process.alive:
                return
            if time.monotonic() - began > self._kitchen.start_limit_seconds:
                self.folder.write_log(f"foldline: init() did not end within {self._kitchen.start_limit_seconds:g} seconds.")
                self._process.send(signal.SIGKILL)
                await self._process.ended()
                return
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(PROBE_SECONDS_MAX, wait_seconds * 1.5)
        self._kitchen.launcher.admit(self.folder, self.uid)
        log.info("replica.ready", replica=self.order.replica, deployment=self.order.deployment, seconds=round(time.monotonic() - began, 3))
        self._set("ready", "")
        await self._process.ended()

    def _why_ended(self) -> str:
        """A sentence, then the log's last lines."""
        lines = self.folder.log_lines(REASON_LINES)
        said = [line.removeprefix("foldline: ") for line in lines if line.startswith("foldline: ")]
        status = self.folder.exit_status()
        if said and (said[-1].endswith(".") and self.phase != "ready"):
            sentence = said[-1]
        elif status is None:
            sentence = "The worker is gone, and nobody saw why."
        elif status < 0 or 128 < status < 160:  # bubblewrap tells a signal as 128 + its number
            sentence = f"The worker was killed by {_signal_name(-status if status < 0 else status - 128)}."
        else:
            sentence = f"The worker ended by itself with exit code {status}."
        return "\n".join([sentence, *lines])

    def _set(self, phase: str, reason: str) -> None:
        if (self.phase, self.reason) != (phase, reason):
            self.phase, self.reason = phase, reason
            self._changed()


def storable(reason: str) -> str:
    """What an event can hold of it, whatever a script wrote into its log: its beginning and its end, without NUL."""
    if len(reason) > REASON_CHARS_MAX:
        reason = f"{reason[:1_000]} … {reason[-(REASON_CHARS_MAX - 1_003):]}"
    return reason.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def keep_log(folder: ReplicaFolder, place: Path, kept_max: int) -> None:
    """Copies a replica's last log lines to `place`, and lets the oldest of its neighbours go."""
    lines = folder.log_lines(1000)
    if lines:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.write_text("\n".join(lines) + "\n")
    neighbours = sorted(place.parent.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in neighbours[kept_max:]:
        old.unlink(missing_ok=True)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"



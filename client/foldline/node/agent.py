"""The agent's loop: says hello, adopts what runs, and holds a request for work that is its heartbeat as well."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldline.node import journal, package
from foldline.node.attempt import AttemptRunner
from foldline.node.cgroups import Cgroups
from foldline.node.environments import BuilderIdentity, EnvironmentCache
from foldline.node.folder import AttemptFolder, all_in
from foldline.node.http import Answer, Server, Unanswered
from foldline.node.interpreters import choose
from foldline.node.launcher import Launcher
from foldline.node.preparation import Node
from foldline.node.sandbox import BUILDER_UID, Sandbox, scrubbed_environment, uids_for
from foldline.node.settings import Settings
from foldline.node.snapshot import SnapshotCache
from foldline.node.watch import FileWatch

LEASE_SHARE = 0.8
"""Of the server's lease: by then a script that another node may take is dead here."""
KEPT_DONE_MAX = 1000
ANSWER_SECONDS = 15.0
"""Over the time that the server may hold a request."""

REFUSED, PROTOCOL_REFUSED = 3, 4


@dataclass(frozen=True, slots=True)
class Timers:
    heartbeat_seconds: float
    lease_seconds: float
    cancel_grace_seconds: float


class Agent:
    """One node's agent, from hello to release."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server = Server(settings.server, settings.token, ca_file=settings.ca_file, backoff=settings.backoff)
        self.sandbox, self.cgroups = Sandbox.probe(), Cgroups.probe()
        self._runs = settings.directory / "runs"
        self._runners: dict[tuple[str, int], AttemptRunner] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._waiting: dict[tuple[str, int], tuple[dict[str, Any], float]] = {}
        """Assignments that came while the answer to the `ended` before them was still on its way."""
        self._done: dict[tuple[str, int], None] = {}
        self._refused_since: float | None = None

    async def run(self) -> int:
        """The process's exit code: 0 when released, 3 when the node is none any more, 4 when the server speaks another protocol."""
        self._runs.mkdir(parents=True, exist_ok=True, mode=0o711)
        shutil.rmtree(self.settings.directory / "trash", ignore_errors=True)
        launcher = Launcher()
        launcher.start()
        watch = FileWatch()
        try:
            hello = await self._hello()
            if not isinstance(hello, Timers):
                return hello
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._node = self._shared(launcher, watch, hello)
                for folder in all_in(self._runs):
                    self._adopt(folder)
                return await self._work(hello)
        finally:
            watch.close()
            launcher.close()
            await self.server.close()

    def _shared(self, launcher: Launcher, watch: FileWatch, timers: Timers) -> Node:
        settings = self.settings
        uids = uids_for(settings.directory)
        return Node(
            settings=settings, server=self.server, sandbox=self.sandbox, cgroups=self.cgroups, launcher=launcher, watch=watch, uids=uids,
            environments=EnvironmentCache(
                settings.cache / "environments", builder=BuilderIdentity(BUILDER_UID, self.sandbox), python=settings.python,
            ),
            snapshots=SnapshotCache(settings.cache / "snapshots"), etc=package.etc(settings.directory / "etc", uids),
            package=package.lay_out(settings.cache / "package"), variables=scrubbed_environment(os.environ),
            grace_seconds=timers.cancel_grace_seconds, background=self._in_background,
        )

    # -- talking to the server -----------------------------------------------------------------------------------------
    async def _hello(self) -> Timers | int:
        tries = 0
        while True:
            try:
                answer = await self.server.request("POST", "/api/v1/agent/hello", data={"facts": facts(self), "slots": self.settings.slots})
                if answer.ok:
                    said = answer.json()
                    journal.event("agent.ready", node=said.get("node"), sandbox=self.sandbox.text, cgroups=self.cgroups.text)
                    return Timers(*(float(said[name]) for name in ("heartbeat_seconds", "lease_seconds", "cancel_grace_seconds")))
                if (code := await self._refusal(answer)) is not None:
                    return code
            except Unanswered as problem:
                journal.event("agent.no_answer", problem=str(problem))
            tries += 1
            await self.server.pause(self.server.backoff.pause(tries))

    async def _work(self, timers: Timers) -> int:
        tries = 0
        while True:
            sent = time.monotonic()
            listed = [{"run": runner.run, "attempt": runner.attempt, "phase": runner.phase} for runner in self._runners.values()]
            listed += [{"run": run, "attempt": attempt, "phase": "preparing"} for run, attempt in self._waiting]
            request = {"attempts": listed, "wait_seconds": timers.heartbeat_seconds}
            try:
                answer = await self.server.request(
                    "POST", "/api/v1/agent/work", data=request, timeout_seconds=timers.heartbeat_seconds + ANSWER_SECONDS,
                )
            except Unanswered as problem:
                if not tries:
                    journal.event("agent.server_away", problem=str(problem))
                tries += 1
                await self.server.pause(self.server.backoff.pause(tries))
                continue
            if not answer.ok:
                if (code := await self._refusal(answer)) is not None:
                    return code
                tries += 1
                await self.server.pause(self.server.backoff.pause(tries))
                continue
            tries, self._refused_since = 0, None
            if self._heed(answer.json(), sent + timers.lease_seconds * LEASE_SHARE, {(one["run"], one["attempt"]) for one in listed}):
                journal.event("agent.released")
                return 0

    def _heed(self, said: dict[str, Any], lease_until: float, listed: set[Any]) -> bool:
        """Does what the server wants; whether the agent may end."""
        for assignment in said.get("assignments", []):
            self._accept(assignment, lease_until)
        dropped = {(one["run"], int(one["attempt"])) for one in said.get("drop", [])}
        for key in dropped:
            self._waiting.pop(key, None)
            if key in self._runners:
                self._drop(key)
        for stop in said.get("stops", []):
            runner = self._runners.get((stop["run"], int(stop["attempt"])))
            if runner is not None:
                runner.stop(float(stop["grace_seconds"]))
        for key in listed - dropped:
            if key in self._runners:
                self._runners[key].renew(lease_until)
        return bool(said.get("release")) and not self._runners and not self._waiting

    async def _refusal(self, answer: Answer) -> int | None:
        """An exit code when the server's refusal is for good."""
        journal.event("agent.refused", status=answer.status, said=answer.sentence)
        if answer.status == 426:
            return PROTOCOL_REFUSED
        if answer.status not in (401, 403, 410):
            return None
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since < self.settings.refused_seconds:
            return None
        journal.event("agent.not_wanted", runs=len(self._runners))
        for key in list(self._runners):
            self._drop(key)
        for task in list(self._tasks.values()):
            await asyncio.wait({task})
        if not self._tasks:
            from foldline.node.main import end_runs

            await asyncio.to_thread(end_runs, self.settings.directory)
        return REFUSED

    # -- attempts ------------------------------------------------------------------------------------------------------
    def _accept(self, assignment: dict[str, Any], lease_until: float) -> None:
        key = (str(assignment["run"]), int(assignment["attempt"]))
        if key in self._runners or key in self._done or key in self._waiting:
            return
        self._waiting[key] = (assignment, lease_until)
        self._fill_slots()

    def _fill_slots(self) -> None:
        """Begins what waits, in order, as far as there are slots."""
        for key, (assignment, lease_until) in list(self._waiting.items()):
            slot = self._free_slot(int(assignment.get("slots", 1)))
            if slot is None:
                return
            del self._waiting[key]
            folder = AttemptFolder.of(self._runs, *key)
            journal.event("run.assigned", run=key[0], attempt=key[1], slot=slot)
            try:
                folder.accept(assignment, slot)
            except OSError as problem:
                journal.event("run.not_accepted", run=key[0], attempt=key[1], problem=str(problem))
                continue
            runner = AttemptRunner(self._node, folder, assignment, slot, self._ended)
            runner.renew(lease_until)
            self._begin(runner)

    def _free_slot(self, wanted: int) -> int | None:
        """The first of so many neighbouring slots that nobody holds."""
        held = {slot for one in self._runners.values() for slot in range(one.slot, one.slot + one.slots)}
        starts = range(self.settings.slots - wanted + 1)
        return next((start for start in starts if not held & set(range(start, start + wanted))), None)

    def _ended(self, runner: AttemptRunner) -> None:
        """The server has answered `ended`: the slot is free, whatever is still to be tidied up."""
        key = (runner.run, runner.attempt)
        if self._runners.pop(key, None) is not None:
            self._done[key] = None
            while len(self._done) > KEPT_DONE_MAX:
                self._done.pop(next(iter(self._done)))
            self._fill_slots()

    def _adopt(self, folder: AttemptFolder) -> None:
        found = folder.assignment()
        if found is None:
            folder.discard()
            return
        slot, assignment = found
        self._begin(AttemptRunner(self._node, folder, {**assignment, "adopted": True}, slot, self._ended))

    def _begin(self, runner: AttemptRunner) -> None:
        key = (runner.run, runner.attempt)
        self._runners[key] = runner
        self._tasks[key] = self._group.create_task(self._see_to(key, runner))

    async def _see_to(self, key: tuple[str, int], runner: AttemptRunner) -> None:
        try:
            await runner.execute()
        except asyncio.CancelledError:
            if not runner.dropped:
                raise
            await runner.forget()
        except Exception as failed:
            journal.event("run.lost_by_agent", run=key[0], attempt=key[1], error=repr(failed))
        finally:
            self._tasks.pop(key, None)
            self._ended(runner)

    def _drop(self, key: tuple[str, int]) -> None:
        """Killed and forgotten, reported to nobody."""
        runner, task = self._runners[key], self._tasks[key]
        if runner.dropped:
            return
        runner.dropped = True
        journal.event("run.dropped", run=key[0], attempt=key[1])

        async def forget() -> None:
            task.cancel()
            await asyncio.wait({task})

        self._group.create_task(forget())

    def _in_background(self, work: Coroutine[None, None, None]) -> object:
        return self._group.create_task(work)


def facts(agent: Agent) -> dict[str, Any]:
    """What the server is told of this machine."""
    from foldline import __version__

    interpreter, _ = choose("", agent.settings.python)
    return {
        "hostname": socket.gethostname()[:255], "cores": os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
        "python": (Path(interpreter).name.removeprefix("python") if interpreter else "none"), "platform": platform.platform()[:200],
        "agent": __version__, "sandbox": f"{agent.sandbox.text}; {agent.cgroups.text}"[:500],
    }

"""One attempt on this node, from its assignment (or from where a dead agent left it) to the answer to `ended`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from foldline.node import cgroups, journal, supervise, verdict
from foldline.node.folder import AttemptFolder
from foldline.node.launcher import Exit, Supervised
from foldline.node.outputs import Collected, OutputsRefused, Source, collect, store
from foldline.node.preparation import Node, PreparationFailed, prepare
from foldline.node.reports import Reports, Stale
from foldline.node.sources import BUILD_LOG_NAME, LOG_NAME, Sources
from foldline.node.spool import Shipper
from foldline.node.verdict import Verdict

CLAIM_SECONDS = 1.0
"""So long a supervising process that a dead agent ordered may take to show itself."""

STARTED_AFTER_SECONDS = 0.02
"""So long the report of the start leaves the processor to the start itself."""
WATCH_FAILURES_MAX = 5
SPARE_AFTER_SECONDS = 0.3

Phase = Literal["preparing", "running", "finalizing"]


class AttemptRunner:
    """Executes one attempt. Cancelling `execute` lets go of it and harms nothing: the next agent adopts it."""

    def __init__(
        self, node: Node, folder: AttemptFolder, assignment: dict[str, Any], slot: int, ended: Callable[[AttemptRunner], None],
    ) -> None:
        """`ended` is called once the server has answered: the slot is free from then on."""
        self._ended = ended
        self.dropped = False
        self.node, self.folder, self.slot = node, folder, slot
        self.assignment = assignment
        self.run, self.attempt = str(assignment["run"]), int(assignment["attempt"])
        self.slots = int(assignment.get("slots", 1))
        self.phase: Phase = "preparing"
        self._reports = Reports(node.server, assignment["workspace"], self.run, self.attempt)
        self._supervised = Supervised(folder.control)
        self._preparing: asyncio.Task[None] | None = None
        self._stop_grace: float | None = None
        self._signalled = False
        self._leased = assignment.get("retries_on_node_lost", 0) > 0
        self._lease_until = 0.0
        self._begin = time.monotonic()
        self._launched = self._claimed = 0.0
        self._sources = Sources(node, folder, self._reports)
        self._refusal: Verdict | None = None

    async def execute(self) -> None:
        """Returns when the server has answered `ended`, or counts another attempt."""
        try:
            await self._execute()
        except* Stale as stale:
            journal.event("run.stale", run=self.run, attempt=self.attempt, said=str(stale.exceptions[0]))
            await self.forget()
        except* Exception as failed:
            journal.event("run.agent_error", run=self.run, attempt=self.attempt, error=repr(failed.exceptions))
            self._supervised.kill()
            await self._end(Verdict("failed", "agent_error", f"The node's agent failed: {failed.exceptions[0]!r}"), None, [])
        finally:
            self._sources.close()

    def stop(self, grace_seconds: float) -> None:
        """Stops the script in order; said twice is said once."""
        if self._stop_grace is None:
            journal.event("run.stop", run=self.run, attempt=self.attempt, grace_seconds=grace_seconds, phase=self.phase)
        self._stop_grace = grace_seconds
        if self.phase == "preparing" and self._preparing is not None:
            self._preparing.cancel()
        elif self.phase == "running" and not self._signalled:
            self._signalled = True
            self._supervised.stop(grace_seconds)

    def renew(self, until_monotonic: float) -> None:
        """The server has heard this attempt: its lease goes on."""
        if self._leased and self.phase != "finalizing":
            self._supervised.renew(until_monotonic)
            self._lease_until = until_monotonic

    async def forget(self) -> None:
        """Kills what runs and keeps nothing."""
        self._supervised.kill()
        for pid in cgroups.processes(self.folder.cgroups):
            supervise.kill(pid, signal.SIGKILL)
        await self._supervised.ended()
        await self._discard()

    async def _execute(self) -> None:
        if not (self.folder.control / "order").exists():
            refusal = await self._prepare()
            if refusal is not None:
                await self._end_unstarted(refusal)
                return
        await self._launch()
        self.phase = "running"
        if self._stop_grace is not None:
            self.stop(self._stop_grace)
        await self._see_through()

    async def _see_through(self) -> None:
        """Watches to the end. Trouble of ours, such as a full disk, is tried again and never costs the script its life."""
        failures = 0
        while True:
            try:
                await self._watch()
                return
            except* Stale:
                raise
            except* Exception as failed:
                failures += 1
                journal.event("run.watch_failed", run=self.run, attempt=self.attempt, error=repr(failed.exceptions), failures=failures)
                if failures > WATCH_FAILURES_MAX and self._supervised.process() is None:
                    raise
            self._sources.close()
            await asyncio.sleep(min(30.0, self.node.server.backoff.pause(failures)))

    # -- preparing -----------------------------------------------------------------------------------------------------
    async def _prepare(self) -> Verdict | None:
        """None when the script may start, else why not."""
        if self._stop_grace is not None:
            return Verdict("canceled", "canceled", "Stopped before the script started.")
        log = self.folder.control / "environment.log"
        log.unlink(missing_ok=True)
        (self.folder.control / "environment.state").unlink(missing_ok=True)
        async with asyncio.TaskGroup() as group:
            shipping: list[tuple[Shipper, asyncio.Task[None]]] = []

            def progress(line: str) -> None:
                with log.open("a") as target:
                    target.write(f"{line}\n")
                if not shipping:
                    shipper = self._sources.build_log()
                    shipping.append((shipper, group.create_task(shipper.run())))
                shipping[0][0].wake.set()

            self._preparing = group.create_task(self._prepared(progress))
            await asyncio.wait({self._preparing})
            for _, task in shipping:
                task.cancel()  # what is in flight is sent again, as the same batch
        done, self._preparing = self._preparing, None
        self._sources.close()
        if done.cancelled():
            return Verdict("canceled", "canceled", "Stopped before the script started.")
        return None if (self.folder.control / "order").exists() else self._refusal

    async def _prepared(self, progress: Any) -> None:
        try:
            await prepare(self.node, self.folder, self.assignment, self.slot, progress)
        except PreparationFailed as failed:
            self._refusal = Verdict("failed", "preparation_failed", str(failed))

    async def _end_unstarted(self, why: Verdict) -> None:
        shippers: list[Shipper] = []
        log = self.folder.control / "environment.log"
        if log.exists():
            shipper = self._sources.build_log()
            shipper.close()
            await shipper.run()
            shippers.append(shipper)
        await self._end(why, None, shippers)

    async def _launch(self) -> None:
        """Has the script started unless it ever was: `process` is made once, whoever asks."""
        order = (self.folder.control / "order").read_bytes()
        deadline = time.monotonic() + CLAIM_SECONDS
        adopted = self.assignment.get("adopted", False)
        while adopted and not self._supervised.claimed and time.monotonic() < deadline:  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.02)
        while self._leased and not self._supervised.claimed and time.monotonic() > self._lease_until:  # noqa: ASYNC110  rare
            await asyncio.sleep(0.05)  # another node may have it by now: the next answer of the server tells
        if not self._supervised.claimed:
            self._launched = time.monotonic()
            pid = await self.node.launcher.launch(order)
            while not self._supervised.claimed and supervise.start_time(pid):  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.001)
            self._claimed = time.monotonic()
        journal.event("run.adopted" if adopted else "run.launched", run=self.run, attempt=self.attempt, prepared_ms=_ms(self._begin))

    # -- running -------------------------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        control = self.folder.control
        shippers, (script, system, log) = self._sources.open()
        started = (control / "process").stat().st_mtime
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = {shipper: group.create_task(shipper.run()) for shipper in shippers}
            telling = group.create_task(self._tell(over))
            sampling = group.create_task(self._sample(started))
            self.node.background(self._spare())
            exit_ = await self._supervised.ended()
            self.phase = "finalizing"
            over.set()
            sampling.cancel()
            script.close()
            system.close()
            await asyncio.wait({tasks[script]})
            for shipper in shippers:
                shipper.close()
            found = await asyncio.to_thread(self._collect)
            await asyncio.wait({telling})
        self._timing(log)
        why = self._verdict(exit_)
        try:
            stored = await store(self.node.server, self.assignment["workspace"], found)
        except OutputsRefused as refused:
            found.warnings.append(f"The outputs could not be stored: {refused}")
            stored = None
        kept = {} if stored is None else {"outputs": stored.digest, "output_files": stored.files, "output_bytes": stored.size}
        await self._end(why, kept, shippers, stored.warnings if stored else found.warnings)

    async def _tell(self, over: asyncio.Event) -> None:
        """`started`, then `exited`: in this order, and never in the script's way."""
        try:
            async with asyncio.timeout(STARTED_AFTER_SECONDS):
                await over.wait()
        except TimeoutError:
            pass
        body = json.loads((self.folder.control / "started.json").read_text())
        await self._reports.started(body, (self.folder.control / "lock.txt").read_text())
        await over.wait()
        exit_ = self._supervised.exit()
        code = self._verdict(exit_).exit_code
        await self._reports.exited(exit_.status if code is None else code)

    async def _spare(self) -> None:
        """The next run of this environment finds its copy made; once this one has had its start."""
        await asyncio.sleep(SPARE_AFTER_SECONDS)
        try:
            await self.node.environments.prepare_spare(self.assignment["environment_key"], self.node.uid(self.slot))
        except OSError as problem:
            journal.event("environment.no_spare", problem=str(problem))

    async def _sample(self, started: float) -> None:
        """Standard metrics, which no run fails for."""
        try:
            await self._sources.sampler(self._supervised, started).run()
        except Exception as problem:
            journal.event("run.not_sampled", run=self.run, attempt=self.attempt, problem=repr(problem))

    # -- ending --------------------------------------------------------------------------------------------------------
    def _collect(self) -> Collected:
        run, control = str(self.folder.run), str(self.folder.control)
        sources = [Source(run, "code/outputs", "outputs"), Source(run, "code/logs", "logs")]
        sources += [Source(run, f"named-outputs/{name}", f"named-outputs/{name}") for name in self.assignment.get("outputs", {})]
        sources.append(Source(control, "std_log.txt", LOG_NAME))
        if (self.folder.control / "environment.log").exists():
            sources.append(Source(control, "environment.log", BUILD_LOG_NAME))
        limits = self.node.settings
        return collect(sources, file_bytes_max=limits.output_file_bytes_max, bytes_max=limits.output_bytes_max)

    def _verdict(self, exit_: Exit) -> Verdict:
        with (self.folder.control / "std_log.txt").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 500))
            tail = log.read().decode(errors="replace").strip().rpartition("\n")[2]
        return verdict.of(
            exit_, out_of_memory=cgroups.out_of_memory(self.folder.cgroups),
            memory_bytes=self.node.settings.memory_bytes * self.slots,
            time_limit_seconds=self.assignment.get("time_limit_seconds"), log_tail=tail,
        )

    async def _end(self, why: Verdict, kept: dict[str, Any] | None, shippers: Sequence[Shipper], warnings: Sequence[str] = ()) -> None:
        body = {
            "outcome": why.outcome, "reason": why.reason, "message": verdict.told(why.message, *warnings),
            "exit_code": why.exit_code, "sources": [shipper.end() for shipper in shippers], **(kept or {}),
        }
        answer = await self._reports.ended(body)
        journal.event("run.ended", run=self.run, attempt=self.attempt, outcome=why.outcome, reason=why.reason, answer=answer.status)
        self._ended(self)
        await self._discard()

    def _timing(self, log: Shipper) -> None:
        """Each part of a start in milliseconds; nothing for an adopted run."""
        if not self._launched or log.first_seen is None or log.first_sent is None:
            return
        times = (self._begin, self._launched, self._claimed, log.first_seen, log.first_sent)
        names = ("prepared", "supervised", "first_output", "acknowledged")
        parts = {f"{name}_ms": round((after - before) * 1000, 1) for name, before, after in zip(names, times, times[1:], strict=False)}
        journal.event("run.timing", run=self.run, attempt=self.attempt, total_ms=round((times[-1] - times[0]) * 1000, 1), **parts)

    async def _discard(self) -> None:
        self._sources.close()
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        """Nothing here may fail the attempt: the next agent to start tidies up what is left."""
        procs = self.folder.cgroups
        for _ in range(20):
            if not cgroups.processes(procs):
                break
            time.sleep(0.02)
        cgroups.remove(procs)
        try:
            self.folder.discard()
        except OSError as problem:
            journal.event("run.not_tidied", run=self.run, attempt=self.attempt, problem=str(problem))
        shutil.rmtree(self.folder.path, ignore_errors=True)


def _ms(since: float) -> float:
    return round((time.monotonic() - since) * 1000, 1)

"""Execute, on the memory log: order, refusals, retries and expected versions, and what happens when an append fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from adapters.memory.log import MemoryLog, MemoryStore
from core.computes import CreateCompute
from core.environments import EnvironmentSpec
from core.errors import AlreadyExists, CommandReused, NotFound, Unavailable, UnreadableHistory, VersionConflict
from core.events import Recorded
from core.execute import Done, Executor
from core.experiments import ArchiveExperiment, CreateExperiment
from core.ids import ActorId, CommandId, Stream, WorkspaceId
from core.models import RegisterModel
from core.ports import Clock, Commit, Committed, Context
from core.runs import CancelRun, JobSpec, PlaceRun, ReportEnded, ReportScriptExited, SubmitRun
from tests.actors.world import StillClock
from tests.actors.world import join as join_node
from tests.contract.planting import following, plant_in_memory

W = WorkspaceId("ws-1")
JOB = JobSpec(command="true", environment=EnvironmentSpec())


class HeldLog(MemoryLog):
    """The memory log with a hand on its commits: they wait until `let_go`, or fail as told."""

    held = False
    failure: Exception | None = None
    slow: Stream | None = None
    """Reading this stream waits for `read_on`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.read_on = asyncio.Event()

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int = 0) -> Sequence[Recorded]:
        if stream == self.slow:
            await self.read_on.wait()
        return await super().read(workspace, stream, after)

    def _commit(self, number: int) -> None:
        if self.failure is not None:
            waiting, self._queues[number] = self._queues[number], []
            self._doubt.rise({one.commit.workspace for one in waiting})
            for one in waiting:
                one.fail(self.failure)
        elif not self.held:
            super()._commit(number)

    def fail_the_last(self, failure: Exception) -> None:
        """As when a writer loses its connection: what waits behind the group is refused before the group's outcome is known."""
        waiting = next(queue for queue in self._queues if queue).pop()
        self._doubt.rise({waiting.commit.workspace})
        waiting.fail(failure)

    def let_go(self) -> None:
        self.held = False
        for number, queue in enumerate(self._queues):
            if queue:
                self._commit(number)


@pytest.fixture
def log() -> HeldLog:
    return HeldLog(StillClock())


@pytest.fixture
def executor(log: HeldLog) -> Executor:
    return Executor(log)


def context(command: str) -> Context:
    return Context(actor=ActorId("user/u-1"), command=CommandId(command), correlation=command)


def submit(run: str) -> SubmitRun:
    return SubmitRun(run=run, experiment="digits", compute="cpu", job=JOB, tags={})


async def make_compute(executor: Executor) -> Done:
    return await executor.execute(W, CreateCompute(workspace="ws-1", compute="cpu"), context("make-compute"))


def register(manifest: str) -> RegisterModel:
    return RegisterModel(model="digits", manifest=manifest, files=1, bytes=1, tags={})


async def settle() -> None:
    """Lets every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_decision_is_recorded_with_who_and_why(executor: Executor) -> None:
    done = await make_compute(executor)
    assert [(one.event.type, one.version, one.sequence, one.actor) for one in done.recorded] == [("compute-created", 1, 1, "user/u-1")]
    assert done.position == done.recorded[-1].position


async def test_a_wish_that_is_true_already_records_nothing_and_answers_the_newest_position(executor: Executor) -> None:
    first = await make_compute(executor)
    again = await executor.execute(W, CreateCompute(workspace="ws-1", compute="cpu"), context("another"))
    assert (again.recorded, again.position) == ((), first.position)


async def test_commands_decided_while_a_commit_is_in_flight_see_its_events_and_share_the_next_group(
    executor: Executor, log: HeldLog,
) -> None:
    await make_compute(executor)
    log.held = True
    waiting = [asyncio.ensure_future(executor.execute(W, register(f"m{n}"), context(f"c{n}"))) for n in range(20)]
    await settle()
    assert not any(one.done() for one in waiting)
    log.let_go()
    versions = [(await one).recorded[0].event.version for one in waiting]  # type: ignore[attr-defined]  # ModelVersionRegistered
    assert sorted(versions) == list(range(1, 21))


async def test_a_refusal_that_rests_on_what_is_in_flight_is_told_only_once_that_is_durable(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.held = True
    first = asyncio.ensure_future(executor.execute(W, submit("amber"), context("one")))
    await settle()
    second = asyncio.ensure_future(executor.execute(W, submit("amber"), context("two")))
    await settle()
    assert not second.done()
    log.let_go()
    await first
    with pytest.raises(AlreadyExists):
        await second


async def test_a_refusal_that_rests_on_what_was_lost_is_not_told(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.held = True
    first = asyncio.ensure_future(executor.execute(W, submit("amber"), context("one")))
    await settle()
    second = asyncio.ensure_future(executor.execute(W, submit("amber"), context("two")))
    await settle()
    log.failure = Unavailable("The disk is full.")
    log._commit(0)
    log.held, log.failure = False, None
    with pytest.raises(Unavailable):
        await first
    assert len((await second).recorded) == 2


async def test_a_later_commit_that_fails_does_not_hide_one_whose_outcome_is_still_open(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.held = True
    first = asyncio.ensure_future(executor.execute(W, submit("amber"), context("one")))
    await settle()
    second = asyncio.ensure_future(executor.execute(W, submit("birch"), context("two")))
    await settle()
    log.fail_the_last(Unavailable("The database failed."))
    with pytest.raises(Unavailable):
        await second
    cancel = asyncio.ensure_future(executor.execute(W, CancelRun(run="amber"), context("three")))
    await settle()
    assert not cancel.done()
    log.let_go()
    await first
    assert [one.event.type for one in (await cancel).recorded] == ["run-ended"]


async def test_a_decision_made_while_what_it_saw_was_lost_is_made_again(log: HeldLog) -> None:
    executor = Executor(log)
    await make_compute(executor)
    for number, command in enumerate((join_node("node-1"), submit("amber"), PlaceRun(run="amber", node="node-1", reason="room"))):
        await executor.execute(W, command, context(f"made-{number}"))
    executor.forget()
    log.held, log.slow = True, Stream("node/node-1")
    exited = asyncio.ensure_future(executor.execute(W, ReportScriptExited(run="amber", attempt=1, exit_code=0), context("exited")))
    await settle()
    ended = asyncio.ensure_future(executor.execute(
        W, ReportEnded(run="amber", attempt=1, outcome="completed", reason="succeeded", message=""), context("ended"),
    ))
    await settle()
    log.fail_the_last(Unavailable("The database failed."))
    with pytest.raises(Unavailable):
        await exited
    log.read_on.set()
    await settle()
    log.let_go()
    assert [(one.event.type, one.version) for one in (await ended).recorded] == [("run-ended", 3), ("slot-freed", 3)]


async def test_an_append_that_failed_leaves_nothing_in_the_states(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.failure = Unavailable("The disk is full.")
    with pytest.raises(Unavailable):
        await executor.execute(W, submit("amber"), context("one"))
    log.failure = None
    with pytest.raises(NotFound):
        await executor.execute(W, CancelRun(run="amber"), context("two"))
    assert (await executor.execute(W, submit("amber"), context("one"))).recorded[-1].version == 1


async def test_the_same_command_id_answers_what_was_recorded_the_first_time(executor: Executor) -> None:
    await make_compute(executor)
    first = await executor.execute(W, submit("amber"), context("one"))
    again = await executor.execute(W, submit("amber"), context("one"))
    assert again.again
    assert again.recorded == first.recorded
    assert again.position == first.position


async def test_the_same_command_id_in_flight_waits_for_the_first(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.held = True
    both = [asyncio.ensure_future(executor.execute(W, submit("amber"), context("one"))) for _ in range(2)]
    await settle()
    log.let_go()
    first, second = [await one for one in both]
    assert first.recorded == second.recorded
    assert (first.again, second.again) == (False, True)


async def test_the_same_command_id_in_flight_outlives_a_conflict_that_nobody_asked_about(log: HeldLog) -> None:
    executor = Executor(log)
    await make_compute(executor)
    log.held = True
    both = [asyncio.ensure_future(executor.execute(W, submit("amber"), context("one"))) for _ in range(2)]
    await settle()
    log.fail_the_last(VersionConflict(Stream("run/amber"), 0, 1))
    await settle()
    log.let_go()
    first, second = [await one for one in both]
    assert first.recorded == second.recorded


@pytest.mark.parametrize("in_flight", [True, False])
async def test_the_same_command_id_with_another_body_is_refused(executor: Executor, log: HeldLog, in_flight: bool) -> None:
    await make_compute(executor)
    log.held = in_flight
    first = asyncio.ensure_future(executor.execute(W, submit("amber"), context("one")))
    await settle()
    with pytest.raises(CommandReused):
        await executor.execute(W, submit("birch"), context("one"))
    log.let_go()
    await first


async def test_a_version_that_the_caller_saw_must_still_be_the_newest(executor: Executor) -> None:
    stream = Stream("experiment/digits")
    await executor.execute(W, CreateExperiment(experiment="digits"), context("one"))
    seen: Mapping[Stream, int] = {stream: 1}
    await executor.execute(W, ArchiveExperiment(experiment="digits"), context("two"), expected=seen)
    with pytest.raises(VersionConflict) as caught:
        await executor.execute(W, CreateExperiment(experiment="digits"), context("three"), expected=seen)
    assert (caught.value.expected, caught.value.actual) == (1, 2)


async def test_a_writer_that_knew_an_older_state_decides_again(log: HeldLog) -> None:
    """Two executors on one log, as after a take-over: the second's events are unknown to the first until it tries to append."""
    one, other = Executor(log), Executor(log)
    await make_compute(one)
    await one.execute(W, submit("amber"), context("amber"))
    await other.execute(W, register("m1"), context("m1"))
    await one.execute(W, register("m2"), context("m2"))
    done = await other.execute(W, register("m3"), context("m3"))
    assert done.recorded[0].event.version == 3  # type: ignore[attr-defined]  # ModelVersionRegistered


async def test_a_shard_that_was_another_servers_in_between_is_known_anew(log: HeldLog) -> None:
    epoch: list[int | None] = [1]
    one, other, stream = Executor(log, lambda _: epoch[0]), Executor(log), Stream("experiment/digits")
    await one.execute(W, CreateExperiment(experiment="digits"), context("one"))
    epoch[0] = None
    await other.execute(W, ArchiveExperiment(experiment="digits"), context("two"))
    assert await one.version(W, stream) == 1
    epoch[0] = 2
    assert await one.version(W, stream) == 2
    assert await one.state(W, stream) == await other.state(W, stream)


async def test_a_cancelled_request_cancels_no_commit(executor: Executor, log: HeldLog) -> None:
    await make_compute(executor)
    log.held = True
    request = asyncio.ensure_future(executor.execute(W, submit("amber"), context("one")))
    await settle()
    request.cancel()
    await settle()
    log.let_go()
    await settle()
    assert (await executor.execute(W, submit("amber"), context("one"))).again


async def test_workspaces_do_not_see_each_other(executor: Executor) -> None:
    await make_compute(executor)
    with pytest.raises(NotFound):
        await executor.execute(WorkspaceId("ws-2"), submit("amber"), context("one"))


async def test_a_state_is_what_the_next_decision_would_see(executor: Executor, log: HeldLog) -> None:
    log.held = True
    making = asyncio.ensure_future(make_compute(executor))
    await settle()
    assert (await executor.state(W, Stream("compute/cpu"))).compute == "cpu"
    log.let_go()
    await making
    executor.forget()
    assert (await executor.state(W, Stream("compute/cpu"))).compute == "cpu"


class Flaky:
    """A log on which every second append finds another writer's events: decisions must come to an end all the same."""

    def __init__(self, log: MemoryLog) -> None:
        self._log, self._turn = log, self._turns()

    def _turns(self) -> Iterator[bool]:
        while True:
            yield True
            yield False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, commit: Commit) -> asyncio.Future[Committed]:
        if next(self._turn):
            failed: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            failed.set_exception(VersionConflict(commit.writes[0].stream, commit.writes[0].expected_version, 99))
            return failed
        return self._log.append(commit)


async def test_a_conflict_that_the_caller_did_not_ask_for_is_tried_again(log: HeldLog) -> None:
    executor = Executor(Flaky(log))  # type: ignore[arg-type]  # everything but append is the memory log's
    assert len((await make_compute(executor)).recorded) == 1


async def test_a_stream_with_an_event_that_cannot_be_read_takes_no_command_and_others_do() -> None:
    store = MemoryStore()
    log = MemoryLog(StillClock(), store)
    executor = Executor(log)
    await executor.execute(W, CreateExperiment(experiment="mine"), context("e-1"))
    await executor.execute(W, CreateExperiment(experiment="other"), context("e-2"))
    plant_in_memory(store, 0, following(log.raw(0), W, "experiment-renamed", b"{}"))
    executor = Executor(log)
    with pytest.raises(UnreadableHistory, match="experiment/other holds an event that this server cannot read") as refused:
        await executor.execute(W, ArchiveExperiment(experiment="other"), context("e-3"))
    assert (refused.value.kind, refused.value.fields()) == ("unavailable", {"stream": "experiment/other", "event": "experiment-renamed"})
    with pytest.raises(UnreadableHistory):
        await executor.state(W, Stream("experiment/other"))
    done = await executor.execute(W, ArchiveExperiment(experiment="mine"), context("e-4"))
    assert done.recorded[0].sequence == 4

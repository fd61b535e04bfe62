"""Runs, given, when, then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import runs
from core.computes import ComputeCreated
from core.environments import EnvironmentSpec
from core.errors import AlreadyExists, Conflict, Invalid, NoCapacity, NotFound, RunFinished, StaleAttempt
from core.events import Event
from core.experiments import ExperimentCreated
from core.nodes import LoseNode, NodeFacts, NodeGone, NodeJoined, NodeReleaseRequested, NodeUnreachable, SlotFreed, SlotTaken
from core.runs import (
    ArchiveRun,
    CancelRun,
    GiveUpRun,
    JobSpec,
    KeepLateReport,
    LogParameters,
    MarkRunReachable,
    MarkRunUnreachable,
    PlaceRun,
    PreemptRun,
    ReportEnded,
    ReportScriptExited,
    ReportStarted,
    RestoreRun,
    RunArchived,
    RunCancelRequested,
    RunEnded,
    RunFileStored,
    RunLateReported,
    RunParametersLogged,
    RunPlaced,
    RunPreempted,
    RunReachable,
    RunRequeued,
    RunRestored,
    RunScriptExited,
    RunStarted,
    RunSubmitted,
    RunUnreachable,
    RunUpdated,
    StoreRunFile,
    SubmitRun,
    UpdateRun,
)
from tests.core.spec import Spec, spec

R, N = "amber", "cpu-1"
JOB = JobSpec(command="python train.py", environment=EnvironmentSpec())
RETRIED = JOB.model_copy(update={"retries_on_node_lost": 1})
FACTS = NodeFacts(hostname="a", cores=2, memory_bytes=1, python="3.11", platform="linux", agent="0.1.0", sandbox="bubblewrap")
cluster = ComputeCreated(compute="cpu", min_nodes=0, max_nodes=2, idle_seconds=60, slots_per_node=2)
submitted = RunSubmitted(run=R, experiment="digits", compute="cpu", job=JOB)
retried = RunSubmitted(run=R, experiment="digits", compute="cpu", job=RETRIED)
joined = NodeJoined(node=N, compute="cpu", slots=2, facts=FACTS)
placed = RunPlaced(run=R, attempt=1, node=N, reason="first")
taken = SlotTaken(node=N, run=R, attempt=1, slots=1)
freed = SlotFreed(node=N, run=R, attempt=1)
started = RunStarted(run=R, attempt=1, environment_key="e")
exited = RunScriptExited(run=R, attempt=1, exit_code=0)
ended = RunEnded(run=R, attempt=1, outcome="completed", reason="succeeded", message="The script ended with exit code 0.")
canceling = RunCancelRequested(run=R)
preempted = RunPreempted(run=R, attempt=1, reason="room")
unreachable = RunUnreachable(run=R, attempt=1, silent_seconds=15)
run = spec(runs, f"run/{R}")
home = run.given(cluster, stream="compute/cpu").given(joined, stream=f"node/{N}")
queued = home.given(submitted)
preparing = queued.given(placed).given(taken, stream=f"node/{N}")
running = preparing.given(started)
finished = running.given(exited, ended).given(freed, stream=f"node/{N}")


def submit(**changed: object) -> SubmitRun:
    fields: dict[str, object] = {"run": R, "experiment": "digits", "compute": "cpu", "job": JOB, "tags": {}}
    return SubmitRun(**(fields | changed))  # type: ignore[arg-type]


def end(**changed: object) -> ReportEnded:
    fields: dict[str, object] = {
        "run": R, "attempt": 1, "outcome": "completed", "reason": "succeeded", "message": "The script ended with exit code 0.",
    }
    return ReportEnded(**(fields | changed))  # type: ignore[arg-type]


# -- submitting ----------------------------------------------------------------------------------------------------------
def test_the_first_run_of_an_experiment_makes_it() -> None:
    home.when(submit()).then_in({"experiment/digits": [ExperimentCreated(experiment="digits")], f"run/{R}": [submitted]})


def test_a_later_run_finds_its_experiment() -> None:
    home.given(ExperimentCreated(experiment="digits"), stream="experiment/digits").when(submit()).then(submitted)


def test_a_name_is_given_to_one_run_only() -> None:
    queued.when(submit()).then_rejected(AlreadyExists, what="run", name=R)


def test_a_run_needs_a_compute_that_exists() -> None:
    run.when(submit()).then_rejected(NotFound, what="compute", name="cpu")


def test_a_run_that_no_node_can_hold_is_refused() -> None:
    home.when(submit(job=JOB.model_copy(update={"slots": 3}))).then_rejected(Invalid, field="slots")


def test_a_child_needs_its_parent() -> None:
    home.when(submit(parent="nobody")).then_rejected(NotFound, what="run", name="nobody")


def test_a_child_names_its_parent() -> None:
    parent = submitted.model_copy(update={"run": "parent"})
    after = home.given(ExperimentCreated(experiment="digits"), stream="experiment/digits").given(parent, stream="run/parent")
    after.when(submit(parent="parent")).then(submitted.model_copy(update={"parent": "parent"}))


# -- placing -------------------------------------------------------------------------------------------------------------
def test_placing_takes_a_slot_in_the_same_commit() -> None:
    queued.when(PlaceRun(run=R, node=N, reason="first")).then_once_in({f"run/{R}": [placed], f"node/{N}": [taken]})


def test_no_run_is_placed_that_was_never_submitted() -> None:
    home.when(PlaceRun(run=R, node=N, reason="first")).then_rejected(NotFound, what="run")


@pytest.mark.parametrize("node", [
    (),
    (joined, NodeUnreachable(node=N, silent_seconds=15)),
    (joined, NodeReleaseRequested(node=N, reason="idle")),
    (joined, NodeGone(node=N, reason="off")),
    (joined, SlotTaken(node=N, run="a", attempt=1, slots=1), SlotTaken(node=N, run="b", attempt=1, slots=1)),
], ids=["never wanted", "unreachable", "releasing", "gone", "full"])
def test_a_run_is_placed_on_a_ready_node_with_room_only(node: tuple[Event, ...]) -> None:
    waiting = run.given(submitted).given(*node, stream=f"node/{N}")
    waiting.when(PlaceRun(run=R, node=N, reason="first")).then_rejected(NoCapacity, node=N)


def test_a_run_that_is_placed_or_over_is_not_placed_again() -> None:
    preparing.when(PlaceRun(run=R, node="cpu-2", reason="again")).then_nothing()
    finished.when(PlaceRun(run=R, node=N, reason="again")).then_nothing()


# -- reports of the agent ------------------------------------------------------------------------------------------------
def test_the_agent_reports_the_start_once() -> None:
    preparing.when(ReportStarted(run=R, attempt=1, environment_key="e")).then_once(started)


def test_a_report_of_an_unreachable_run_makes_it_reachable_first() -> None:
    back = RunReachable(run=R, attempt=1)
    preparing.given(unreachable).when(ReportStarted(run=R, attempt=1, environment_key="e")).then_once(back, started)
    running.given(unreachable).when(ReportScriptExited(run=R, attempt=1, exit_code=0)).then_once(back, exited)
    after = running.given(unreachable).when(end()).then_once_in({f"run/{R}": [back, ended], f"node/{N}": [freed]})
    assert runs.status(after.state()) == "completed"


def test_the_agent_reports_the_exit_once() -> None:
    running.when(ReportScriptExited(run=R, attempt=1, exit_code=0)).then_once(exited)


def test_the_end_frees_the_slot_in_the_same_commit() -> None:
    running.given(exited).when(end()).then_once_in({f"run/{R}": [ended], f"node/{N}": [freed]})


@pytest.mark.parametrize("report", [
    ReportStarted(run=R, attempt=2, environment_key="e"), ReportScriptExited(run=R, attempt=2, exit_code=0), end(attempt=2),
    MarkRunReachable(run=R, attempt=2),
])
def test_another_attempts_report_is_stale(report: object) -> None:
    running.when(report).then_rejected(StaleAttempt, run=R, attempt=2, current=1)
    queued.when(report).then_rejected(StaleAttempt, run=R, attempt=2, current=None)
    finished.when(report).then_rejected(StaleAttempt, run=R, attempt=2, current=1)
    home.when(report).then_rejected(NotFound, what="run")


def test_a_start_after_the_end_is_stale_and_a_second_end_is_nothing_new() -> None:
    finished.when(ReportStarted(run=R, attempt=1, environment_key="e")).then_rejected(StaleAttempt)
    finished.when(end(outcome="failed", reason="exit_code")).then_nothing()


# -- cancelling and preempting -------------------------------------------------------------------------------------------
def test_a_waiting_run_is_canceled_at_once() -> None:
    message = "Canceled while it waited in the queue."
    queued.when(CancelRun(run=R)).then_once(RunEnded(run=R, outcome="canceled", reason="canceled", message=message))


def test_a_placed_run_is_asked_to_stop() -> None:
    after = running.when(CancelRun(run=R)).then_once(canceling)
    assert runs.status(after.state()) == "canceling"


def test_a_finished_run_cannot_be_canceled() -> None:
    finished.when(CancelRun(run=R)).then_rejected(RunFinished, run=R, outcome="completed")


def test_a_canceled_run_is_canceled_once() -> None:
    canceled = ended.model_copy(update={"outcome": "canceled", "reason": "canceled"})
    running.given(canceling, canceled).when(CancelRun(run=R)).then_nothing()


def test_there_is_no_run_to_cancel_that_was_never_submitted() -> None:
    home.when(CancelRun(run=R)).then_rejected(NotFound, what="run", name=R)


def test_a_preempted_run_goes_back_to_the_queue_and_frees_its_slot() -> None:
    stopping = running.when(PreemptRun(run=R, reason="room")).then_once(preempted)
    assert runs.status(stopping.state()) == "preempted"
    requeued = RunRequeued(run=R, attempt=1, cause="preempted", message="stopped")
    report = end(outcome="canceled", reason="canceled", message="stopped")
    after = stopping.when(report).then_in({f"run/{R}": [requeued], f"node/{N}": [freed]})
    assert runs.status(after.state()) == "queued"
    after.when(PlaceRun(run=R, node=N, reason="again")).then_in({
        f"run/{R}": [placed.model_copy(update={"attempt": 2, "reason": "again"})], f"node/{N}": [taken.model_copy(update={"attempt": 2})],
    })


def test_a_preempted_run_whose_script_ended_by_itself_has_ended() -> None:
    running.given(preempted).when(end()).then_in({f"run/{R}": [ended], f"node/{N}": [freed]})


def test_only_a_run_that_works_is_preempted() -> None:
    for state in (home, queued, running.given(exited), running.given(canceling), finished):
        state.when(PreemptRun(run=R, reason="room")).then_nothing()


# -- leases --------------------------------------------------------------------------------------------------------------
def test_silence_makes_a_run_unreachable_and_word_of_it_reachable_again() -> None:
    silent = running.when(MarkRunUnreachable(run=R, attempt=1, silent_seconds=15)).then_once(unreachable)
    assert runs.status(silent.state()) == "unreachable"
    heard = silent.when(MarkRunReachable(run=R, attempt=1)).then_once(RunReachable(run=R, attempt=1))
    assert runs.status(heard.state()) == "running"


def test_silence_of_another_attempt_or_of_a_waiting_run_says_nothing() -> None:
    running.when(MarkRunUnreachable(run=R, attempt=2, silent_seconds=15)).then_nothing()
    queued.when(MarkRunUnreachable(run=R, attempt=1, silent_seconds=15)).then_nothing()


def test_a_run_that_is_given_up_fails_for_its_lost_node() -> None:
    over = RunEnded(run=R, attempt=1, outcome="failed", reason="node_lost", message="too long")
    giving_up = GiveUpRun(run=R, attempt=1, message="too long")
    running.given(unreachable).when(giving_up).then_once_in({f"run/{R}": [over], f"node/{N}": [freed]})
    running.when(giving_up).then_nothing()


def test_a_run_that_allows_it_is_queued_again_when_its_node_is_lost_as_often_as_it_allows() -> None:
    allowed = home.given(retried, placed).given(taken, stream=f"node/{N}")
    gone = NodeGone(node=N, reason="off")
    message = f"Its node {N} is gone: off"
    again = RunRequeued(run=R, attempt=1, cause="node_lost", message=message)
    after = allowed.when(LoseNode(node=N, reason="off")).then_once_in({f"run/{R}": [again], f"node/{N}": [freed, gone]})
    other = joined.model_copy(update={"node": "cpu-2"})
    second = after.given(placed.model_copy(update={"attempt": 2, "node": "cpu-2"}))
    second = second.given(other, taken.model_copy(update={"node": "cpu-2", "attempt": 2}), stream="node/cpu-2")
    over = RunEnded(run=R, attempt=2, outcome="failed", reason="node_lost", message="Its node cpu-2 is gone: off")
    second.when(LoseNode(node="cpu-2", reason="off")).then_once_in({
        f"run/{R}": [over],
        "node/cpu-2": [freed.model_copy(update={"node": "cpu-2", "attempt": 2}), gone.model_copy(update={"node": "cpu-2"})],
    })


def test_an_attempt_that_the_agent_lost_counts_as_a_lost_node_when_the_run_allows_a_retry() -> None:
    allowed = home.given(retried, placed).given(taken, stream=f"node/{N}")
    lost = end(outcome="failed", reason="agent_error", message="its lease was over")
    again = RunRequeued(run=R, attempt=1, cause="node_lost", message="its lease was over")
    allowed.when(lost).then_in({f"run/{R}": [again], f"node/{N}": [freed]})
    over = RunEnded(run=R, attempt=1, outcome="failed", reason="agent_error", message="its lease was over")
    running.when(lost).then_once_in({f"run/{R}": [over], f"node/{N}": [freed]})
    allowed.given(canceling).when(lost).then_once_in({f"run/{R}": [over], f"node/{N}": [freed]})


def test_a_run_that_was_being_canceled_on_a_lost_node_is_canceled() -> None:
    over = RunEnded(run=R, attempt=1, outcome="canceled", reason="canceled", message=f"Its node {N} is gone: off")
    lost = running.given(canceling).when(LoseNode(node=N, reason="off"))
    lost.then_in({f"run/{R}": [over], f"node/{N}": [freed, NodeGone(node=N, reason="off")]})


def test_a_node_that_was_never_wanted_cannot_be_lost() -> None:
    run.when(LoseNode(node=N, reason="off")).then_rejected(NotFound, what="node")


def test_what_comes_after_the_end_changes_no_outcome() -> None:
    late = finished.given(RunLateReported(run=R, attempt=1, message="exit code 1 after the end"))
    before = finished.state()
    assert late.state() == replace(before, facts=replace(before.facts, late=frozenset({1})))


# -- beside the phases ---------------------------------------------------------------------------------------------------
def test_parameters_are_logged_once_and_never_change() -> None:
    log = LogParameters(run=R, parameters={"lr": "0.1"})
    logged = running.when(log).then_once(RunParametersLogged(run=R, parameters={"lr": "0.1"}))
    logged.when(LogParameters(run=R, parameters={"lr": "0.2"})).then_rejected(Conflict, parameter="lr")
    more = LogParameters(run=R, parameters={"lr": "0.1", "epochs": "3"})
    logged.when(more).then_once(RunParametersLogged(run=R, parameters={"epochs": "3"}))
    home.when(log).then_rejected(NotFound, what="run")


def test_a_file_is_stored_once_per_content() -> None:
    store = StoreRunFile(run=R, path="outputs/curve.png", sha256="a" * 64, bytes=3)
    finished.when(store).then_once(RunFileStored(run=R, path="outputs/curve.png", sha256="a" * 64, bytes=3))
    home.when(store).then_rejected(NotFound, what="run")


def test_only_what_changed_is_recorded_of_an_update() -> None:
    update = UpdateRun(run=R, display_name="first", tags_set={"a": "1"})
    updated = finished.when(update).then_once(RunUpdated(run=R, display_name="first", tags_set={"a": "1"}))
    removal = UpdateRun(run=R, display_name="first", tags_set={}, tags_removed=("a", "b"))
    updated.when(removal).then_once(RunUpdated(run=R, tags_removed=("a",)))
    home.when(update).then_rejected(NotFound, what="run")


def test_a_run_is_archived_and_restored_in_any_phase() -> None:
    for state in (queued, running, finished):
        archived = state.when(ArchiveRun(run=R)).then_once(RunArchived(run=R))
        archived.when(RestoreRun(run=R)).then_once(RunRestored(run=R))
    home.when(ArchiveRun(run=R)).then_rejected(NotFound, what="run")
    home.when(RestoreRun(run=R)).then_rejected(NotFound, what="run")


def test_a_lost_attempt_that_reports_later_is_kept_once_as_evidence_and_changes_no_outcome() -> None:
    late = KeepLateReport(run=R, attempt=1, message="it had completed")
    lost = running.given(RunEnded(run=R, attempt=1, outcome="failed", reason="node_lost", message="gone"))
    kept = lost.when(late).then_once(RunLateReported(run=R, attempt=1, message="it had completed"))
    assert runs.status(kept.state()) == "failed"
    lost.when(ReportEnded(run=R, attempt=1, outcome="completed", reason="succeeded", message="")).then_rejected(StaleAttempt, run=R)
    running.when(late).then_nothing()
    home.when(late).then_rejected(NotFound, what="run")


def test_every_status_that_people_see_comes_from_one_event() -> None:
    states: list[tuple[Spec, str]] = [
        (queued, "queued"), (preparing, "preparing"), (running, "running"), (running.given(exited), "finalizing"),
        (running.given(canceling), "canceling"), (running.given(preempted), "preempted"), (running.given(unreachable), "unreachable"),
        (finished, "completed"),
    ]
    assert [runs.status(state.state()) for state, _ in states] == [word for _, word in states]

"""Runs as people see them: the status of each is the core's, and each has a sentence that says why."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.histories import setting
from core import runs
from core.environments import EnvironmentSpec
from core.errors import Invalid, Refusal
from core.ids import Stream
from core.nodes import JoinNode, LoseNode, NodeFacts
from core.runs import (
    ArchiveRun,
    CancelRun,
    GitFacts,
    GiveUpRun,
    JobSpec,
    LogParameters,
    MarkRunReachable,
    MarkRunUnreachable,
    PlaceRun,
    PreemptRun,
    ReportEnded,
    ReportScriptExited,
    ReportStarted,
    RestoreRun,
    StoreRunFile,
    SubmitRun,
    UpdateRun,
)
from projections import run_history
from projections.database import Database
from projections.run_history import RunRow, why
from tests.projections.running import caught_up, running
from tests.projections.world import OTHER, W, World, folded

NODE = "cpu-000000"
SUBMIT = SubmitRun(
    run="r-1", experiment="digits", compute="cpu", tags={"team": "vision"}, display_name="first try",
    job=JobSpec(command="python train.py", environment=EnvironmentSpec(packages=("numpy",)), retries_on_node_lost=1),
    git=GitFacts(commit="abcdef1", dirty=True), warnings=("The image was replaced by the node's Python.",),
)
PLACE = PlaceRun(run="r-1", node=NODE, reason="first in the queue of cpu")
START = ReportStarted(run="r-1", attempt=1, environment_key="e" * 64, environment_cached=False, sandbox="bubblewrap", preparing_seconds=2.5)
EXIT = ReportScriptExited(run="r-1", attempt=1, exit_code=3)
SILENT = MarkRunUnreachable(run="r-1", attempt=1, silent_seconds=15.2)
FAIL = ReportEnded(run="r-1", attempt=1, outcome="failed", reason="exit_code", message="The script ended with exit code 3.", exit_code=3)


async def world_with(*commands: object) -> World:
    world = World()
    await world.play(setting(W, 1, 1))
    for command in (SUBMIT, *commands):
        await world.do(W, command)
    return world


async def row_after(*commands: object) -> RunRow:
    recorded = await (await world_with(*commands)).recorded()
    row: RunRow = folded(run_history.MODEL, recorded)[W, "r-1"]
    return row


@pytest.mark.parametrize(("commands", "status", "words"), [
    ((), "queued", "Waits for a free slot of the compute cpu."),
    ((PLACE,), "preparing", f"Node {NODE} prepares the environment and the code (attempt 1; first in the queue of cpu)."),
    ((PLACE, START), "running", f"The script runs on node {NODE} since 12:0"),
    ((PLACE, START, EXIT), "finalizing", f"The script ended with exit code 3; node {NODE} stores outputs and logs."),
    ((PLACE, START, EXIT, FAIL), "failed", "The script ended with exit code 3."),
    ((PLACE, START, CancelRun(run="r-1")), "canceling", "Somebody asked to cancel it"),
    ((CancelRun(run="r-1"),), "canceled", "It was canceled. Canceled while it waited in the queue."),
    ((PLACE, PreemptRun(run="r-1", reason="a run that matters more waits")), "preempted", "a run that matters more waits."),
    ((PLACE, START, SILENT), "unreachable", f"Nothing was heard of node {NODE} for 15 s"),
    ((PLACE, START, LoseNode(node=NODE, reason="its host was switched off")), "queued", "again, after attempt 1: Its node"),
])
async def test_each_status_has_a_sentence_that_says_why(commands: tuple[object, ...], status: str, words: str) -> None:
    row = await row_after(*commands)
    assert row.status == status
    assert words in why(row)
    assert why(row).endswith(".") and "None" not in why(row)


@pytest.mark.parametrize("reason", ["exit_code", "signal", "node_lost", "preparation_failed", "time_limit", "out_of_memory", "agent_error"])
async def test_each_reason_of_a_failure_has_a_sentence(reason: runs.Reason) -> None:
    ended = ReportEnded(run="r-1", attempt=1, outcome="failed", reason=reason, message="what the agent saw", exit_code=-9)
    row = await row_after(PLACE, ended)
    assert why(row).endswith("What the agent saw.") or why(row).endswith("what the agent saw.")


async def test_a_run_has_its_facts_from_submission_to_end() -> None:
    row = await row_after(
        PLACE, START, LogParameters(run="r-1", parameters={"lr": "0.1"}), StoreRunFile(run="r-1", path="a.png", sha256="a" * 64, bytes=9),
        UpdateRun(run="r-1", display_name="second try", tags_set={"kept": "yes"}, tags_removed=("team",)), EXIT, FAIL,
        ArchiveRun(run="r-1"),
    )
    assert (row.display_name, row.tags, row.parameters, row.archived) == ("second try", {"kept": "yes"}, {"lr": "0.1"}, True)
    assert (row.node, row.attempt, row.exit_code, row.environment_cached, row.sandbox) == (NODE, 1, 3, False, "bubblewrap")
    assert row.files == {"a.png": {"sha256": "a" * 64, "bytes": 9}}
    assert row.submitted.job == SUBMIT.job and row.submitted.git == SUBMIT.git and row.submitted.warnings == SUBMIT.warnings
    moments = [row.submitted_at, row.placed_at, row.started_at, row.exited_at, row.ended_at]
    assert all(moments) and moments == sorted(moments, key=lambda moment: moment or row.submitted_at)
    assert row.submitted_by == "user/u-1" and row.final


async def test_a_second_attempt_starts_with_a_clean_record() -> None:
    row = await row_after(PLACE, START, EXIT, LoseNode(node=NODE, reason="gone"))
    assert (row.status, row.attempt, row.node) == ("queued", 1, NODE)
    facts = NodeFacts(hostname="h", cores=1, memory_bytes=1, python="3.11", platform="p", agent="a", sandbox="bubblewrap")
    row = await row_after(
        PLACE, START, EXIT, LoseNode(node=NODE, reason="gone"), JoinNode(node="cpu-2", compute="cpu", slots=1, facts=facts),
        PlaceRun(run="r-1", node="cpu-2", reason="next"),
    )
    assert (row.status, row.attempt, row.node) == ("preparing", 2, "cpu-2")
    assert (row.started_at, row.exit_code, row.environment_key) == (None, None, None)


_steps = st.lists(st.sampled_from([
    PLACE, START, EXIT, FAIL, CancelRun(run="r-1"), PreemptRun(run="r-1", reason="room"), ArchiveRun(run="r-1"), RestoreRun(run="r-1"),
    MarkRunUnreachable(run="r-1", attempt=1, silent_seconds=20), MarkRunReachable(run="r-1", attempt=1),
    GiveUpRun(run="r-1", attempt=1, message="never heard of again"), UpdateRun(run="r-1", tags_set={"a": "b"}, tags_removed=("team",)),
    ReportEnded(run="r-1", attempt=1, outcome="canceled", reason="canceled", message="stopped"),
    ReportEnded(run="r-1", attempt=2, outcome="completed", reason="succeeded", message="The script ended well."),
    ReportStarted(run="r-1", attempt=2, environment_key="e" * 64), LogParameters(run="r-1", parameters={"lr": "0.1"}),
]), max_size=25)


@settings(deadline=None, max_examples=40)
@given(_steps)
def test_the_status_is_always_the_core_s(steps: list[object]) -> None:
    async def check() -> None:
        world = World()
        await world.play(setting(W, 1, 1))
        await world.do(W, SUBMIT)
        for step in steps:
            try:
                await world.do(W, step)
            except Refusal:
                continue
        state = await world.executor.state(W, Stream("run/r-1"))
        row: RunRow = folded(run_history.MODEL, await world.recorded())[W, "r-1"]
        assert row.status == runs.status(state)
        assert (row.tags, row.parameters, row.archived) == (state.facts.tags, state.facts.parameters, state.facts.archived)
        assert why(row)

    asyncio.run(check())


async def test_runs_are_listed_newest_first_by_what_is_asked(database: Database) -> None:
    world = World()
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 1, 1))
        for number in range(7):
            parent = f"r-{number - 1}" if number in (3, 5) else None
            tags = {"team": "vision", "even": str(number % 2 == 0)}
            await world.do(workspace, SubmitRun(
                run=f"r-{number}", experiment=f"e-{number % 2}", compute="cpu", job=SUBMIT.job, tags=tags, parent=parent,
            ))
    await world.do(W, CancelRun(run="r-6"))
    await world.do(W, ArchiveRun(run="r-1"))
    async with running(database, world, models=[run_history.MODEL]) as (_, progress):
        await caught_up(world, progress)

    async def listed(**asked: object) -> list[str]:
        return [row.run for row in (await run_history.page(database, W, **asked)).items]  # type: ignore[arg-type]  # by name

    assert await listed() == ["r-6", "r-5", "r-4", "r-3", "r-2", "r-0"]
    assert await listed(archived=True) == ["r-1"]
    assert await listed(archived=None, experiment="e-1") == ["r-5", "r-3", "r-1"]
    assert await listed(status="canceled") == ["r-6"]
    assert await listed(parent="r-4") == ["r-5"]
    assert await listed(tags={"even": "True", "team": "vision"}) == ["r-6", "r-4", "r-2", "r-0"]
    assert await listed(tags={"even": "no"}) == []
    assert await run_history.counts(database, W) == {"queued": 6, "canceled": 1}
    assert await run_history.counts(database, W, "e-0") == {"queued": 3, "canceled": 1}
    assert await run_history.active(database, W, "cpu") == ["r-0", "r-1", "r-2", "r-3", "r-4", "r-5"]
    first = await run_history.page(database, W, limit=4)
    second = await run_history.page(database, W, limit=4, cursor=first.next)
    assert ([row.run for row in first.items], [row.run for row in second.items], second.next) == (
        ["r-6", "r-5", "r-4", "r-3"], ["r-2", "r-0"], None,
    )


@pytest.mark.parametrize("cursor", ["", "x", "!!", "WyJhIl0", "WzEsMl0", "W3RydWVd", "WzFlOTk5XQ", "é", "WzkyMjMzNzIwMzY4NTQ3NzU4MDhd"])
async def test_a_cursor_that_is_none_of_ours_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(Invalid):
        await run_history.page(database, W, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_its_limits(database: Database, limit: int) -> None:
    with pytest.raises(Invalid):
        await run_history.page(database, W, limit=limit)

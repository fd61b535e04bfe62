"""The journal: every event in plain words, filterable; the story of a run across streams."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from bench.histories import life, setting
from core.catalogue import EVENT_CLASSES
from core.computes import ScaleCluster
from core.events import Event
from core.nodes import JoinNode, NodeFacts, RequestNode
from core.runs import PlaceRun, ReportStarted, SubmitRun
from projections import journal
from projections.database import Database
from projections.journal_sentences import SENTENCES, summary
from tests.projections.running import caught_up, running
from tests.projections.test_run_history import SUBMIT
from tests.projections.world import NOON, OTHER, Tape, W, World, folded

FACTS = NodeFacts(hostname="h", cores=1, memory_bytes=1, python="3.11", platform="p", agent="a", sandbox="bubblewrap")


def filled_in(model: type[BaseModel]) -> Any:
    """Some value of an event: each required field by its type."""
    return model.model_construct(**{
        name: field.default if not field.is_required() else _some(field.annotation) for name, field in model.model_fields.items()
    })


def _some(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return filled_in(kind)
    known: dict[Any, Any] = {str: "text", int: 3, float: 1.5, bool: True, dict: {}}
    kind = getattr(kind, "__origin__", None) if getattr(kind, "__origin__", None) in known else kind
    return known[kind] if kind in known else (get_args(kind) or [NOON])[0]


@pytest.mark.parametrize("event_class", EVENT_CLASSES.values(), ids=lambda event_class: str(event_class.__name__))
def test_every_event_has_a_sentence_of_its_own(event_class: type[Event]) -> None:
    assert event_class in SENTENCES
    sentence = summary(filled_in(event_class))
    assert len(sentence) > 10 and "None" not in sentence


def test_a_row_says_who_what_when_and_because_of_what() -> None:
    tape = Tape()
    recorded = tape.add(filled_in(EVENT_CLASSES["run-archived"]), actor="user/u-7")
    (row,) = folded(journal.MODEL, [recorded]).values()
    assert (row.actor, row.type, row.subject, row.at, row.sequence) == ("user/u-7", "run-archived", "run/r-1", NOON, 1)
    assert row.event == {"type": "run-archived", "run": "text"}


@pytest.mark.parametrize(("causation", "sequence"), [
    ("ws-1/7", 7), ("ws-2/7", None), ("ws-1/x", None), ("http", None), (None, None), ("ws-1/99999999999999999999", None),
])
def test_a_cause_counts_when_it_is_an_event_of_the_same_workspace(causation: str | None, sequence: int | None) -> None:
    recorded = replace(Tape().add(filled_in(EVENT_CLASSES["run-archived"])), causation=causation)
    (row,) = folded(journal.MODEL, [recorded]).values()
    assert row.causation == sequence


async def test_the_journal_is_filtered_and_paged(database: Database) -> None:
    world = World()
    for workspace in (W, OTHER):
        await world.play(setting(workspace, 2, 1))
        for number in range(3):
            await world.play(life(workspace, number, 2, 1))
    async with running(database, world, models=[journal.MODEL]) as (_, progress):
        await caught_up(world, progress)
    mine = [one for one in await world.recorded() if one.workspace == W]
    everything = await journal.page(database, W, limit=1000)
    assert [row.sequence for row in everything.items] == list(range(len(mine), 0, -1))
    assert {row.workspace for row in everything.items} == {W}
    run = await journal.page(database, W, subject="run/amber-otter-000001", newest_first=False)
    assert [row.type for row in run.items][:2] == ["run-submitted", "run-placed"]
    by_scheduler = await journal.page(database, W, actor="actor/scheduler")
    assert {row.type for row in by_scheduler.items} == {"run-placed", "slot-taken"}
    ended = await journal.page(database, W, event_type="run-ended")
    assert len(ended.items) == 3
    at = ended.items[1].at
    assert [row.type for row in (await journal.page(database, W, since=at, until=at + timedelta(microseconds=1))).items] == [
        "slot-freed", "run-ended",
    ]
    seen, cursor = list[int](), None
    while True:
        page = await journal.page(database, W, limit=7, cursor=cursor, newest_first=False)
        seen += [row.sequence for row in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == list(range(1, len(mine) + 1))


async def test_the_story_of_a_run_goes_across_streams(database: Database) -> None:
    """Its own events, the slot it held, and the growth of the cluster that its submission caused; nothing of other runs."""
    world = World()
    await world.play(setting(W, 1, 1))
    first = (await world.do(W, SUBMIT, correlation="req-1")).recorded[-1]
    other = await world.do(W, SubmitRun(run="r-2", experiment="digits", compute="cpu", job=SUBMIT.job, tags={}), correlation="req-2")
    scaled = await world.do(
        W, ScaleCluster(compute="cpu", wanted=0, reason="less"), actor="actor/autoscaler", correlation="req-1", causation=first.id,
    )
    wanted = RequestNode(node="cpu-9", compute="cpu", provider="local", slots=1, reason="runs wait")
    await world.do(W, wanted, actor="actor/nodes", correlation="req-1", causation=scaled.recorded[0].id)
    await world.do(W, JoinNode(node="cpu-9", compute="cpu", slots=1, facts=FACTS), actor="node/cpu-9", correlation="req-9")
    await world.do(W, PlaceRun(run="r-1", node="cpu-9", reason="first"), actor="actor/scheduler", correlation="req-1", causation=first.id)
    await world.do(W, ReportStarted(run="r-1", attempt=1, environment_key="e" * 64), actor="node/cpu-9", correlation="req-10")
    await world.do(W, PlaceRun(run="r-2", node="cpu-000000", reason="next"), actor="actor/scheduler", correlation="req-1")
    async with running(database, world, models=[journal.MODEL]) as (_, progress):
        await caught_up(world, progress)
    story = await journal.story(database, W, "r-1")
    assert [row.type for row in story.items] == [
        "experiment-created", "run-submitted", "cluster-scaled", "node-requested", "run-placed", "slot-taken", "run-started",
    ]
    causes = {row.type: row.cause for row in story.items}
    assert causes["cluster-scaled"] == causes["run-placed"] == f"run-submitted #{first.sequence}"
    assert causes["node-requested"] == f"cluster-scaled #{scaled.recorded[0].sequence}"
    assert causes["run-submitted"] is None
    assert [row.type for row in (await journal.story(database, W, "r-2")).items] == ["run-submitted", "run-placed", "slot-taken"]
    assert other.recorded[0].workspace == W
    head = await journal.story(database, W, "r-1", limit=3)
    tail = await journal.story(database, W, "r-1", limit=100, cursor=head.next)
    assert [*head.items, *tail.items] == list(story.items)
    assert (await journal.story(database, OTHER, "r-1")).items == []

"""The watchdog, pure: leases that end, begin again, and get grace."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from actors import watchdog
from actors.role import Started
from actors.watchdog import Leases, SignsOfLife
from core.nodes import MarkNodeReachable, MarkNodeUnreachable, NodeGone, NodeJoined, NodeUnreachable
from core.runs import (
    GiveUpRun,
    MarkRunReachable,
    MarkRunUnreachable,
    RunEnded,
    RunPlaced,
    RunReachable,
    RunRequeued,
    RunSubmitted,
    RunUnreachable,
)
from tests.actors.world import FACTS, MORNING, Recorder, fold, job

ROLE = watchdog.role(lease_seconds=15, unreachable_limit_seconds=100)


def at(seconds: float) -> datetime:
    return MORNING + timedelta(seconds=seconds)


def watched(record: Recorder) -> Leases:
    heard = [record("node/n", NodeJoined(node="n", compute="cpu", slots=1, facts=FACTS))]
    heard.append(record("run/a", RunPlaced(run="a", attempt=1, node="n", reason="")))
    return look(ROLE.observe(fold(ROLE, heard), Started(MORNING)), 0)


def look(leases: Leases, seconds: float, *, nodes: tuple[str, ...] = (), attempts: tuple[tuple[str, int], ...] = ()) -> Leases:
    """What was heard at a moment, with every silent look before it."""
    since = leases.looked_at or MORNING
    while (at(seconds) - since).total_seconds() > 2:
        since += timedelta(seconds=2)
        leases = ROLE.observe(leases, SignsOfLife(frozenset(), frozenset(), since))
    return ROLE.observe(leases, SignsOfLife(frozenset(nodes), frozenset(attempts), at(seconds)))


def wishes(leases: Leases, seconds: float) -> list[Any]:
    return [send.command for send in ROLE.react(leases, at(seconds))]


def test_a_run_and_a_node_of_which_nothing_is_heard_for_a_lease_are_unreachable() -> None:
    leases = look(watched(Recorder()), 16)
    assert wishes(leases, 15) == []
    assert wishes(leases, 16) == [
        MarkRunUnreachable(run="a", attempt=1, silent_seconds=16.0), MarkNodeUnreachable(node="n", silent_seconds=16.0),
    ]


def test_every_sign_of_life_begins_the_lease_anew() -> None:
    leases = look(watched(Recorder()), 10, nodes=("n",), attempts=(("a", 1),))
    assert wishes(look(leases, 25), 25) == []
    assert len(wishes(look(leases, 26), 26)) == 2


def test_a_node_that_lives_without_the_attempt_does_not_keep_its_lease() -> None:
    leases = look(watched(Recorder()), 10, nodes=("n",), attempts=(("a", 2),))
    assert [type(wish) for wish in wishes(look(leases, 20), 20)] == [MarkRunUnreachable]


def test_it_falls_silent_once_it_is_told_and_speaks_again_when_the_run_is_heard_of() -> None:
    record = Recorder()
    leases = look(watched(record), 16)
    record.at = at(16)
    leases = fold(ROLE, [record("run/a", RunUnreachable(run="a", attempt=1, silent_seconds=16))], leases)
    leases = fold(ROLE, [record("node/n", NodeUnreachable(node="n", silent_seconds=16))], leases)
    assert wishes(look(leases, 30), 30) == []
    back = look(leases, 40, nodes=("n",), attempts=(("a", 1),))
    assert wishes(back, 40) == [MarkRunReachable(run="a", attempt=1), MarkNodeReachable(node="n")]
    record.at = at(40)
    back = fold(ROLE, [record("run/a", RunReachable(run="a", attempt=1))], back)
    assert [type(wish) for wish in wishes(back, 40)] == [MarkNodeReachable]


def test_a_run_that_stays_unreachable_is_given_up_after_the_limit() -> None:
    record = Recorder()
    leases = look(watched(record), 16)
    record.at = at(16)
    leases = fold(ROLE, [record("run/a", RunUnreachable(run="a", attempt=1, silent_seconds=16))], leases)
    leases = look(leases, 120)
    assert not any(isinstance(wish, GiveUpRun) for wish in wishes(leases, 115))
    assert any(isinstance(wish, GiveUpRun) for wish in wishes(leases, 116))


def test_a_run_that_may_be_tried_elsewhere_is_given_up_at_the_end_of_its_lease_as_often_as_it_allows() -> None:
    record = Recorder()
    submitted = RunSubmitted(run="a", experiment="digits", compute="cpu", job=job(retries=1))
    leases = look(fold(ROLE, [record("run/a", submitted)], watched(record)), 16)
    assert [type(wish) for wish in wishes(leases, 16)] == [MarkRunUnreachable, MarkNodeUnreachable]
    record.at = at(16)
    leases = fold(ROLE, [record("run/a", RunUnreachable(run="a", attempt=1, silent_seconds=16))], leases)
    assert [type(wish) for wish in wishes(leases, 16)] == [GiveUpRun, MarkNodeUnreachable]
    again = [RunRequeued(run="a", attempt=1, cause="node_lost", message=""), RunPlaced(run="a", attempt=2, node="m", reason="")]
    leases = look(fold(ROLE, [record("run/a", event) for event in again], leases), 32)
    record.at = at(32)
    leases = fold(ROLE, [record("run/a", RunUnreachable(run="a", attempt=2, silent_seconds=16))], leases)
    assert not any(isinstance(wish, GiveUpRun) for wish in wishes(leases, 40))


def test_a_server_that_starts_gives_every_lease_one_full_term() -> None:
    record = Recorder()
    leases = ROLE.observe(watched(record), Started(at(1000)))
    assert wishes(leases, 1015) == []
    assert len(wishes(look(leases, 1016), 1016)) == 2


def test_a_run_is_not_given_up_in_the_first_term_after_a_start() -> None:
    record = Recorder()
    leases = watched(record)
    leases = fold(ROLE, [record("run/a", RunUnreachable(run="a", attempt=1, silent_seconds=16))], leases)
    leases = ROLE.observe(leases, Started(at(5000)))
    leases = look(leases, 5014)
    assert not any(isinstance(wish, GiveUpRun) for wish in wishes(leases, 5014))
    assert any(isinstance(wish, GiveUpRun) for wish in wishes(leases, 5015))


def test_nothing_is_said_on_the_word_of_a_look_long_ago() -> None:
    assert wishes(look(watched(Recorder()), 2), 16) == []


def test_a_control_plane_that_stood_still_gives_a_full_term_too() -> None:
    leases = watched(Recorder())
    leases = ROLE.observe(leases, SignsOfLife(frozenset(), frozenset(), at(300)))
    assert wishes(leases, 301) == []
    assert len(wishes(look(leases, 316), 316)) == 2


def test_what_is_over_is_not_watched() -> None:
    for over in (
        RunEnded(run="a", attempt=1, outcome="completed", reason="succeeded", message=""),
        RunRequeued(run="a", attempt=1, cause="preempted", message=""),
    ):
        record = Recorder()
        leases = fold(ROLE, [record("run/a", over), record("node/n", NodeGone(node="n", reason=""))], watched(record))
        assert wishes(look(leases, 600), 600) == []


def test_nothing_is_said_before_the_log_was_caught_up_with() -> None:
    record = Recorder()
    leases = fold(ROLE, [record("run/a", RunPlaced(run="a", attempt=1, node="n", reason=""))])
    assert wishes(leases, 9999) == []

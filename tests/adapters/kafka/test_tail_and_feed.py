"""What an owner keeps in memory: the tail that the index does not cover, and the feed of local followers."""

from __future__ import annotations

from adapters.kafka.feed import Feed
from adapters.kafka.tail import ShardTail, commits
from core.ids import CommandId, Stream, WorkspaceId
from tests.adapters.kafka.records import recorded

WS, A = WorkspaceId("ws"), Stream("thing/a")


def offsets(found: object) -> list[int]:
    return [one.position.offset for one in found]  # type: ignore[attr-defined]  # records


def test_consecutive_records_of_one_command_are_one_commit() -> None:
    entries = [("h", recorded(0, command="x")), ("h", recorded(1, command="x")), ("i", recorded(3, command="y"))]
    assert [(request_hash, offsets(commit)) for request_hash, commit in commits(entries)] == [("h", [0, 1]), ("i", [3])]
    assert list(commits([])) == []


def test_the_tail_answers_until_a_checkpoint_covers_it() -> None:
    tail = ShardTail(0)
    tail.add("h", (recorded(0, version=1, command="x"), recorded(1, version=2, command="x")))
    segment = tail.cut()
    assert segment is not None and segment.end == 2
    tail.add("i", (recorded(3, version=3, command="y"),))
    assert tail.version((WS, A)) == 3
    assert offsets(tail.stream((WS, A))) == [0, 1, 3]
    tail.covered(segment)
    assert (tail.checkpoint, tail.events, tail.end) == (2, 1, 4)
    assert tail.command((WS, CommandId("x"))) is None
    assert tail.command((WS, CommandId("y"))) is not None
    head = tail.head(WS)
    assert head is not None and (head.sequence, head.time) == (4, "2026-11-23T00:00:00.000000Z")


def test_a_segment_that_could_not_be_written_stays_and_comes_again() -> None:
    tail = ShardTail(0)
    assert tail.cut() is None
    tail.add("h", (recorded(0),))
    first = tail.cut()
    tail.add("i", (recorded(2, version=2, command="d"),))
    assert tail.cut() is first
    assert tail.events == 2


def test_a_feed_gives_whole_commits_and_forgets_the_oldest() -> None:
    feed = Feed(0, events_max=6)
    for offset in range(0, 12, 3):
        feed.add((recorded(offset), recorded(offset + 1)))
    assert (feed.start, feed.end) == (6, 11)
    assert not feed.holds(3) and feed.holds(6)
    assert offsets(feed.since(6, None, 1)) == [6, 7]
    assert offsets(feed.since(6, None, 3)) == [6, 7]
    assert offsets(feed.since(6, None, 4)) == [6, 7, 9, 10]
    assert offsets(feed.since(8, None, 4)) == [9, 10]
    assert offsets(feed.since(6, 8, 500)) == [6, 7]
    assert offsets(feed.since(11, None, 500)) == []


def test_a_feed_finds_records_by_their_offsets() -> None:
    feed = Feed(5)
    feed.add((recorded(5), recorded(6)))
    feed.add((recorded(8),))
    assert sorted(feed.at([4, 5, 6, 7, 8, 9])) == [5, 6, 8]

"""The envelope is for ever: the same commit gives the same bytes, the same attributes and the same chain."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from core.envelope import EVENT_BYTES_MAX, GENESIS, Head, link, seal, spell_time, unseal
from core.errors import EventTooLarge, UnreadableEvent
from core.events import Unreadable
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId
from core.ports import Commit, Context, StreamWrite
from core.runs import RunArchived, RunCancelRequested, RunUpdated

NOON = datetime(2026, 11, 23, 12, 0, 0, 250, tzinfo=UTC)
CONTEXT = Context(
    actor=ActorId("user/u-1"), command=CommandId("c-1"), correlation="r-1", causation="ws-1/7",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
COMMIT = Commit(WorkspaceId("ws-1"), CONTEXT, "h" * 64, (
    StreamWrite(Stream("run/a"), 2, (RunCancelRequested(run="a"), RunArchived(run="a"))),
))
CHAINS = (
    "346e7ca6b96e6c812a491c0c098907495ad6ea3cddd73527492347953cd2f2ad",
    "1d79409b24474db2cf51223847d4595e7a1d11aa692a1a0b7a96d0229d214b90",
)


def test_a_commit_has_the_same_bytes_today_and_in_ten_years() -> None:
    records, head = seal("i-1", COMMIT, {Stream("run/a"): 2}, Head(), NOON)
    assert records[0].value == b'{"type":"run-cancel-requested","run":"a"}'
    assert dict(records[0].attributes) == {
        "specversion": "1.0", "id": "ws-1/1", "source": "/foldline/i-1/ws-1", "type": "foldline.run-cancel-requested", "subject": "run/a",
        "time": "2026-11-23T12:00:00.000250Z", "datacontenttype": "application/json",
        "dataschema": "/schemas/events/run-cancel-requested.json", "partitionkey": "ws-1", "sequence": "1", "streamversion": "3",
        "actor": "user/u-1", "correlationid": "r-1", "commandid": "c-1", "requesthash": "h" * 64, "causationid": "ws-1/7",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "chain": CHAINS[0],
    }
    assert [record.attributes["chain"] for record in records] == list(CHAINS)
    assert (head.sequence, head.chain) == (2, CHAINS[1])


def test_every_link_depends_on_all_that_came_before_and_on_every_attribute() -> None:
    records, _ = seal("i-1", COMMIT, {Stream("run/a"): 2}, Head(), NOON)
    first = records[0]
    assert link(GENESIS, 1, first.attributes, first.value) == first.attributes["chain"]
    assert link(first.attributes["chain"], 2, records[1].attributes, records[1].value) == records[1].attributes["chain"]
    assert link(GENESIS, 1, {**first.attributes, "actor": "user/u-2"}, first.value) != first.attributes["chain"]
    assert link(GENESIS, 1, first.attributes, first.value + b" ") != first.attributes["chain"]
    assert link(GENESIS, 2, first.attributes, first.value) != first.attributes["chain"]


def test_time_never_runs_backwards_in_a_workspace() -> None:
    head = Head(5, GENESIS, spell_time(NOON))
    records, after = seal("i-1", COMMIT, {Stream("run/a"): 2}, head, NOON - timedelta(hours=1))
    assert records[0].attributes["time"] == after.time == spell_time(NOON)
    assert records[0].attributes["sequence"] == "6"


def test_what_is_sealed_is_read_back_as_it_was() -> None:
    records, _ = seal("i-1", COMMIT, {Stream("run/a"): 2}, Head(), NOON)
    recorded = unseal(records[1].attributes, records[1].value, Position("log", 0, 9))
    assert recorded.event == RunArchived(run="a")
    assert (recorded.stream, recorded.version, recorded.sequence, recorded.at) == ("run/a", 4, 2, NOON)
    assert (recorded.actor, recorded.causation, recorded.command, recorded.position.offset) == ("user/u-1", "ws-1/7", "c-1", 9)


def test_an_event_that_cannot_be_read_keeps_its_envelope_and_says_why() -> None:
    records, _ = seal("i-1", COMMIT, {Stream("run/a"): 2}, Head(), NOON)
    for value in (b"", b"[]", b'{"type":"run-archived"}', b'{"type":"run-archived","run":"a","more":1}', b"\xff"):
        recorded = unseal(records[1].attributes, value, Position("log", 0, 9))
        assert recorded.event == Unreadable(
            type="run-archived", reason="an event of type 'run-archived' does not have its shape", sha256=hashlib.sha256(value).hexdigest(),
        )
        assert (recorded.stream, recorded.version, recorded.sequence) == ("run/a", 4, 2)
    unknown = unseal({**records[1].attributes, "type": "foldline.run-levitated"}, records[1].value, Position("log", 0, 9))
    assert isinstance(unknown.event, Unreadable)
    assert unknown.event.type == "run-levitated"
    assert "older than the log" in unknown.event.reason


def test_a_record_without_our_envelope_is_refused() -> None:
    records, _ = seal("i-1", COMMIT, {Stream("run/a"): 2}, Head(), NOON)
    for damage in ({"sequence": "many"}, {"time": "noon"}, {"streamversion": ""}):
        with pytest.raises(UnreadableEvent):
            unseal({**records[1].attributes, **damage}, records[1].value, Position("log", 0, 9))
    for name in ("type", "partitionkey", "subject", "chain", "commandid"):
        with pytest.raises(UnreadableEvent):
            unseal({key: text for key, text in records[1].attributes.items() if key != name}, records[1].value, Position("log", 0, 9))


def test_an_event_that_is_too_large_is_refused_before_anything_is_written() -> None:
    large = RunUpdated(run="a", description="x" * EVENT_BYTES_MAX)
    commit = Commit(WorkspaceId("ws-1"), CONTEXT, "h" * 64, (StreamWrite(Stream("run/a"), 2, (large,)),))
    head = Head()
    with pytest.raises(EventTooLarge) as caught:
        seal("i-1", commit, {Stream("run/a"): 2}, head, NOON)
    assert caught.value.what == "run-updated"
    many = tuple(RunUpdated(run="a", description="x" * 200_000) for _ in range(5))
    commit = Commit(WorkspaceId("ws-1"), CONTEXT, "h" * 64, (StreamWrite(Stream("run/a"), 2, many),))
    with pytest.raises(EventTooLarge) as caught:
        seal("i-1", commit, {Stream("run/a"): 2}, head, NOON)
    assert caught.value.what == "commit"
    assert head == Head()

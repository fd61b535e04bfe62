"""Batches of a file that grows: nothing lost and nothing doubled, whenever the agent dies."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import pytest

from foldline.node import points
from foldline.node.spool import NO_DIGEST, Place, Shipper, chained
from foldline.wire import measurements


class Died(BaseException):
    """SIGKILL, as far as a test in one process can have it: nothing after it happens."""


class Ledger:
    """Counts each sequence once; dies before or after it has counted, as it is told."""

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self.die_before = self.die_after = False

    async def send(self, sequence: int, offset: int, data: bytes) -> bytes | None:
        if self.die_before:
            raise Died
        known = self.bodies.setdefault(sequence, data)
        assert known == data, "the same sequence came with other bytes"
        assert sequence == max(self.bodies) and sequence == len(self.bodies)
        if self.die_after:
            raise Died
        return data


def _shipper(path: Path, state: Path, ledger: Ledger, cut: object = len, read_max: int = 64) -> Shipper:
    file = os.open(path, os.O_RDONLY)
    return Shipper("1/x", file, state, cut=cut, send=ledger.send, read_max=read_max, line_max=4096, pace_seconds=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_moment_the_agent_dies_every_byte_arrives_once(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    path, state, ledger = tmp_path / "log", tmp_path / "x.state", Ledger()
    written = b""
    path.touch()
    save = Place.save

    def dying_save(place: Place, target: Path) -> None:
        if chance.random() < 0.2:
            raise Died
        save(place, target)
        if chance.random() < 0.2:
            raise Died

    monkeypatch.setattr(Place, "save", dying_save)
    for _ in range(40):
        more = bytes(chance.randrange(32, 127) for _ in range(chance.randrange(0, 100)))
        written += more
        with path.open("ab") as file:
            file.write(more)
        ledger.die_before, ledger.die_after = chance.random() < 0.3, chance.random() < 0.3
        await _until_death(_shipper(path, state, ledger))
    monkeypatch.setattr(Place, "save", save)
    ledger.die_before = ledger.die_after = False
    last = _shipper(path, state, ledger)
    await _until_death(last)
    assert b"".join(ledger.bodies[number] for number in sorted(ledger.bodies)) == written
    digest = NO_DIGEST
    for number in sorted(ledger.bodies):
        digest = chained(digest, ledger.bodies[number])
    assert last.end() == {"source": "1/x", "last_sequence": len(ledger.bodies), "digest": digest}


async def _until_death(shipper: Shipper) -> None:
    shipper.close()
    try:
        await shipper.run()
    except Died:
        pass
    finally:
        os.close(shipper._file)


async def test_the_first_bytes_go_at_once_and_the_next_are_waited_for(tmp_path: Path) -> None:
    path, ledger = tmp_path / "log", Ledger()
    path.write_bytes(b"first")
    shipper = _shipper(path, tmp_path / "s", ledger)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(shipper.run())
        while len(ledger.bodies) < 1:
            await asyncio.sleep(0)
        with path.open("ab") as file:
            file.write(b"second")
        await asyncio.sleep(0)
        assert len(ledger.bodies) == 1
        shipper.wake.set()
        while len(ledger.bodies) < 2:
            await asyncio.sleep(0)
        shipper.close()
        await task
    assert ledger.bodies == {1: b"first", 2: b"second"}


async def test_lines_are_sent_whole_and_an_unfinished_one_is_not(tmp_path: Path) -> None:
    path, ledger = tmp_path / "points", Ledger()
    long = json.dumps({"t": 1, "m": [["k" * 200, 1, 2.0]]}).encode() + b"\n"
    path.write_bytes(b'{"t":1,"m":[["a",0,1.0]]}\n' * 3 + long + b'{"t":1,"m":[["a",')
    shipper = _shipper(path, tmp_path / "s", ledger, cut=points.cut)
    shipper.close()
    await shipper.run()
    assert b"".join(ledger.bodies.values()) == path.read_bytes()[: path.read_bytes().rfind(b"\n") + 1]
    assert all(body.endswith(b"\n") for body in ledger.bodies.values())


async def test_bytes_without_a_batch_move_on_without_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "points"
    path.write_bytes(b"x" * 10)
    sent: list[int] = []

    async def send(sequence: int, offset: int, data: bytes) -> bytes | None:
        sent.append(sequence)
        return None

    shipper = Shipper("1/p", os.open(path, os.O_RDONLY), tmp_path / "s", cut=len, send=send, read_max=4, pace_seconds=0)
    shipper.close()
    await shipper.run()
    assert sent == [1, 1, 1] and shipper.end() == {"source": "1/p", "last_sequence": 0, "digest": NO_DIGEST}


def test_the_digest_is_the_wires() -> None:
    assert NO_DIGEST == measurements.NO_DIGEST
    import hashlib

    assert chained(NO_DIGEST, b"body") == measurements.chain_digest(NO_DIGEST, hashlib.sha256(b"body").hexdigest())


def _batch(lines: list[object]) -> points.Parsed:
    return points.parse(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def test_points_become_columns_that_the_wire_takes() -> None:
    parsed = _batch([{"t": 5, "m": [["a", 0, 1.5], ["b", 0, "NaN"]]}, {"t": 6, "m": [["a", 1, 2]]}])
    batch = measurements.PointsBatch(attempt=1, source="1/points", sequence=1, **parsed.columns())
    assert (batch.keys, batch.key, batch.step, batch.time_ms, batch.value) == (
        ["a", "b"],
        [0, 1, 0],
        [0, 0, 1],
        [5, 5, 6],
        [1.5, "NaN", 2.0],
    )


def test_lines_that_are_none_are_counted_and_harm_nothing() -> None:
    good = {"t": 1, "m": [["a", 0, 1.0]]}
    bad: list[object] = [
        7,
        [],
        None,
        {"t": 1},
        {"m": [["a", 0, 1.0]]},
        {"t": "x", "m": [["a", 0, 1.0]]},
        {"t": 1, "m": [["a", 0]]},
        {"t": 1, "m": [["", 0, 1.0]]},
        {"t": 1, "m": [["k" * 251, 0, 1.0]]},
        {"t": 1, "m": [["a", 1.5, 1.0]]},
        {"t": 1, "m": [["a", 1 << 70, 1.0]]},
        {"t": 1, "m": [["a", 0, "x"]]},
        {"t": 1, "m": [["a", 0, True]]},
        {"t": 1, "m": [["a", True, 1.0]]},
        {"t": 1, "m": [["\ud800", 0, 1.0]]},
        {"t": 1, "m": [[[], 0, 1.0]]},
        {"t": 1, "m": {"a": 1}},
        {"t": 1, "m": [["a", 0, 10**400]]},
        {"t": 1, "m": [7]},
        {"t": 1, "m": [["a\nb", 0, 1.0]]},
        {"t": 1, "m": [["a\0", 0, 1.0]]},
        {"t": -1, "m": [["a", 0, 1.0]]},
        {"t": 10**15, "m": [["a", 0, 1.0]]},
    ]
    parsed = _batch([good, *bad, good])
    assert len(parsed.value) == 2 and parsed.refused == len(bad)
    garbage = points.parse(b"\xff\xfe\n" + b"[" * 100_000 + b"\n{\n\0\n")
    assert garbage.value == [] and garbage.refused == 4


def test_a_text_that_the_server_refuses_costs_no_other_text() -> None:
    parsed = _batch([{"p": {"good": "1", "bad": "a\0b", "bad\nkey": "2"}, "g": {"tag": "a\0", "kept": "x"}}])
    assert (parsed.parameters, parsed.tags) == ([{"good": "1"}], [{"kept": "x"}])


def test_a_batch_never_has_more_than_the_wire_takes() -> None:
    line = json.dumps({"t": 1, "m": [[f"k{number}", 0, 1.0] for number in range(400)]}).encode() + b"\n"
    data = line * 60
    taken = points.cut(data)
    assert 0 < taken < len(data) and data[:taken].endswith(b"\n")
    parsed = points.parse(data[:taken])
    assert len(parsed.value) <= measurements.POINTS_MAX and len(parsed.keys) <= 1000
    many = b"".join(json.dumps({"t": 1, "m": [[f"{row}-{number}", 0, 1.0] for number in range(400)]}).encode() + b"\n" for row in range(5))
    assert len(points.parse(many[: points.cut(many)]).keys) <= 1000
    huge = json.dumps({"t": 1, "m": [["a", 0, 1.0]] * 25_000}).encode() + b"\n"
    assert len(points.parse(huge).value) == measurements.POINTS_MAX


def test_a_line_without_end_is_waited_for_and_at_last_let_go() -> None:
    assert points.cut(b"x" * 1000) == 0
    assert points.cut(b"x" * points.LINE_BYTES_MAX) == points.LINE_BYTES_MAX


def test_a_parameter_said_twice_with_other_values_goes_in_two_requests_in_order() -> None:
    parsed = _batch([{"p": {"a": "1", "b": "1"}}, {"p": {"a": "1"}}, {"p": {"a": "2"}}, {"g": {"t": "x"}}])
    assert parsed.parameters == [{"a": "1", "b": "1"}, {"a": "2"}] and parsed.tags == [{"t": "x"}]
    many = _batch([{"p": {f"p{number}": "v" for number in range(250)}}])
    assert [len(group) for group in many.parameters] == [100, 100, 50]

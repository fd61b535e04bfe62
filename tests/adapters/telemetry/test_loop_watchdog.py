"""The watchdog of the event loop: who held it is named, once in a while, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from structlog.testing import capture_logs

from adapters.telemetry.loop_watchdog import LoopWatchdog, stack_of
from core.envelope import spell_time

PATIENCE_SECONDS = 20


class Holding:
    """Holds the loop until the watchdog has looked at it: as long as it takes, and no longer."""

    def __init__(self) -> None:
        self._looked = threading.Event()

    def frames_of(self, ident: int) -> tuple[str, ...]:
        frames = stack_of(ident)
        self._looked.set()
        return frames

    def hold_the_loop(self) -> None:
        self._looked.clear()
        assert self._looked.wait(PATIENCE_SECONDS)


class Ticking:
    """A clock that goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


async def hold_until(holding: Holding, said: Sequence[object], count: int) -> None:
    """Holds the loop until it is said: a block of which the machine took its part may be no block."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(said) < count:
            holding.hold_the_loop()
            await asyncio.to_thread(lambda: None)


async def test_who_holds_the_loop_is_named_with_the_time_it_took() -> None:
    holding = Holding()
    with capture_logs() as said, LoopWatchdog(asyncio.get_running_loop(), frames_of=holding.frames_of, pause_seconds=0.001):
        await hold_until(holding, said, 1)
    assert (said[0]["event"], said[0]["log_level"], said[0]["unsaid"]) == ("loop.blocked", "warning", 0)
    assert said[0]["seconds"] >= 0.05
    assert said[0]["cpu_seconds"] < said[0]["seconds"]
    assert said[0]["frames"][0].endswith("Condition.wait")


async def test_blocks_within_a_while_are_counted_and_told_with_the_next() -> None:
    holding, clock = Holding(), Ticking()
    watchdog = LoopWatchdog(
        asyncio.get_running_loop(), frames_of=holding.frames_of, pause_seconds=0.001, limit_seconds=0.01, quiet_seconds=1_000_000,
        monotonic=clock,
    )
    with capture_logs() as said, watchdog:
        await hold_until(holding, said, 1)
        for _ in range(3):
            holding.hold_the_loop()
            await asyncio.to_thread(lambda: None)
        clock.now += 1_000_000
        await hold_until(holding, said, 2)
    assert [one["event"] for one in said] == ["loop.blocked"] * 2
    assert said[1]["unsaid"] >= 1


async def test_a_loop_that_beats_in_time_is_left_in_peace() -> None:
    beats: list[int] = []
    with capture_logs() as said, LoopWatchdog(asyncio.get_running_loop(), pause_seconds=0.0001, limit_seconds=PATIENCE_SECONDS):
        for number in range(1_000):
            beats.append(number)
            await asyncio.sleep(0)
    assert said == []


def test_a_closed_loop_ends_the_watch() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    watchdog = LoopWatchdog(loop, pause_seconds=0.001)
    with watchdog:
        watchdog._thread.join(PATIENCE_SECONDS)
        assert not watchdog._thread.is_alive()


def test_a_stack_shows_its_innermost_frame_and_ours_alone() -> None:
    caught: list[tuple[str, ...]] = []

    class At:
        def astimezone(self, _: object) -> At:
            caught.append(stack_of(threading.get_ident()))
            return self

        def isoformat(self, **_: object) -> str:
            return "2026-11-23T12:00:00.000000+00:00"

    spell_time(At())  # type: ignore[arg-type]  # a time that looks at who asks it
    assert caught[0][0].startswith("adapters.telemetry.loop_watchdog:")
    assert [one.rpartition(" ")[2] for one in caught[0]][-1] == "spell_time"
    assert not any("pytest" in one for one in caught[0])

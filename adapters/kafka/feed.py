"""The newest commits of an owned shard in memory, so that local followers hear of them right after the commit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from core.events import Recorded

EVENTS_MAX = 2_000


class Feed:
    """Every durable record from `start` to `end` of one shard; offsets may have holes."""

    def __init__(self, start: int, *, events_max: int = EVENTS_MAX) -> None:
        self.start = self.end = start
        self._commits: list[tuple[Recorded, ...]] = []
        self._firsts: list[int] = []
        self._events = 0
        self._events_max = events_max

    def add(self, recorded: tuple[Recorded, ...]) -> None:
        """Takes the next durable commit; the oldest half goes when there are too many."""
        self._commits.append(recorded)
        self._firsts.append(recorded[0].position.offset)
        self._events += len(recorded)
        self.end = recorded[-1].position.offset + 1
        if self._events > self._events_max:
            self._drop_half()

    def holds(self, offset: int) -> bool:
        """Whether everything from `offset` on is here."""
        return offset >= self.start

    def since(self, offset: int, until: int | None, batch_max: int) -> tuple[Recorded, ...]:
        """Whole commits from `offset` on, below `until`: about `batch_max` events, at least one commit if there is any."""
        found: list[Recorded] = []
        for commit in self._commits[bisect_left(self._firsts, offset) :]:
            if (until is not None and commit[0].position.offset >= until) or (found and len(found) + len(commit) > batch_max):
                break
            found.extend(commit)
        return tuple(found)

    def at(self, offsets: Sequence[int]) -> dict[int, Recorded]:
        """Those of the records at `offsets` that are here."""
        found: dict[int, Recorded] = {}
        for offset in offsets:
            index = bisect_left(self._firsts, offset + 1) - 1
            if index >= 0:
                for one in self._commits[index]:
                    if one.position.offset == offset:
                        found[offset] = one
        return found

    def _drop_half(self) -> None:
        keep = max(len(self._commits) // 2, 1)
        for commit in self._commits[:-keep]:
            self._events -= len(commit)
        self._commits, self._firsts = self._commits[-keep:], self._firsts[-keep:]
        self.start = self._firsts[0]

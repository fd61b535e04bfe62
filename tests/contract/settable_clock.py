"""A clock that stands still until a test moves it, either way."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta


class SettableClock:
    """Implements core.ports.Clock."""

    def __init__(self, at: datetime | None = None) -> None:
        self._at = at or datetime.now(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._at

    def monotonic(self) -> float:
        return self._monotonic

    def random(self, count: int) -> bytes:
        return os.urandom(count)

    def advance(self, seconds: float) -> None:
        """Moves the time of day; the monotonic clock only ever forward."""
        self._at += timedelta(seconds=seconds)
        self._monotonic += max(seconds, 0.0)

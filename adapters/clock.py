"""The clock of the real world."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from core.ids import CommandId, uuid7
from core.ports import Clock


class SystemClock:
    """Implements core.ports.Clock with the machine's own clock and randomness."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def random(self, count: int) -> bytes:
        return os.urandom(count)


def new_command(clock: Clock) -> CommandId:
    """A fresh command id: a UUIDv7 of the clock's time."""
    return CommandId(uuid7(int(clock.now().timestamp() * 1000), clock.random(10)))

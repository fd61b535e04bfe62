"""The agent's own log: one JSON line per event on standard error. (structlog would be a dependency for six lines.)"""

from __future__ import annotations

import json
import sys
import time


def event(name: str, **facts: object) -> None:
    """Writes what happened; a log that cannot be written stops nothing."""
    try:
        line = json.dumps({"at": round(time.time(), 4), "event": name, **facts}, default=str)
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass

"""Durations as people write them."""

from __future__ import annotations

import re

from foldline.problems import BadInput

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> float:
    """Seconds of `90`, `30m`, `2h`, `7d`, `1w`. Raises: BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise BadInput(f"{text!r} is no duration; write 90s, 30m, 2h or 7d.", code="usage")
    return float(found[1]) * _UNITS[found[2] or "s"]

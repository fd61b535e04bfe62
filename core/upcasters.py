"""Older JSON shapes of events, lifted to the newest. A released event's name and shape never change; a new shape is a new entry.

`UPCASTERS[type]` are functions from one JSON object to the next, applied in order until the newest shape is reached. None so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

UPCASTERS: Mapping[str, Sequence[Callable[[dict[str, Any]], dict[str, Any]]]] = {}

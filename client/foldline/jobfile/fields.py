"""A mapping read field by field: each field has a reader, and what nobody read is an error with its line."""

from __future__ import annotations

import math
from typing import Any

from foldline.jobfile.document import BadFile, Node, Place
from foldline.problems import NotYet


class Fields:
    """The fields of one mapping; `what` names it in errors (`environment`, say). Call `done` when all are read."""

    def __init__(self, node: Node, what: str) -> None:
        if not isinstance(node.value, dict):
            raise BadFile(node.place, f"{what} must be a mapping of names to values.")
        self.node = node
        self.what = what
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.node.value

    def place(self, name: str) -> Place:
        """Where the field is written."""
        return self.node.keys.get(name) or (self.node.value[name].place if name in self.node.value else self.node.place)

    def take(self, name: str) -> Node | None:
        """The field's value; None when it is absent or null."""
        self._known.add(name)
        found: Node | None = self.node.value.get(name)
        return None if found is None or found.value is None else found

    def require(self, name: str) -> Node:
        found = self.take(name)
        if found is None:
            raise BadFile(self.node.place, f"{self.what} needs the field {name!r}.")
        return found

    def ignore(self, *names: str) -> None:
        """Fields that mean nothing here."""
        self._known.update(names)

    def not_yet(self, **features: str) -> None:
        """Fields that Foldline does not have yet, with what to call them. Raises: NotYet."""
        for name, feature in features.items():
            if (found := self.take(name)) is not None and found.value not in ({}, [], ""):
                raise NotYet(feature, place=str(self.place(name)))

    def text(self, name: str, default: str | None = None) -> str | None:
        """A text field; numbers and booleans are taken as they read."""
        found = self.take(name)
        return default if found is None else scalar_text(found, name)

    def integer(self, name: str) -> int | None:
        found = self.take(name)
        if found is None:
            return None
        if isinstance(found.value, str) and found.value.strip().isdecimal():
            return int(found.value)
        if isinstance(found.value, bool) or not isinstance(found.value, int):
            raise BadFile(found.place, f"{name!r} must be a whole number.")
        return found.value

    def number(self, name: str) -> float | None:
        found = self.take(name)
        if found is None:
            return None
        if isinstance(found.value, bool) or not isinstance(found.value, int | float) or not math.isfinite(found.value):
            raise BadFile(found.place, f"{name!r} must be a number.")
        return float(found.value)

    def texts(self, name: str) -> dict[str, str]:
        """A mapping of names to texts; scalars become text as Azure's own tools write them (`True`, `0.5`)."""
        found = self.take(name)
        if found is None:
            return {}
        if not isinstance(found.value, dict):
            raise BadFile(found.place, f"{name!r} must be a mapping of names to texts.")
        return {key: "" if child.value is None else scalar_text(child, f"{name}.{key}") for key, child in found.value.items()}

    def done(self) -> None:
        """Raises: BadFile for a field that nobody read."""
        for name in self.node.value:
            if name not in self._known:
                raise BadFile(self.place(name), f"{self.what} has no field {name!r}{_nearest(name, self._known)}.", code="unknown_field")


def scalar_text(node: Node, name: str) -> str:
    """A scalar as text. Raises: BadFile for a list or a mapping."""
    if isinstance(node.value, list | dict):
        raise BadFile(node.place, f"{name!r} must be one value, not a {'list' if isinstance(node.value, list) else 'mapping'}.")
    return str(node.value)


def items_of(node: Node, name: str) -> list[Node]:
    """The items of a list. Raises: BadFile."""
    if not isinstance(node.value, list):
        raise BadFile(node.place, f"{name!r} must be a list.")
    return list(node.value)


def literal(node: Node, name: str) -> Any:
    """A scalar of its own kind. Raises: BadFile."""
    if node.value is None or isinstance(node.value, list | dict):
        raise BadFile(node.place, f"{name!r} must be a text, a number or a boolean.")
    if isinstance(node.value, float) and not math.isfinite(node.value):
        raise BadFile(node.place, f"{name!r} must be a finite number.")
    return node.value


def _nearest(name: str, known: set[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""

"""How answers are handed out: as the wire's pydantic models, or light as they came (the command line, which must start fast)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Decoder = Callable[[str, Any], Any]
"""(`module.Class` below foldline.wire, decoded JSON) → the answer."""


def typed(where: str, data: Any) -> Any:
    """The answer as its wire model."""
    from importlib import import_module

    module, _, name = where.partition(".")
    return getattr(import_module(f"foldline.wire.{module}"), name).model_validate(data)


class Record(dict[str, Any]):
    """An answer as it came, its fields by attribute or key."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self, *, mode: str = "json") -> dict[str, Any]:
        """The fields, as the wire models give them."""
        return dict(self)


def light(where: str, data: Any) -> Any:
    """The answer as a Record."""
    return Record(data)


def plain(answer: Any) -> Any:
    """Plain JSON values of an answer, or of a list of them."""
    if isinstance(answer, list):
        return [plain(item) for item in answer]
    return answer.model_dump(mode="json") if hasattr(answer, "model_dump") else answer

"""Command jobs made with the package azure-ai-ml, accepted through their `_to_dict()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foldline.problems import BadInput, NotYet

OF_COMPONENT = ("name", "version", "type", "is_deterministic", "$schema", "inputs", "id", "creation_context", "intellectual_property")


def fields_of(job: Any) -> dict[str, Any]:
    """A job file's fields. A `Command` of azure-ai-ml keeps code, command and environment in an anonymous component: both are merged.

    Raises: NotYet for jobs over a registered component; BadInput.
    """
    given = job._to_dict()
    if not isinstance(given, Mapping):
        raise BadInput(f"{type(job).__name__}._to_dict() gave no dictionary.", code="bad_job")
    own = {key: value for key, value in given.items() if key != "component" and value not in (None, {}, [])}
    for name in ("experiment_name", "display_name"):
        if isinstance(value := getattr(job, name, None), str):
            own.setdefault(name, value)
    component = given.get("component")
    if component is None:
        return own
    if not isinstance(component, Mapping):
        raise NotYet("jobs over registered components")
    merged = {key: value for key, value in component.items() if key not in OF_COMPONENT} | own
    merged["inputs"] = _inputs(component.get("inputs") or {}, own.get("inputs") or {})
    return merged


def _inputs(declared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Each input's value with the type that the component declares (there a boolean's value has become 0 or 1)."""
    found: dict[str, Any] = dict(values)
    for name, declaration in declared.items():
        kind = declaration.get("type") if isinstance(declaration, Mapping) else None
        if kind not in ("string", "number", "integer", "boolean"):
            found.setdefault(name, declaration)
        elif name not in values or not isinstance(values[name], Mapping):
            value = values.get(name, declaration.get("default"))
            found[name] = {"type": kind, "value": value}
    return found

"""Stored name <-> event class, prefix <-> kind of stream, command class -> handler. The only list of what there is."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from core import computes, endpoints, environments, experiments, models, nodes, runs, users, workspaces
from core.decider import Handler, Kind
from core.errors import UnreadableEvent
from core.events import Event
from core.ids import Stream
from core.upcasters import UPCASTERS

_KINDS = (
    workspaces.KIND, workspaces.NAME_KIND, users.KIND, users.JOIN_KIND, computes.KIND, nodes.KIND, environments.KIND,
    experiments.KIND, runs.KIND, models.KIND, endpoints.KIND,
)

KINDS: Mapping[str, Kind] = {kind.prefix: kind for kind in _KINDS}
EVENT_CLASSES: Mapping[str, type[Event]] = {event.model_fields["type"].default: event for kind in _KINDS for event in kind.events}
HANDLERS: Mapping[type, Handler] = {
    handler.command: handler
    for module in (workspaces, users, computes, nodes, environments, experiments, runs, models, endpoints)
    for handler in module.HANDLERS
}


def kind_of(stream: Stream) -> Kind:
    """Raises: KeyError when no kind of stream has this prefix."""
    return KINDS[stream.partition("/")[0]]


def parse_event(name: str, value: bytes) -> Event:
    """The event stored under `name`, in its newest shape. Raises: UnreadableEvent."""
    found = EVENT_CLASSES.get(name)
    if found is None:
        raise UnreadableEvent(f"unknown event type {name!r}: this binary is older than the log, or the record is not ours")
    try:
        steps = UPCASTERS.get(name)
        if not steps:
            return found.model_validate_json(value)
        document = json.loads(value)
        for step in steps:
            document = step(document)
        return found.model_validate(document)
    except (ValidationError, ValueError) as error:
        raise UnreadableEvent(f"an event of type {name!r} does not have its shape") from error

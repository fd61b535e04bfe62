"""An environment: Python packages and variables, versioned. Stream `environment/<name>`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.decider import Handler, Kind, one_stream
from core.errors import Conflict
from core.events import Event, Value
from core.ids import Stream


class EnvironmentSpec(Value):
    """What a script needs around it. `python` is a version prefix such as `3.11`, or empty for the node's own."""

    name: str | None = None
    version: str | None = None
    python: str = ""
    packages: tuple[str, ...] = ()
    """pip requirements, in the order written."""
    variables: dict[str, str] = {}
    image: str | None = None
    """The image that the job named and that the node's Python stands in for."""

    @property
    def key(self) -> str:
        """SHA-256 of what is to be built: the same content is built once."""
        content = {"python": self.python, "packages": sorted(self.packages)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# -- events ------------------------------------------------------------------------------------------------------------
class EnvironmentVersionRegistered(Event):
    """A version of the environment exists; it never changes."""

    type: Literal["environment-version-registered"] = "environment-version-registered"
    environment: str
    version: str
    spec: EnvironmentSpec
    description: str | None = None


EVENTS = (EnvironmentVersionRegistered,)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Environment:
    """Its versions; none while there is no such environment."""

    versions: dict[str, EnvironmentSpec]


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Environment, event: Event) -> Environment:
    match event:
        case EnvironmentVersionRegistered():
            return Environment({**state.versions, event.version: event.spec})
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterEnvironment:
    """`version` None asks for the next number; the newest version with the same content is kept instead."""

    environment: str
    version: str | None
    spec: EnvironmentSpec
    description: str | None = None


# -- decide ------------------------------------------------------------------------------------------------------------
def register(state: Environment, command: RegisterEnvironment) -> Sequence[Event]:
    version = command.version
    if version is None:
        newest = latest(state)
        if newest is not None and _content(state.versions[newest]) == _content(command.spec):
            return ()
        version = str(1 + max((int(v) for v in state.versions if v.isdecimal()), default=0))
    elif (known := state.versions.get(version)) is not None:
        if _content(known) == _content(command.spec):
            return ()
        raise Conflict(
            f"Version {version} of environment {command.environment!r} has other content, and versions never change; use a new version.",
            environment=command.environment, version=version,
        )
    spec = command.spec.model_copy(update={"name": command.environment, "version": version})
    return (EnvironmentVersionRegistered(
        environment=command.environment, version=version, spec=spec, description=command.description,
    ),)


def latest(state: Environment) -> str | None:
    """The version registered last."""
    return next(reversed(state.versions), None)


def _content(spec: EnvironmentSpec) -> tuple[object, ...]:
    return spec.key, tuple(sorted(spec.variables.items())), spec.image


def stream_of(environment: str) -> Stream:
    return Stream(f"environment/{environment}")


KIND = Kind("environment", Environment({}), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (one_stream(RegisterEnvironment, lambda c: stream_of(c.environment), register),)

"""A registered model: versions 1, 2, 3 ... of one or many files, under a name. Stream `model/<name>`.

Deployments take and release versions in the same commits that make and end them (see `core.endpoints`), so the model itself
knows who uses it, and a version in use cannot be deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from core.decider import Handler, Kind, one_stream
from core.errors import Conflict, ModelInUse, NotFound
from core.events import Event
from core.ids import Stream


# -- events ------------------------------------------------------------------------------------------------------------
class ModelVersionRegistered(Event):
    """A version of the model exists; its files never change."""

    type: Literal["model-version-registered"] = "model-version-registered"
    model: str
    version: int
    manifest: str
    files: int
    bytes: int
    format: str = "custom_model"
    description: str | None = None
    tags: dict[str, str] = {}
    source_run: str | None = None
    source_path: str | None = None


class ModelVersionUpdated(Event):
    """Its tags or description changed; only what changed is there."""

    type: Literal["model-version-updated"] = "model-version-updated"
    model: str
    version: int
    description: str | None = None
    tags_set: dict[str, str] = {}
    tags_removed: tuple[str, ...] = ()


class ModelVersionUsed(Event):
    """A deployment took the version into use."""

    type: Literal["model-version-used"] = "model-version-used"
    model: str
    version: int
    endpoint: str
    deployment: str
    revision: int


class ModelVersionReleased(Event):
    """The deployment's revision uses the version no more."""

    type: Literal["model-version-released"] = "model-version-released"
    model: str
    version: int
    endpoint: str
    deployment: str
    revision: int


class ModelVersionDeleted(Event):
    """The version can no longer be downloaded or deployed; its number is never given again."""

    type: Literal["model-version-deleted"] = "model-version-deleted"
    model: str
    version: int


EVENTS = (ModelVersionRegistered, ModelVersionUpdated, ModelVersionUsed, ModelVersionReleased, ModelVersionDeleted)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Use:
    endpoint: str
    deployment: str
    revision: int


@dataclass(frozen=True, slots=True)
class Version:
    manifest: str
    description: str | None
    tags: dict[str, str]
    uses: frozenset[Use]


@dataclass(frozen=True, slots=True)
class Model:
    """Its live versions by number, and the highest number ever given (0: there is no such model)."""

    versions: dict[int, Version]
    highest: int = 0


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Model, event: Event) -> Model:
    match event:
        case ModelVersionRegistered():
            version = Version(event.manifest, event.description, event.tags, frozenset())
            return Model({**state.versions, event.version: version}, max(state.highest, event.version))
        case ModelVersionUpdated() if event.version in state.versions:
            known = state.versions[event.version]
            tags = {k: v for k, v in known.tags.items() if k not in event.tags_removed} | event.tags_set
            description = known.description if event.description is None else event.description
            return _with(state, event.version, replace(known, tags=tags, description=description))
        case ModelVersionUsed() if event.version in state.versions:
            known = state.versions[event.version]
            return _with(state, event.version, replace(known, uses=known.uses | {Use(event.endpoint, event.deployment, event.revision)}))
        case ModelVersionReleased() if event.version in state.versions:
            known = state.versions[event.version]
            return _with(state, event.version, replace(known, uses=known.uses - {Use(event.endpoint, event.deployment, event.revision)}))
        case ModelVersionDeleted():
            return replace(state, versions={k: v for k, v in state.versions.items() if k != event.version})
        case _:
            return state


def _with(state: Model, number: int, version: Version) -> Model:
    return replace(state, versions={**state.versions, number: version})


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterModel:
    """`version` None asks for the next number; a number given must be exactly the next one."""

    model: str
    version: int | None = None
    manifest: str
    files: int
    bytes: int
    format: str = "custom_model"
    description: str | None = None
    tags: dict[str, str]
    source_run: str | None = None
    source_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateModelVersion:
    model: str
    version: int
    description: str | None = None
    tags_set: dict[str, str]
    tags_removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteModelVersion:
    model: str
    version: int


# -- decide ------------------------------------------------------------------------------------------------------------
def register(state: Model, command: RegisterModel) -> Sequence[Event]:
    """The next version. A number that exists with the very same files is the same wish twice."""
    number = state.highest + 1 if command.version is None else command.version
    if (known := state.versions.get(number)) is not None and known.manifest == command.manifest:
        return ()
    if number != state.highest + 1:
        raise Conflict(
            f"The next version of model {command.model!r} is {state.highest + 1}, and versions never change; leave the number out.",
            model=command.model, next=state.highest + 1,
        )
    return (ModelVersionRegistered(
        model=command.model, version=number, manifest=command.manifest, files=command.files, bytes=command.bytes, format=command.format,
        description=command.description, tags=command.tags, source_run=command.source_run, source_path=command.source_path,
    ),)


def update(state: Model, command: UpdateModelVersion) -> Sequence[Event]:
    known = version_of(state, command.model, command.version)
    set_now = {k: v for k, v in command.tags_set.items() if known.tags.get(k) != v}
    removed = tuple(k for k in command.tags_removed if k in known.tags and k not in command.tags_set)
    description = None if command.description == known.description else command.description
    if not set_now and not removed and description is None:
        return ()
    return (ModelVersionUpdated(
        model=command.model, version=command.version, description=description, tags_set=set_now, tags_removed=removed,
    ),)


def delete(state: Model, command: DeleteModelVersion) -> Sequence[Event]:
    if 1 <= command.version <= state.highest and command.version not in state.versions:
        return ()
    known = version_of(state, command.model, command.version)
    if known.uses:
        raise ModelInUse(command.model, command.version, tuple(sorted({f"{use.endpoint}/{use.deployment}" for use in known.uses})))
    return (ModelVersionDeleted(model=command.model, version=command.version),)


def version_of(state: Model, model: str, version: int) -> Version:
    """Raises: NotFound."""
    if version not in state.versions:
        raise NotFound("model version", f"{model}:{version}")
    return state.versions[version]


def stream_of(model: str) -> Stream:
    return Stream(f"model/{model}")


KIND = Kind("model", Model({}), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(RegisterModel, lambda c: stream_of(c.model), register),
    one_stream(UpdateModelVersion, lambda c: stream_of(c.model), update),
    one_stream(DeleteModelVersion, lambda c: stream_of(c.model), delete),
)

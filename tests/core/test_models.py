"""Models, given, when, then."""

from __future__ import annotations

from core import models
from core.errors import Conflict, ModelInUse, NotFound
from core.models import (
    DeleteModelVersion,
    ModelVersionDeleted,
    ModelVersionRegistered,
    ModelVersionReleased,
    ModelVersionUpdated,
    ModelVersionUsed,
    RegisterModel,
    UpdateModelVersion,
)
from tests.core.spec import spec

model = spec(models, "model/digits")


def registered(version: int, manifest: str) -> ModelVersionRegistered:
    return ModelVersionRegistered(model="digits", version=version, manifest=manifest, files=1, bytes=10)


def register(manifest: str, version: int | None = None) -> RegisterModel:
    return RegisterModel(model="digits", version=version, manifest=manifest, files=1, bytes=10, tags={})


one = model.given(registered(1, "m1"))
used = one.given(ModelVersionUsed(model="digits", version=1, endpoint="e", deployment="blue", revision=1))


def test_registering_a_name_again_makes_the_next_version() -> None:
    first = model.when(register("m1")).then(registered(1, "m1"))
    first.when(register("m2")).then(registered(2, "m2"))


def test_a_number_with_the_very_same_files_is_the_same_wish_twice() -> None:
    model.when(register("m1", 1)).then_once(registered(1, "m1"))


def test_versions_come_in_order_and_never_change() -> None:
    one.when(register("m2", 1)).then_rejected(Conflict, model="digits", next=2)
    one.when(register("m2", 3)).then_rejected(Conflict, next=2)


def test_a_deleted_number_is_never_given_again() -> None:
    deleted = one.when(DeleteModelVersion(model="digits", version=1)).then_once(ModelVersionDeleted(model="digits", version=1))
    deleted.when(register("m1")).then(registered(2, "m1"))
    deleted.when(register("m1", 1)).then_rejected(Conflict, next=2)


def test_tags_are_set_changed_and_removed() -> None:
    tag = UpdateModelVersion(model="digits", version=1, tags_set={"stage": "test"})
    tagged = one.when(tag).then_once(ModelVersionUpdated(model="digits", version=1, tags_set={"stage": "test"}))
    untag = UpdateModelVersion(model="digits", version=1, description="good", tags_set={}, tags_removed=("stage", "x"))
    tagged.when(untag).then_once(ModelVersionUpdated(model="digits", version=1, description="good", tags_removed=("stage",)))


def test_a_version_in_use_is_not_deleted() -> None:
    used.when(DeleteModelVersion(model="digits", version=1)).then_rejected(ModelInUse, deployments=["e/blue"], version=1)
    free = used.given(ModelVersionReleased(model="digits", version=1, endpoint="e", deployment="blue", revision=1))
    free.when(DeleteModelVersion(model="digits", version=1)).then_once(ModelVersionDeleted(model="digits", version=1))


def test_a_version_that_was_never_registered_is_not_there() -> None:
    one.when(DeleteModelVersion(model="digits", version=2)).then_rejected(NotFound, what="model version")
    one.when(UpdateModelVersion(model="digits", version=2, tags_set={"a": "1"})).then_rejected(NotFound, name="digits:2")

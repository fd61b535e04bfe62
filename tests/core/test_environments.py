"""Environments, given, when, then."""

from __future__ import annotations

from core import environments
from core.environments import EnvironmentSpec, EnvironmentVersionRegistered, RegisterEnvironment, latest
from core.errors import Conflict
from tests.core.spec import spec

environment = spec(environments, "environment/sk")
numpy = EnvironmentSpec(packages=("numpy",))
scipy = EnvironmentSpec(packages=("scipy",))


def registered(version: str, content: EnvironmentSpec) -> EnvironmentVersionRegistered:
    named = content.model_copy(update={"name": "sk", "version": version})
    return EnvironmentVersionRegistered(environment="sk", version=version, spec=named)


def register(version: str | None, content: EnvironmentSpec) -> RegisterEnvironment:
    return RegisterEnvironment(environment="sk", version=version, spec=content)


def test_the_next_version_is_given_once_for_the_same_content() -> None:
    one = environment.when(register(None, numpy)).then_once(registered("1", numpy))
    two = one.when(register(None, scipy)).then_once(registered("2", scipy))
    assert latest(two.state()) == "2"


def test_a_version_never_changes() -> None:
    given = environment.when(register("2026-11", numpy)).then_once(registered("2026-11", numpy))
    given.when(register("2026-11", scipy)).then_rejected(Conflict, environment="sk", version="2026-11")


def test_the_same_packages_are_built_once_whatever_their_order_and_variables() -> None:
    first = EnvironmentSpec(packages=("a", "b"), variables={"x": "1"})
    assert first.key == EnvironmentSpec(packages=("b", "a"), name="other").key
    assert first.key != EnvironmentSpec(packages=("a", "b"), python="3.12").key

"""People, their tokens and join tokens, given, when, then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core import users
from core.errors import AlreadyExists, Conflict, NotFound
from core.users import (
    CreateJoinToken,
    CreateToken,
    CreateUser,
    DeleteUser,
    DisableUser,
    EnableUser,
    JoinTokenCreated,
    JoinTokenUsed,
    RevokeToken,
    TokenCreated,
    TokenRevoked,
    UseJoinToken,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from tests.core.spec import spec

U = "u-1"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
user = spec(users, f"user/{U}")
known = user.given(UserCreated(user=U))
disabled = known.given(UserDisabled(user=U))
forgotten = known.given(UserDeleted(user=U))
token = TokenCreated(user=U, token="t1", sha256="a" * 64)
make_token = CreateToken(user=U, token="t1", sha256="a" * 64)
join = spec(users, "join/j1")
offered = JoinTokenCreated(join="j1", workspace="ws-1", compute="cpu", sha256="b" * 64, expires_at=NOON)
offer = CreateJoinToken(join="j1", workspace="ws-1", compute="cpu", sha256="b" * 64, expires_at=NOON)


def use(**changed: object) -> UseJoinToken:
    fields: dict[str, object] = {"join": "j1", "sha256": "b" * 64, "node": "cpu-1", "now": NOON - timedelta(seconds=1)}
    return UseJoinToken(**(fields | changed))  # type: ignore[arg-type]


def test_a_user_is_created_once() -> None:
    user.when(CreateUser(user=U)).then_once(UserCreated(user=U))


def test_a_forgotten_user_never_comes_back_under_the_same_id() -> None:
    forgotten.when(CreateUser(user=U)).then_rejected(AlreadyExists, what="user")


def test_a_user_is_disabled_and_enabled() -> None:
    known.when(DisableUser(user=U)).then_once(UserDisabled(user=U))
    disabled.when(EnableUser(user=U)).then_once(UserEnabled(user=U))


def test_a_user_is_deleted_once() -> None:
    known.when(DeleteUser(user=U)).then_once(UserDeleted(user=U))


@pytest.mark.parametrize("command", [
    DisableUser(user=U), EnableUser(user=U), DeleteUser(user=U), make_token, RevokeToken(user=U, token="t1"),
], ids=lambda command: type(command).__name__)
def test_nobody_who_was_never_let_in_can_be_changed(command: object) -> None:
    user.when(command).then_rejected(NotFound, what="user", name=U)


def test_a_token_is_made_and_revoked_once() -> None:
    held = known.when(make_token).then_once(token)
    held.when(RevokeToken(user=U, token="t1")).then_once(TokenRevoked(user=U, token="t1"))


def test_a_disabled_user_gets_no_token() -> None:
    disabled.when(make_token).then_rejected(Conflict, user=U)


def test_a_join_token_opens_once_and_for_one_node() -> None:
    open_ = join.when(offer).then_once(offered)
    used = open_.when(use()).then_once(JoinTokenUsed(join="j1", node="cpu-1"))
    used.when(use(node="cpu-2")).then_rejected(NotFound, what="join token")


@pytest.mark.parametrize("wrong", [use(sha256="c" * 64), use(now=NOON)], ids=["another secret", "expired"])
def test_a_join_token_that_is_wrong_or_late_looks_as_if_there_were_none(wrong: UseJoinToken) -> None:
    join.given(offered).when(wrong).then_rejected(NotFound, what="join token", name="j1")
    join.when(wrong).then_rejected(NotFound, what="join token", name="j1")

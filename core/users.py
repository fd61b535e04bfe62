"""People, their tokens, and the once-only tokens with which machines join. Streams in the workspace `system`.

People are opaque ids here: names and mails live in a table from which they can be deleted. Tokens are random and only their
SHA-256 is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, assert_never

from core.decider import Handler, Kind, one_stream
from core.errors import AlreadyExists, Conflict, NotFound
from core.events import Event
from core.ids import Stream


# -- events ------------------------------------------------------------------------------------------------------------
class UserCreated(Event):
    """A person was let in. `admin` may create users and workspaces and see the system's health."""

    type: Literal["user-created"] = "user-created"
    user: str
    admin: bool = False


class UserDisabled(Event):
    """The person's tokens are worth nothing until the user is enabled again."""

    type: Literal["user-disabled"] = "user-disabled"
    user: str


class UserEnabled(Event):
    type: Literal["user-enabled"] = "user-enabled"
    user: str


class UserDeleted(Event):
    """The person is forgotten: name and mail are erased, the opaque id stays in what was done."""

    type: Literal["user-deleted"] = "user-deleted"
    user: str


class TokenCreated(Event):
    """A personal token was made; only its hash is known."""

    type: Literal["token-created"] = "token-created"
    user: str
    token: str
    sha256: str
    label: str | None = None
    expires_at: datetime | None = None


class TokenRevoked(Event):
    type: Literal["token-revoked"] = "token-revoked"
    user: str
    token: str


class JoinTokenCreated(Event):
    """A machine may join this compute once with the token of this hash."""

    type: Literal["join-token-created"] = "join-token-created"
    join: str
    workspace: str
    compute: str
    sha256: str
    expires_at: datetime


class JoinTokenUsed(Event):
    """A machine joined with it; it opens nothing any more."""

    type: Literal["join-token-used"] = "join-token-used"
    join: str
    node: str


USER_EVENTS = (UserCreated, UserDisabled, UserEnabled, UserDeleted, TokenCreated, TokenRevoked)
JOIN_EVENTS = (JoinTokenCreated, JoinTokenUsed)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoUser:
    """Never made."""


@dataclass(frozen=True, slots=True)
class Token:
    sha256: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    user: str
    admin: bool
    enabled: bool
    tokens: dict[str, Token]


@dataclass(frozen=True, slots=True)
class Forgotten:
    user: str


User = NoUser | Known | Forgotten


@dataclass(frozen=True, slots=True)
class NoJoin:
    """Never made."""


@dataclass(frozen=True, slots=True)
class Join:
    workspace: str
    compute: str
    sha256: str
    expires_at: datetime
    used_by: str | None = None


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: User, event: Event) -> User:
    match state, event:
        case NoUser(), UserCreated():
            return Known(event.user, event.admin, True, {})
        case Known(), UserDisabled():
            return replace(state, enabled=False)
        case Known(), UserEnabled():
            return replace(state, enabled=True)
        case Known(), UserDeleted():
            return Forgotten(state.user)
        case Known(), TokenCreated():
            return replace(state, tokens={**state.tokens, event.token: Token(event.sha256, event.expires_at)})
        case Known(), TokenRevoked():
            return replace(state, tokens={k: v for k, v in state.tokens.items() if k != event.token})
        case _:
            return state


def evolve_join(state: NoJoin | Join, event: Event) -> NoJoin | Join:
    match state, event:
        case NoJoin(), JoinTokenCreated():
            return Join(event.workspace, event.compute, event.sha256, event.expires_at)
        case Join(), JoinTokenUsed():
            return replace(state, used_by=event.node)
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUser:
    user: str
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableUser:
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableUser:
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteUser:
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateToken:
    user: str
    token: str
    sha256: str
    label: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeToken:
    user: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJoinToken:
    join: str
    workspace: str
    compute: str
    sha256: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UseJoinToken:
    join: str
    sha256: str
    node: str
    now: datetime


# -- decide ------------------------------------------------------------------------------------------------------------
def create(state: User, command: CreateUser) -> Sequence[Event]:
    match state:
        case NoUser():
            return (UserCreated(user=command.user, admin=command.admin),)
        case Known():
            return ()
        case Forgotten():
            raise AlreadyExists("user", command.user)
        case _:
            assert_never(state)


def disable(state: User, command: DisableUser) -> Sequence[Event]:
    return (UserDisabled(user=command.user),) if _known(state, command.user).enabled else ()


def enable(state: User, command: EnableUser) -> Sequence[Event]:
    return () if _known(state, command.user).enabled else (UserEnabled(user=command.user),)


def delete(state: User, command: DeleteUser) -> Sequence[Event]:
    if isinstance(state, Forgotten):
        return ()
    _known(state, command.user)
    return (UserDeleted(user=command.user),)


def create_token(state: User, command: CreateToken) -> Sequence[Event]:
    user = _known(state, command.user)
    if not user.enabled:
        raise Conflict("The user is disabled; enable the user before making a token.", user=command.user)
    if command.token in user.tokens:
        return ()
    return (TokenCreated(
        user=command.user, token=command.token, sha256=command.sha256, label=command.label, expires_at=command.expires_at,
    ),)


def revoke_token(state: User, command: RevokeToken) -> Sequence[Event]:
    user = _known(state, command.user)
    return (TokenRevoked(user=command.user, token=command.token),) if command.token in user.tokens else ()


def create_join(state: NoJoin | Join, command: CreateJoinToken) -> Sequence[Event]:
    if isinstance(state, Join):
        return ()
    return (JoinTokenCreated(
        join=command.join, workspace=command.workspace, compute=command.compute,
        sha256=command.sha256, expires_at=command.expires_at,
    ),)


def use_join(state: NoJoin | Join, command: UseJoinToken) -> Sequence[Event]:
    match state:
        case NoJoin():
            raise NotFound("join token", command.join)
        case Join():
            if state.used_by == command.node:
                return ()
            if state.sha256 != command.sha256 or state.used_by is not None or command.now >= state.expires_at:
                raise NotFound("join token", command.join)
            return (JoinTokenUsed(join=command.join, node=command.node),)
        case _:
            assert_never(state)


def _known(state: User, user: str) -> Known:
    if not isinstance(state, Known):
        raise NotFound("user", user)
    return state


KIND = Kind("user", NoUser(), evolve, USER_EVENTS)
JOIN_KIND = Kind("join", NoJoin(), evolve_join, JOIN_EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(CreateUser, lambda c: Stream(f"user/{c.user}"), create),
    one_stream(DisableUser, lambda c: Stream(f"user/{c.user}"), disable),
    one_stream(EnableUser, lambda c: Stream(f"user/{c.user}"), enable),
    one_stream(DeleteUser, lambda c: Stream(f"user/{c.user}"), delete),
    one_stream(CreateToken, lambda c: Stream(f"user/{c.user}"), create_token),
    one_stream(RevokeToken, lambda c: Stream(f"user/{c.user}"), revoke_token),
    one_stream(CreateJoinToken, lambda c: Stream(f"join/{c.join}"), create_join),
    one_stream(UseJoinToken, lambda c: Stream(f"join/{c.join}"), use_join),
)

"""Who is calling: makes and checks the four kinds of bearer token.

Nothing of a request but its Authorization header is looked at before this has passed. Digests are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from core import nodes, runs, users
from core.errors import StaleAttempt, Unauthenticated
from core.execute import Executor
from core.ids import SYSTEM, ActorId, Stream, WorkspaceId
from core.ports import Clock, Vault

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
_SECRET = r"[A-Za-z0-9_-]{20,128}"  # noqa: S105  the shape of one
_USER = re.compile(rf"^flu_(?P<user>{_WORD}):(?P<token>{_WORD}):{_SECRET}$")
_RUN = re.compile(rf"^flr_(?P<workspace>{_WORD}):(?P<run>{_WORD}):(?P<attempt>[1-9][0-9]{{0,8}}):(?P<mac>[0-9a-f]{{64}})$")
_NODE = re.compile(rf"^fln_(?P<workspace>{_WORD}):(?P<node>{_WORD}):(?P<mac>[0-9a-f]{{64}})$")
_JOIN = re.compile(rf"^flj_(?P<join>{_WORD}):{_SECRET}$")
TOKEN_CHARS_MAX = 1200


@dataclass(frozen=True, slots=True)
class UserCaller:
    user: str
    admin: bool
    token: str

    @property
    def actor(self) -> ActorId:
        return ActorId(f"user/{self.user}")


@dataclass(frozen=True, slots=True)
class RunCaller:
    """A script that talks back: reaches its own run and the run's children."""

    workspace: WorkspaceId
    run: str
    attempt: int

    @property
    def actor(self) -> ActorId:
        return ActorId(f"run/{self.run}")


@dataclass(frozen=True, slots=True)
class NodeCaller:
    workspace: WorkspaceId
    node: str

    @property
    def actor(self) -> ActorId:
        return ActorId(f"node/{self.node}")


@dataclass(frozen=True, slots=True)
class JoinCaller:
    """A machine that wants to join; its token works once."""

    join: str
    sha256: str
    workspace: WorkspaceId
    compute: str

    @property
    def actor(self) -> ActorId:
        return ActorId(f"join/{self.join}")


Caller = UserCaller | RunCaller | NodeCaller | JoinCaller


def user_token(user: str, token: str, secret: str) -> str:
    return f"flu_{user}:{token}:{secret}"


def join_token(join: str, secret: str) -> str:
    return f"flj_{join}:{secret}"


def run_token(vault: Vault, workspace: str, run: str, attempt: int) -> str:
    """Valid while this attempt is the run's; nothing about it is stored."""
    return f"flr_{workspace}:{run}:{attempt}:{vault.derive('run-token', f'{workspace}:{run}:{attempt}')}"


def node_token(vault: Vault, workspace: str, node: str) -> str:
    return f"fln_{workspace}:{node}:{vault.derive('node-token', f'{workspace}:{node}')}"


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """Checks credentials against the newest state, in-flight events included: a revocation holds at once."""

    def __init__(self, executor: Executor, vault: Vault, clock: Clock) -> None:
        self._executor, self._vault, self._clock = executor, vault, clock

    async def caller(self, authorization: list[bytes]) -> Caller:
        """Raises: Unauthenticated; StaleAttempt for the genuine token of an attempt that is over."""
        if len(authorization) != 1 or len(authorization[0]) > TOKEN_CHARS_MAX:
            raise Unauthenticated
        try:
            scheme, _, token = authorization[0].decode("ascii").partition(" ")
        except UnicodeDecodeError:
            raise Unauthenticated from None
        if scheme.lower() != "bearer":
            raise Unauthenticated
        if match := _USER.match(token):
            return await self._user(match["user"], match["token"], token)
        if match := _RUN.match(token):
            return await self._run(WorkspaceId(match["workspace"]), match["run"], int(match["attempt"]), match["mac"])
        if match := _NODE.match(token):
            return await self._node(WorkspaceId(match["workspace"]), match["node"], match["mac"])
        if match := _JOIN.match(token):
            return await self._join(match["join"], token)
        raise Unauthenticated

    async def _user(self, user: str, token: str, whole: str) -> UserCaller:
        state = await self._executor.state(SYSTEM, Stream(f"user/{user}"))
        digest = sha256_of(whole)
        known = state.tokens.get(token) if isinstance(state, users.Known) else None
        right = hmac.compare_digest(digest, known.sha256 if known is not None else "0" * 64)
        if not right or known is None or not isinstance(state, users.Known) or not state.enabled or self._over(known.expires_at):
            raise Unauthenticated
        return UserCaller(user, state.admin, token)

    async def _run(self, workspace: WorkspaceId, run: str, attempt: int, mac: str) -> RunCaller:
        if not hmac.compare_digest(mac, self._vault.derive("run-token", f"{workspace}:{run}:{attempt}")):
            raise Unauthenticated
        state = await self._executor.state(workspace, runs.stream_of(run))
        match state:
            case runs.Placed() if state.attempt == attempt:
                return RunCaller(workspace, run, attempt)
            case runs.Placed() | runs.Finished():
                raise StaleAttempt(run, attempt, state.attempt)
            case runs.Queued():
                raise StaleAttempt(run, attempt, None)
            case _:
                raise Unauthenticated

    async def _node(self, workspace: WorkspaceId, node: str, mac: str) -> NodeCaller:
        if not hmac.compare_digest(mac, self._vault.derive("node-token", f"{workspace}:{node}")):
            raise Unauthenticated
        state = await self._executor.state(workspace, nodes.stream_of(node))
        if isinstance(state, nodes.NoNode | nodes.Gone):
            raise Unauthenticated
        return NodeCaller(workspace, node)

    async def _join(self, join: str, whole: str) -> JoinCaller:
        state = await self._executor.state(SYSTEM, Stream(f"join/{join}"))
        digest = sha256_of(whole)
        right = hmac.compare_digest(digest, state.sha256 if isinstance(state, users.Join) else "0" * 64)
        if not right or not isinstance(state, users.Join) or state.used_by is not None or self._over(state.expires_at):
            raise Unauthenticated
        return JoinCaller(join, digest, WorkspaceId(state.workspace), state.compute)

    def _over(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and self._clock.now() >= expires_at

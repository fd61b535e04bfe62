"""ONE table: each route with who may use it. A route that is not here, or a line without a route, fails the build of the app.

Answers: no valid credential 401 · not a member of the workspace 404, byte for byte as if it did not exist · role too low 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from adapters.http.services import Services
from adapters.http.tokens import Caller, JoinCaller, NodeCaller, RunCaller, UserCaller
from core import runs, workspaces
from core.errors import Forbidden, Refusal
from core.ids import SYSTEM, Stream, WorkspaceId

Who = Literal["public", "user", "self", "admin", "reader", "contributor", "owner", "node", "run", "join"]
RANK: Mapping[str, int] = {"reader": 1, "contributor": 2, "owner": 3}
PARENTS_MAX = 32
API = "/api/v1"
W = "/api/v1/workspaces/{workspace}"

TABLE: Mapping[tuple[str, str], tuple[Who, ...]] = {
    ("GET", "/health"): ("public",),
    ("GET", f"{API}/health"): ("public",),
    ("GET", f"{API}/openapi.json"): ("public",),
    ("GET", f"{API}/docs"): ("public",),
    ("GET", f"{API}/me"): ("user", "node", "run"),
    ("POST", f"{API}/users"): ("admin",),
    ("GET", f"{API}/users"): ("admin",),
    ("POST", f"{API}/users/{{user}}/disable"): ("admin",),
    ("POST", f"{API}/users/{{user}}/enable"): ("admin",),
    ("DELETE", f"{API}/users/{{user}}"): ("admin",),
    ("POST", f"{API}/users/{{user}}/tokens"): ("self", "admin"),
    ("GET", f"{API}/users/{{user}}/tokens"): ("self", "admin"),
    ("DELETE", f"{API}/users/{{user}}/tokens/{{token}}"): ("self", "admin"),
    ("POST", f"{API}/admin/read-models/rebuild"): ("admin",),
    ("POST", f"{API}/workspaces"): ("user",),
    ("GET", f"{API}/workspaces"): ("user",),
    ("GET", W): ("reader",),
    ("PATCH", W): ("owner",),
    ("DELETE", W): ("owner",),
    ("GET", f"{W}/members"): ("reader",),
    ("PUT", f"{W}/members/{{user}}"): ("owner",),
    ("DELETE", f"{W}/members/{{user}}"): ("owner",),
    ("POST", f"{W}/computes"): ("contributor",),
    ("GET", f"{W}/computes"): ("reader",),
    ("GET", f"{W}/computes/{{compute}}"): ("reader",),
    ("PATCH", f"{W}/computes/{{compute}}"): ("contributor",),
    ("DELETE", f"{W}/computes/{{compute}}"): ("contributor",),
    ("GET", f"{W}/computes/{{compute}}/nodes"): ("reader",),
    ("POST", f"{W}/computes/{{compute}}/join-tokens"): ("owner",),
    ("POST", f"{W}/nodes/{{node}}/forget"): ("contributor",),
    ("POST", f"{W}/environments"): ("contributor",),
    ("GET", f"{W}/environments"): ("reader",),
    ("GET", f"{W}/environments/{{environment}}"): ("reader",),
    ("GET", f"{W}/experiments"): ("reader",),
    ("POST", f"{W}/experiments/{{experiment}}/archive"): ("contributor",),
    ("POST", f"{W}/experiments/{{experiment}}/restore"): ("contributor",),
    ("POST", f"{W}/jobs"): ("contributor",),
    ("GET", f"{W}/jobs"): ("reader",),
    ("GET", f"{W}/jobs/{{run}}"): ("reader", "run"),
    ("PATCH", f"{W}/jobs/{{run}}"): ("contributor",),
    ("POST", f"{W}/jobs/{{run}}/cancel"): ("contributor",),
    ("POST", f"{W}/jobs/{{run}}/parameters"): ("contributor", "run"),
    ("GET", f"{W}/jobs/{{run}}/metrics"): ("reader", "run"),
    ("GET", f"{W}/jobs/{{run}}/metrics/curve"): ("reader",),
    ("GET", f"{W}/jobs/{{run}}/log"): ("reader", "run"),
    ("GET", f"{W}/jobs/{{run}}/outputs"): ("reader", "run"),
    ("GET", f"{W}/jobs/{{run}}/outputs/file"): ("reader", "run"),
    ("PUT", f"{W}/jobs/{{run}}/outputs/file"): ("contributor", "run"),
    ("GET", f"{W}/jobs/{{run}}/outputs/archive"): ("reader",),
    ("GET", f"{W}/jobs/{{run}}/story"): ("reader",),
    ("GET", f"{W}/journal"): ("reader",),
    ("GET", f"{W}/events"): ("reader",),
    ("POST", f"{W}/blobs/missing"): ("contributor", "node", "run"),
    ("PUT", f"{W}/blobs/{{sha256}}"): ("contributor", "node", "run"),
    ("GET", f"{W}/blobs/{{sha256}}"): ("node",),
    ("POST", f"{W}/snapshots"): ("contributor", "node", "run"),
    ("GET", f"{W}/snapshots/{{digest}}"): ("reader", "node"),
    ("GET", f"{W}/snapshots/{{digest}}/archive"): ("reader",),
    ("POST", f"{W}/models"): ("contributor",),
    ("GET", f"{W}/models"): ("reader",),
    ("GET", f"{W}/models/{{model}}"): ("reader",),
    ("GET", f"{W}/models/{{model}}/versions"): ("reader",),
    ("GET", f"{W}/models/{{model}}/versions/{{version}}"): ("reader",),
    ("PATCH", f"{W}/models/{{model}}/versions/{{version}}"): ("contributor",),
    ("DELETE", f"{W}/models/{{model}}/versions/{{version}}"): ("contributor",),
    ("GET", f"{W}/models/{{model}}/versions/{{version}}/files"): ("reader",),
    ("GET", f"{W}/models/{{model}}/versions/{{version}}/files/content"): ("reader",),
    ("GET", f"{W}/models/{{model}}/versions/{{version}}/archive"): ("reader",),
    ("POST", f"{W}/online-endpoints"): ("contributor",),
    ("GET", f"{W}/online-endpoints"): ("reader",),
    ("GET", f"{W}/online-endpoints/{{endpoint}}"): ("reader",),
    ("PATCH", f"{W}/online-endpoints/{{endpoint}}"): ("contributor",),
    ("DELETE", f"{W}/online-endpoints/{{endpoint}}"): ("contributor",),
    ("GET", f"{W}/online-endpoints/{{endpoint}}/keys"): ("contributor",),
    ("POST", f"{W}/online-endpoints/{{endpoint}}/keys/regenerate"): ("contributor",),
    ("GET", f"{W}/online-endpoints/{{endpoint}}/deployments"): ("reader",),
    ("PUT", f"{W}/online-endpoints/{{endpoint}}/deployments/{{deployment}}"): ("contributor",),
    ("GET", f"{W}/online-endpoints/{{endpoint}}/deployments/{{deployment}}"): ("reader",),
    ("DELETE", f"{W}/online-endpoints/{{endpoint}}/deployments/{{deployment}}"): ("contributor",),
    ("GET", f"{W}/online-endpoints/{{endpoint}}/deployments/{{deployment}}/logs"): ("reader",),
    ("POST", f"{API}/nodes/join"): ("join",),
    ("POST", f"{API}/agent/hello"): ("node",),
    ("POST", f"{API}/agent/work"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/started"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/exited"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/ended"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/points"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/log"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/parameters"): ("node",),
    ("POST", f"{API}/agent/runs/{{run}}/tags"): ("node",),
}


class NoSuchWorkspace(Refusal):
    """The same answer for what does not exist and for what the caller may not know of."""

    code = "not_found"
    kind = "missing"

    def __init__(self) -> None:
        super().__init__("There is no such workspace, or you are not a member of it.")


@dataclass(frozen=True, slots=True)
class Admitted:
    """The caller may; with the workspace that the path names, if it names one."""

    workspace: WorkspaceId | None = None
    state: workspaces.Active | None = None
    role: str | None = None


async def admit(services: Services, caller: Caller | None, who: tuple[Who, ...], path: Mapping[str, str]) -> Admitted:
    """Raises: NoSuchWorkspace, Forbidden."""
    if "public" in who:
        return Admitted()
    named = path.get("workspace")
    match caller:
        case None:
            raise Forbidden(None, " or ".join(who))
        case UserCaller() if named is not None:
            return await _member(services, caller, who, named)
        case UserCaller():
            await _without_workspace(services, caller, who, path)
            return Admitted()
        case RunCaller() | NodeCaller():
            return await _machine(services, caller, who, path)
        case JoinCaller():
            if "join" not in who:
                raise Forbidden(None, " or ".join(who))
            return Admitted()
        case _:
            assert_never(caller)


async def find_workspace(services: Services, named: str) -> tuple[WorkspaceId, workspaces.Active]:
    """The live workspace behind a name or an id. The workspace `system` is behind none. Raises: NoSuchWorkspace."""
    if is_workspace_id(named):
        identifier = named
    else:
        reserved = await services.executor.state(SYSTEM, Stream(f"name/{named}"))
        if reserved.workspace is None:
            raise NoSuchWorkspace
        identifier = reserved.workspace
    workspace = WorkspaceId(identifier)
    state = await services.executor.state(workspace, workspaces.stream_of(workspace))
    if workspace == SYSTEM or not isinstance(state, workspaces.Active):
        raise NoSuchWorkspace
    return workspace, state


def is_workspace_id(text: str) -> bool:
    return len(text) == 15 and text.startswith("ws-") and all(char in "0123456789abcdef" for char in text[3:])


async def _member(services: Services, caller: UserCaller, who: tuple[Who, ...], named: str) -> Admitted:
    workspace, state = await find_workspace(services, named)
    role = state.members.get(caller.user)
    if role is None:
        raise NoSuchWorkspace
    needed = [name for name in who if name in RANK]
    if not needed or RANK[role] < min(RANK[name] for name in needed):
        raise Forbidden(role, " or ".join(needed or who))
    return Admitted(workspace, state, role)


async def _without_workspace(services: Services, caller: UserCaller, who: tuple[Who, ...], path: Mapping[str, str]) -> None:
    if "user" in who or ("admin" in who and caller.admin):
        return
    if "self" in who and await user_named(services, path["user"], caller) == caller.user:
        return
    raise Forbidden(None, "admin")


async def user_named(services: Services, text: str, caller: Caller) -> str | None:
    """The user id behind `me`, an id or a name."""
    if text == "me":
        return caller.user if isinstance(caller, UserCaller) else None
    if text.startswith("u-") and await services.people.get(text) is not None:
        return text
    found = await services.people.find(text)
    return text if found is None and text.startswith("u-") else None if found is None else found.user


async def _machine(services: Services, caller: RunCaller | NodeCaller, who: tuple[Who, ...], path: Mapping[str, str]) -> Admitted:
    named = path.get("workspace")
    workspace, state = await find_workspace(services, caller.workspace if named is None else named)
    if workspace != caller.workspace:
        raise NoSuchWorkspace
    if ("run" if isinstance(caller, RunCaller) else "node") not in who:
        raise Forbidden(None, " or ".join(who))
    if isinstance(caller, RunCaller) and "run" in path and not await _is_own(services, caller, path["run"]):
        raise Forbidden(None, "the token of that run or of its parent")
    return Admitted(workspace, state, None)


async def _is_own(services: Services, caller: RunCaller, run: str) -> bool:
    """Whether the run is the caller's own, or a descendant of it."""
    for _ in range(PARENTS_MAX):
        if run == caller.run:
            return True
        state = await services.executor.state(caller.workspace, runs.stream_of(run))
        if isinstance(state, runs.NoRun) or state.facts.parent is None:
            return False
        run = state.facts.parent
    return False

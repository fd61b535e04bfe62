"""Every route with every role and none, made from the router itself."""

from __future__ import annotations

import re

import httpx2
import pytest

from adapters.http import access
from adapters.http.app import NOUNS
from adapters.http.routing import Route, Router
from tests.adapters.http.live_server import problem
from tests.adapters.http.world import PROTOCOL, World

CREDENTIALS = ("nobody", "stranger", "reader", "contributor", "owner", "admin", "node", "run", "their owner", "their node", "their run")
HELD = {("GET", f"{access.W}/events"), ("POST", f"{access.API}/agent/work")}
ANSWERED = frozenset({200, 201, 202, 204, 400, 404, 409, 411, 415, 422})
"""What a request gets that was let in; the bodies here are empty, so most are refused for that."""


def token_of(world: World, credential: str) -> str | None:
    ours, theirs = world.ours, world.theirs
    return {
        "nobody": None, "stranger": world.stranger, "reader": ours.reader, "contributor": ours.contributor, "owner": ours.owner,
        "admin": world.admin, "node": ours.node_token, "run": ours.run_token, "their owner": theirs.owner, "their node": theirs.node_token,
        "their run": theirs.run_token,
    }[credential]


def filled(path: str, world: World) -> str:
    """The route's path in our workspace, with names of things that are not there where a request could destroy something."""
    values = {
        "workspace": world.ours.name, "run": world.ours.run, "sha256": "0" * 64, "digest": "0" * 64, "user": "nobody-of-that-name",
    }
    return re.sub(r"{(\w+)}", lambda match: values.get(match[1], "not-there"), path)


def decision(who: tuple[str, ...], credential: str, path: str) -> set[int]:
    """The statuses that the table promises."""
    if "public" in who:
        return {200}
    if credential == "nobody":
        return {401}
    in_workspace = "{workspace}" in path
    if in_workspace and credential in ("stranger", "admin", "their owner", "their node", "their run"):
        return {404}
    if in_workspace and credential in access.RANK:
        needed = [access.RANK[name] for name in who if name in access.RANK]
        return set(ANSWERED) if needed and access.RANK[credential] >= min(needed) else {403}
    machine = credential.removeprefix("their ")
    if machine in ("node", "run"):
        return set(ANSWERED) if machine in who else {403}
    if "user" in who or ("admin" in who and credential == "admin"):
        return set(ANSWERED)
    return {403}


def test_every_route_keeps_its_promise_to_every_role_and_none(server, world: World) -> None:  # type: ignore[no-untyped-def]  # a fixture
    wrong: list[str] = []
    tried = 0
    for credential in CREDENTIALS:
        token = token_of(world, credential)
        headers = {**PROTOCOL, **({} if token is None else {"Authorization": f"Bearer {token}"})}
        with httpx2.Client(base_url=server.url, headers=headers, timeout=20) as client:
            for route, who in server.made.app.router.routes:
                promised = decision(who, credential, route.path)
                if _would_change_something(route, promised):
                    continue
                tried += 1
                with client.stream(route.method, filled(route.path, world)) as response:
                    if response.status_code not in promised:
                        wrong.append(f"{credential}: {route.method} {route.path} -> {response.status_code}, promised {sorted(promised)}")
                    elif response.status_code in (401, 403, 404):
                        response.read()
                        problem(response)
    assert not wrong, "\n".join(wrong)
    assert tried > 80 * len(CREDENTIALS) - 60


def _would_change_something(route: Route, promised: set[int]) -> bool:
    """Requests that would succeed with an empty body; their success is the subject of other tests."""
    destructive = {
        ("DELETE", access.W), ("POST", f"{access.W}/jobs/{{run}}/cancel"), ("POST", f"{access.API}/admin/read-models/rebuild"),
    }
    return promised != {401} and len(promised) > 1 and ((route.method, route.path) in destructive or (route.method, route.path) in HELD)


def test_other_methods_on_a_path_are_refused_and_head_is_decided_like_get(server, world: World) -> None:  # type: ignore[no-untyped-def]
    path = f"/api/v1/workspaces/{world.ours.name}"
    with httpx2.Client(base_url=server.url) as client:
        assert client.head(path).status_code == 401
        assert client.request("TRACE", path).status_code == 405
        headers = {"Authorization": f"Bearer {world.ours.reader}"}
        assert client.head(path, headers=headers).status_code == 200
        assert client.head(path, headers={"Authorization": f"Bearer {world.stranger}"}).status_code == 404
        refused = client.request("OPTIONS", path, headers=headers)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "DELETE, GET, HEAD, PATCH"


def test_a_route_without_a_decision_fails_the_build_of_the_app() -> None:
    routes = [route for noun in NOUNS for route in noun.ROUTES]
    open_table = {(route.method, route.path): ("public",) for route in routes[1:]}
    with pytest.raises(ValueError, match="no line in"):
        Router(routes, open_table)  # type: ignore[arg-type]  # literals


def test_a_decision_without_a_route_fails_the_build_of_the_app() -> None:
    routes = [route for noun in NOUNS for route in noun.ROUTES]
    table = {**{(route.method, route.path): ("public",) for route in routes}, ("GET", "/nothing"): ("public",)}
    with pytest.raises(ValueError, match="without a route"):
        Router(routes, table)  # type: ignore[arg-type]  # literals


@pytest.mark.parametrize("twin", [
    "/api/v1/workspaces/ours/", "/api/v1//workspaces/ours", "//api/v1/workspaces/ours", "/api/v1/workspaces/ours;x",
    "/API/v1/workspaces/ours",
    "/api/v1/workspaces%2fours", "/api/v1/workspaces/./ours", "/api/v1/x/../workspaces/ours", "/api/v1/workspaces/ours%00",
    "/api/v1/workspaces/ours%2f", "/api/v1/workspaces/%6furs/",
])
def test_twins_of_a_guarded_path_open_nothing(server, world: World, twin: str) -> None:  # type: ignore[no-untyped-def]
    line = f"GET {twin} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    assert server.raw(line + b"\r\n").startswith(b"HTTP/1.1 401 ")
    as_member = server.raw(line + f"Authorization: Bearer {world.ours.reader}\r\n\r\n".encode())
    assert as_member.split(b" ")[1] in (b"400", b"404"), as_member

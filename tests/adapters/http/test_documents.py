"""The description of the API and its page, and what everybody may ask."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

import httpx2
import pytest

from adapters.http import access, docs, limits
from tests.adapters.http.live_server import LiveServer, problem
from tests.adapters.http.world import World


@pytest.fixture
def nobody(server: LiveServer) -> httpx2.Client:
    return httpx2.Client(base_url=server.url)


def test_health_tells_which_log_serves(nobody: httpx2.Client, server: LiveServer) -> None:
    for path in ("/health", "/api/v1/health"):
        told = nobody.get(path).json()
        assert (told["status"], told["version"], told["log"]) == ("ok", "test", "postgres")
        assert told["log_id"] == server.services.log.id


def test_every_route_is_described_with_its_shapes_and_roles(nobody: httpx2.Client) -> None:
    described = nobody.get("/api/v1/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    routes = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert routes == set(access.TABLE)
    names = set(described["components"]["schemas"])
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)):
        assert name in names
    job = described["paths"][f"{access.W}/jobs"]["post"]
    assert job["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/JobCreate"}
    assert job["x-roles"] == ["contributor"]


def test_the_page_loads_nothing_from_anywhere_else(nobody: httpx2.Client) -> None:
    page = nobody.get("/api/v1/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy == docs.POLICY
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.search(r"(src|href)\s*=|@import|url\(|https?://", page.text)
    assert "innerHTML" not in page.text


def test_an_unexpected_error_is_a_problem_that_tells_nothing_but_the_request_id(
    server: LiveServer, world: World, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError(f"token {world.ours.owner} in /var/lib/secret")

    monkeypatch.setattr(server.services.serving, "logs", explode)
    with world.client(world.ours.reader) as client:
        answer = client.get("/workspaces/ours/online-endpoints/score/deployments/blue/logs", headers={"X-Request-Id": "explode-0001"})
        assert answer.status_code == 500
        told = problem(answer)
        assert (told["code"], told["request_id"]) == ("internal", "explode-0001")
        assert world.ours.owner not in answer.text
        assert "/var/lib" not in answer.text
        assert client.get("/me").status_code == 200


def test_one_user_follows_only_so_many_streams_at_once(server: LiveServer, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLLOWERS_MAX", 2)
    path, headers = f"/workspaces/ours/jobs/{world.ours.run}/log", {"Accept": "text/event-stream"}
    with world.client(world.ours.reader) as client, ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(client.stream("GET", path, headers=headers)).status_code == 200
        refused = client.get(path, headers=headers)
        assert refused.status_code == 429
        assert problem(refused)["code"] == "limit_reached"
        assert "retry-after" in refused.headers
    with world.client(world.ours.owner) as other, other.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200


def test_answers_carry_a_request_id_and_are_not_kept(nobody: httpx2.Client) -> None:
    first, second = nobody.get("/health"), nobody.get("/health")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["cache-control"] == "no-store"
    assert nobody.get("/health", headers={"X-Request-Id": "given-0001"}).headers["x-request-id"] == "given-0001"
    assert nobody.get("/health", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"

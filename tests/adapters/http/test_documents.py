"""The description of the API and its page, and what everybody may ask."""

from __future__ import annotations

import json
import re

import httpx2
import pytest

from adapters.http import access, docs
from tests.adapters.http.live_server import LiveServer


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


def test_answers_carry_a_request_id_and_are_not_kept(nobody: httpx2.Client) -> None:
    first, second = nobody.get("/health"), nobody.get("/health")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["cache-control"] == "no-store"
    assert nobody.get("/health", headers={"X-Request-Id": "given-0001"}).headers["x-request-id"] == "given-0001"
    assert nobody.get("/health", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"

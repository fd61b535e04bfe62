"""What Envoy is told: pure functions of the routes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.gateway.config import Files, bootstrap, clusters_response, named, routes_response
from core.ids import WorkspaceId
from core.ports import Backend, Route
from tests.adapters.serving.kit import KEYS, route

TWO = route(("blue", 90, ["/s/1", "/s/2"]), ("green", 10, ["/s/3"]))


def table(*routes: Route) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = routes_response(routes)["resources"][0]["virtual_hosts"][0]["routes"]
    return rules


def answering(rules: list[dict[str, Any]], method: str, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The first rule that fits, as Envoy picks it."""
    given = {":method": method, **(headers or {})}
    for rule in rules:
        match = rule["match"]
        fits = path == match["path"] if "path" in match else path.startswith(match["prefix"])
        if fits and all(
            header["name"] in given and ("present_match" in header or given[header["name"]] == header["string_match"]["exact"])
            for header in match.get("headers", [])
        ):
            return rule
    raise AssertionError("no rule fits")


def test_the_weights_are_those_of_the_backends_that_are_ready() -> None:
    def weights(*backends: tuple[str, int, list[str]]) -> dict[str, int]:
        rule = answering(table(route(*backends)), "POST", "/endpoints/team/digits/score")
        return {one["name"].split("/")[2]: one["weight"] for one in rule["route"]["weighted_clusters"]["clusters"]}

    assert weights(("blue", 90, ["/s/1"]), ("green", 10, ["/s/3"])) == {"blue": 90, "green": 10}
    assert weights(("blue", 90, ["/s/1"]), ("green", 10, [])) == {"blue": 90}
    assert weights(("blue", 100, ["/s/1"]), ("green", 0, ["/s/3"])) == {"blue": 100}


def test_a_header_picks_a_deployment_even_without_traffic() -> None:
    rules = table(route(("blue", 100, ["/s/1"]), ("green", 0, ["/s/3"])))
    for deployment in ("blue", "green"):
        rule = answering(rules, "POST", "/endpoints/team/digits/score", {"azureml-model-deployment": deployment})
        assert [one["name"] for one in rule["route"]["weighted_clusters"]["clusters"]] == [f"ws-0123456789ab/digits/{deployment}"]
    missing = answering(rules, "POST", "/endpoints/team/digits/score", {"azureml-model-deployment": "red"})
    assert missing["direct_response"]["status"] == 404


def test_every_rule_of_an_endpoint_asks_for_its_keys() -> None:
    rules = table(TWO)
    for rule in rules[:-1]:
        rbac = rule["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]["rules"]
        assert rbac["action"] == "ALLOW"
        principals = rbac["policies"]["key"]["principals"]
        assert [principal["header"]["string_match"]["exact"] for principal in principals] == [f"Bearer {key}" for key in KEYS]
    assert rules[-1]["match"] == {"prefix": "/"}
    assert rules[-1]["direct_response"]["status"] == 404


def test_an_endpoint_without_keys_lets_nobody_in() -> None:
    for rule in table(replace(TWO, keys=()))[:-1]:
        assert rule["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]["rules"] == {"action": "ALLOW", "policies": {}}


def test_without_traffic_or_replicas_the_answer_is_503_with_a_sentence() -> None:
    for backends, word in (((), "traffic"), ((("blue", 0, ["/s/1"]),), "traffic"), ((("blue", 100, []),), "ready")):
        rule = answering(table(route(*backends)), "POST", "/endpoints/team/digits/score")
        assert rule["direct_response"]["status"] == 503
        assert word in rule["direct_response"]["body"]["inline_string"]


def test_the_key_goes_no_further_than_the_gateway() -> None:
    assert routes_response([TWO])["resources"][0]["request_headers_to_remove"] == ["authorization"]
    assert not any(key in json.dumps(clusters_response([TWO])) for key in KEYS)


def test_the_version_changes_with_the_content_and_with_nothing_else() -> None:
    again = route(("green", 10, ["/s/3"]), ("blue", 90, ["/s/2", "/s/1"]))
    assert routes_response([TWO])["version_info"] == routes_response([again])["version_info"]
    assert clusters_response([TWO])["version_info"] == clusters_response([again])["version_info"]
    assert routes_response([replace(TWO, keys=KEYS[:1])])["version_info"] != routes_response([TWO])["version_info"]
    assert clusters_response([route(("blue", 1, ["/s/9"]))])["version_info"] != clusters_response([TWO])["version_info"]


def test_a_deployment_is_one_cluster_of_its_replicas() -> None:
    clusters = named(clusters_response([TWO]))
    assert set(clusters) == {"ws-0123456789ab/digits/blue", "ws-0123456789ab/digits/green"}
    lots = clusters["ws-0123456789ab/digits/blue"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [one["endpoint"]["address"]["pipe"]["path"] for one in lots] == ["/s/1", "/s/2"]
    empty = replace(TWO, backends=(Backend(deployment="blue", weight=1, addresses=()),))
    assert named(clusters_response([empty])) == {}


def test_endpoints_of_two_workspaces_share_no_cluster() -> None:
    other = replace(TWO, workspace=WorkspaceId("ws-other"), workspace_name="other")
    assert len(named(clusters_response([TWO, other]))) == 4


def test_the_admin_interface_is_a_socket_for_its_user_only() -> None:
    told = bootstrap(Files(Path("/data/gateway")), host="127.0.0.1", port=8322, body_bytes_max=1)
    assert told["admin"]["address"]["pipe"] == {"path": "/data/gateway/xds/admin.sock", "mode": 0o600}
    (listener,) = told["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8322}

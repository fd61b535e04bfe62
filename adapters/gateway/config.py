"""What Envoy is told, as pure functions: a bootstrap that never changes while it runs, and the two files that do.

The routes come by RDS, so that a new weight or key holds for the next request of every open connection (a changed listener
would serve old connections by the old rules until they drain). The clusters come by CDS. Both are `DiscoveryResponse` files whose
version is the hash of what is in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.gateway.refusals import local_replies, refusal
from core.ports import Backend, Route

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy"
ROUTE_CONFIG = "scoring"
CERTIFICATE = "gateway"
DEPLOYMENT_HEADER = "azureml-model-deployment"
NOT_RUN_HEADER = "x-foldline-not-run"
"""A worker's answer carries it when the script never saw the request, so that it may go to another replica."""
TIMEOUT_SLACK_SECONDS = 0.25
"""The worker, which knows why, gets to answer first."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where Envoy looks; each watched file lies in a folder of its own, into which it is renamed."""

    folder: Path

    @property
    def routes(self) -> Path:
        return self.folder / "xds" / "routes" / "routes.json"

    @property
    def clusters(self) -> Path:
        return self.folder / "xds" / "clusters" / "clusters.json"

    @property
    def secrets(self) -> Path:
        return self.folder / "xds" / "secrets" / "secrets.json"

    @property
    def bootstrap(self) -> Path:
        return self.folder / "xds" / "bootstrap.json"

    @property
    def admin(self) -> Path:
        return self.folder / "xds" / "admin.sock"


def bootstrap(files: Files, *, host: str, port: int, body_bytes_max: int, tls: bool = False) -> Json:
    return {
        "node": {"id": "foldline-gateway", "cluster": "foldline"},
        "admin": {"address": {"pipe": {"path": str(files.admin), "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _watched(files.clusters)},
        "static_resources": {"listeners": [_listener(files, host, port, body_bytes_max, tls)]},
        "overload_manager": {
            "resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": 8192,
                },
            }],
        },
    }


def routes_response(routes: Sequence[Route]) -> Json:
    """The whole route table; the first match counts, and what nothing matches is 404."""
    table = [rule for route in sorted(routes, key=_name) for rule in _rules(route)]
    unknown = {"match": {"prefix": "/"}, **refusal(404, "There is no such endpoint; addresses are /endpoints/WORKSPACE/ENDPOINT/score.")}
    return _response([{
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTE_CONFIG,
        "virtual_hosts": [{"name": "endpoints", "domains": ["*"], "routes": [*table, unknown]}],
        "request_headers_to_remove": ["authorization"],
        "response_headers_to_remove": [NOT_RUN_HEADER],
        "max_direct_response_body_size_bytes": 4096,
    }])


def clusters_response(routes: Sequence[Route]) -> Json:
    return clusters_of({
        _cluster_name(route, backend): _cluster(_cluster_name(route, backend), backend.addresses)
        for route in routes for backend in route.backends if backend.addresses
    })


def secrets_response(certificate: str, key: str) -> Json:
    """The gateway's certificate with its key (PEM); a renewed one holds for new connections, without a restart."""
    pair = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    return _response([{"@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.Secret", "name": CERTIFICATE, "tls_certificate": pair}])


def clusters_of(clusters: Mapping[str, Json]) -> Json:
    return _response([clusters[name] for name in sorted(clusters)])


def named(response: Json) -> dict[str, Json]:
    """The resources of a response by their names."""
    return {resource["name"]: resource for resource in response.get("resources", [])}


def _rules(route: Route) -> list[Json]:
    score, health = f"/endpoints/{route.workspace_name}/{route.endpoint}/score", f"/endpoints/{route.workspace_name}/{route.endpoint}/"
    post, get = _header(":method", exact="POST"), _header(":method", exact="GET")
    rules: list[Json] = []
    for backend in _sorted(route):
        chosen = _header(DEPLOYMENT_HEADER, exact=backend.deployment)
        unready = _not_ready(f"The deployment {backend.deployment!r} has no replica ready.")
        target = _to(route, [backend], [1]) if backend.addresses else unready
        rules += [_rule(route, score, [post, chosen], target, "/score"), _rule(route, health, [get, chosen], target, "/")]
    missing = refusal(404, "The endpoint has no such deployment as the header azureml-model-deployment names.")
    any_named = _header(DEPLOYMENT_HEADER)
    target = _shared(route)
    return [
        *rules,
        _rule(route, score, [post, any_named], missing), _rule(route, health, [get, any_named], missing),
        _rule(route, score, [post], target, "/score"), _rule(route, health, [get], target, "/"),
        _rule(route, score, [], refusal(405, "Send the data with POST.", ("allow", "POST"))),
        _rule(route, health, [], refusal(405, "This path answers GET; data go to ./score with POST.", ("allow", "GET"))),
    ]


def _shared(route: Route) -> Json:
    """By the weights, among the deployments that have a replica ready."""
    ready = [backend for backend in _sorted(route) if backend.weight > 0 and backend.addresses]
    if ready:
        return _to(route, ready, [backend.weight for backend in ready])
    if any(backend.weight > 0 for backend in route.backends):
        return _not_ready("No replica of the endpoint's deployments is ready.")
    return _not_ready("The endpoint has no deployment with traffic; set it with `foldline online-endpoint update --traffic NAME=100`.")


def _not_ready(detail: str) -> Json:
    return refusal(503, detail, ("retry-after", "1"))


def _to(route: Route, backends: Sequence[Backend], weights: Sequence[int]) -> Json:
    seconds = route.timeout_seconds + TIMEOUT_SLACK_SECONDS
    return {"route": {
        "weighted_clusters": {"clusters": [
            {
                "name": _cluster_name(route, backend), "weight": weight,
                "response_headers_to_add": [_added(DEPLOYMENT_HEADER, backend.deployment)],
            }
            for backend, weight in zip(backends, weights, strict=True)
        ]},
        "timeout": f"{seconds:.3f}s",
        "idle_timeout": f"{seconds + 5:.3f}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-headers",
            "retriable_headers": [_header(NOT_RUN_HEADER)],
            "num_retries": 3,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }],
            "host_selection_retry_max_attempts": 50,  # a dead replica has the fewest requests and is picked again and again
            "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
        },
    }}


def _rule(route: Route, path: str, headers: list[Json], target: Json, rewrite: str | None = None) -> Json:
    checks = {"envoy.filters.http.rbac": _keys(route)}
    rule: Json = {"match": {"path": path, "headers": headers}, **target, "typed_per_filter_config": checks}
    if rewrite is not None and "route" in target:
        rule["route"] = {**target["route"], "prefix_rewrite": rewrite}
    return rule


def _keys(route: Route) -> Json:
    """Only who brings one of the keys comes through; without keys nobody does."""
    principals = [{"header": _header("authorization", exact=f"Bearer {key}")} for key in route.keys]
    policies = {"key": {"permissions": [{"any": True}], "principals": principals}} if principals else {}
    return {"@type": f"{_TYPE}.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": {"rules": {"action": "ALLOW", "policies": policies}}}


def _cluster(name: str, addresses: Sequence[str]) -> Json:
    """Replicas on Unix sockets. One that cannot be reached is left out for a while; what a script answers never is a reason."""
    room = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 1024}
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": address}}}} for address in sorted(addresses)
        ]}]},
        "circuit_breakers": {"thresholds": [room]},
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3, "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_consecutive_5xx": 0, "enforcing_consecutive_gateway_failure": 0, "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0, "interval": "1s", "base_ejection_time": "2s", "max_ejection_time": "30s",
            "max_ejection_percent": 50,
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
            },
        },
    }


def _listener(files: Files, host: str, port: int, body_bytes_max: int, tls: bool) -> Json:
    chain: Json = {"filters": [{
        "name": "envoy.filters.network.http_connection_manager", "typed_config": _connection_manager(files, body_bytes_max),
    }]}
    if tls:
        chain["transport_socket"] = _tls(files)
    return {
        "name": "scoring",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [chain],
    }


def _tls(files: Files) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["http/1.1"],
                "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": _watched(files.secrets)}],
            },
        },
    }


def _connection_manager(files: Files, body_bytes_max: int) -> Json:
    return {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": ROUTE_CONFIG,
        "codec_type": "HTTP1",
        "server_name": "foldline",
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _watched(files.routes)},
        "http_filters": [
            _filter("rbac", "rbac.v3.RBAC"),
            _filter("buffer", "buffer.v3.Buffer", max_request_bytes=body_bytes_max),
            _filter("router", "router.v3.Router", suppress_envoy_headers=True),
        ],
        # a caller on loopback counts as internal: its x-envoy-* headers would set timeouts and retries
        "early_header_mutation_extensions": [{
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}],
            },
        }],
        "use_remote_address": True,
        "skip_xff_append": True,
        "internal_address_config": {"unix_sockets": False},
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": 60,
        "common_http_protocol_options": {"idle_timeout": "300s", "max_headers_count": 100},
        "request_headers_timeout": "10s",
        "request_timeout": "60s",
        "stream_idle_timeout": "300s",
        "local_reply_config": local_replies(),
    }


def _filter(name: str, type_name: str, **fields: Any) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.{type_name}", **fields}}


def _watched(file: Path) -> Json:
    return {
        "path_config_source": {"path": str(file), "watched_directory": {"path": str(file.parent)}},
        "resource_api_version": "V3",
        "initial_fetch_timeout": "5s",
    }


def _header(name: str, *, exact: str | None = None) -> Json:
    return {"name": name, "present_match": True} if exact is None else {"name": name, "string_match": {"exact": exact}}


def _added(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _response(resources: list[Json]) -> Json:
    version = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:24]
    return {"version_info": version, "resources": resources}


def _sorted(route: Route) -> list[Backend]:
    return sorted(route.backends, key=lambda backend: backend.deployment)


def _name(route: Route) -> tuple[str, str]:
    return route.workspace_name, route.endpoint


def _cluster_name(route: Route, backend: Backend) -> str:
    return f"{route.workspace}/{route.endpoint}/{backend.deployment}"

"""The description of the API, made from the routes themselves, so that it cannot say what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adapters.http.access import Who
from adapters.http.routing import Route
from foldline.wire.shapes import Problem

COMPONENTS = "#/components/schemas/{model}"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def describe(routes: Sequence[tuple[Route, tuple[Who, ...]]], version: str) -> bytes:
    """OpenAPI 3.1 as JSON."""
    shapes, definitions = _schemas(route for route, _ in routes)
    paths: dict[str, dict[str, Any]] = {}
    for route, who in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, who, shapes)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Foldline", "version": version,
            "description": (
                "Errors are problem+json with a stable `code`. Lists take `limit` and an opaque `cursor`. Writes take `Idempotency-Key` "
                "(the same key and request is answered again and done once) and `If-Match`. A write answers `Foldline-Position`; a read "
                "that sends it back sees that write."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": definitions, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "Why not", "content": {"application/problem+json": {"schema": shapes[Problem]}},
            }},
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _schemas(routes: Iterable[Route]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Model -> reference to its schema, and all schemas."""
    inputs: set[Any] = set()
    outputs: set[Any] = {Problem}
    for route in routes:
        if route.body is not None:
            inputs.add(route.body)
        if isinstance(route.answer, type) and issubclass(route.answer, BaseModel):
            outputs.add(route.answer)
    wanted: list[tuple[Any, Any]] = [(model, "validation") for model in inputs] + [(model, "serialization") for model in outputs]
    wanted.sort(key=lambda one: (one[0].__name__, one[1]))
    references, document = models_json_schema(wanted, ref_template=COMPONENTS)
    return {model: schema for (model, _), schema in references.items()}, document.get("$defs", {})


def _operation(route: Route, who: tuple[Who, ...], shapes: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identifier(route), "summary": route.summary, "tags": [_tag(route.path)], "x-roles": list(who),
        "parameters": _parameters(route), "responses": _responses(route, shapes), "security": [] if "public" in who else [{"bearer": []}],
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": shapes[route.body]}}}
    elif route.raw is not None:
        media = "application/octet-stream" if route.raw == "*/*" else route.raw
        operation["requestBody"] = {"required": True, "content": {media: {"schema": {"type": "string", "format": "binary"}}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", route.path)
    ]
    found += [{"name": name, "in": "query", "required": False, "schema": text} for name in route.query]
    found += [{"name": name, "in": "query", "required": False, "schema": {"type": "array", "items": text}} for name in route.repeated]
    if route.method in UNSAFE:
        found.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255}})
    return found


def _responses(route: Route, shapes: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if route.answer is not None:
        good["content"] = {route.produces: {"schema": shapes.get(route.answer, {})}}
    elif route.status != 204:
        good["content"] = {route.produces: {"schema": {"type": "string"}}}
    return {str(route.status): good, "default": {"$ref": "#/components/responses/Problem"}}


def _tag(path: str) -> str:
    parts = [part for part in path.split("/")[1:] if part not in ("api", "v1", "workspaces", "{workspace}")]
    return parts[0] if parts else "workspaces"


def _identifier(route: Route) -> str:
    words = [part.strip("{}").replace("-", "_").replace(".", "_") for part in route.path.split("/")[1:] if part not in ("api", "v1")]
    return "_".join([route.method.lower(), *words])

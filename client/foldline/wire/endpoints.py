"""Real-time endpoints and deployments, under Azure's names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from foldline.wire.jobs import EnvironmentInline, EnvironmentReference
from foldline.wire.shapes import Answer, EnvironmentVariables, LongText, Name, Request, Sha256, Tags


class EndpointCreate(Request):
    name: Name
    auth_mode: Literal["key"] = "key"
    description: LongText | None = None
    tags: Tags = {}


class EndpointUpdate(Request):
    traffic: Annotated[dict[Name, Annotated[int, Field(ge=0, le=100)]], Field(max_length=64)]


class DeploymentPut(Request):
    """`PUT /online-endpoints/{e}/deployments/{d}`: creates it or its next revision."""

    model: Name
    model_version: Annotated[int, Field(ge=1)] | None = None
    code: Sha256
    scoring_script: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    environment: EnvironmentInline | EnvironmentReference
    environment_variables: EnvironmentVariables = {}
    instance_count: Annotated[int, Field(ge=1, le=64)] = 1
    request_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 60_000
    max_concurrent_requests_per_instance: Annotated[int, Field(ge=1, le=1024)] = 32
    target: Literal["server", "local"] = "server"
    all_traffic: bool = False
    create_only: bool = False


class Deployment(Answer):
    name: str
    endpoint: str
    provisioning_state: str
    """creating | updating | succeeded | failed"""
    revision: int
    model: str
    model_version: int
    scoring_script: str
    instance_count: int
    replicas_ready: int
    target: str
    message: str | None = None
    """Why the last revision failed."""
    log_tail: list[str] = []
    created_at: datetime


class Endpoint(Answer):
    name: str
    scoring_uri: str
    auth_mode: str
    description: str | None = None
    tags: dict[str, str] = {}
    traffic: dict[str, int]
    deployments: list[Deployment]
    provisioning_state: str
    created_at: datetime
    created_by: str


class Keys(Answer):
    primary_key: str
    secondary_key: str


class KeyRegenerate(Request):
    key_type: Literal["primary", "secondary"]

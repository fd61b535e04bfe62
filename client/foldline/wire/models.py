"""Models and environments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from foldline.wire.jobs import EnvironmentInline
from foldline.wire.shapes import Answer, LongText, Name, Request, Sha256, Tags, Text


class ModelCreate(Request):
    """Either `manifest` (files uploaded before) or `run` with `path` (a file or folder of the run's outputs)."""

    name: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    type: Literal["custom_model", "mlflow_model"] = "custom_model"
    description: LongText | None = None
    tags: Tags = {}
    manifest: Sha256 | None = None
    run: Name | None = None
    path: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None


class ModelUpdate(Request):
    description: LongText | None = None
    tags_set: Tags = {}
    tags_removed: Annotated[list[Text], Field(max_length=100)] = []


class ModelVersion(Answer):
    name: str
    version: int
    type: str
    description: str | None = None
    tags: dict[str, str] = {}
    files: int
    bytes: int
    manifest: str
    source_run: str | None = None
    source_path: str | None = None
    deployments: list[str] = []
    """`endpoint/deployment` of each deployment that uses it."""
    created_at: datetime
    created_by: str


class Model(Answer):
    name: str
    latest_version: int
    versions: int
    tags: dict[str, str] = {}
    """Of the latest version."""
    created_at: datetime
    updated_at: datetime


class EnvironmentCreate(Request):
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    description: LongText | None = None
    spec: EnvironmentInline


class Environment(Answer):
    name: str
    version: str
    key: str
    python: str
    packages: list[str]
    variables: dict[str, str] = {}
    image: str | None = None
    description: str | None = None
    created_at: datetime
    created_by: str

"""Jobs as they are submitted, runs as they are seen."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from foldline.wire.shapes import Answer, EnvironmentVariables, LongText, Name, Request, Sha256, Tags, Text

Status = Literal[
    "queued", "preparing", "running", "finalizing", "canceling", "preempted", "unreachable", "completed", "failed", "canceled",
]
FINAL: frozenset[str] = frozenset({"completed", "failed", "canceled"})
AZURE_STATUS = {
    "queued": "Queued", "preparing": "Preparing", "running": "Running", "finalizing": "Finalizing", "canceling": "CancelRequested",
    "preempted": "Queued", "unreachable": "NotResponding", "completed": "Completed", "failed": "Failed", "canceled": "Canceled",
}

Literals = Annotated[str, StringConstraints(max_length=32_768)] | bool | int | Annotated[float, Field(allow_inf_nan=False)]
Requirement = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class EnvironmentInline(Request):
    """An environment written into the job. `packages` are pip requirements; options (`-r`, `--index-url`) and paths are refused."""

    name: Name | None = None
    image: Annotated[str, StringConstraints(max_length=500)] | None = None
    python: Annotated[str, StringConstraints(pattern=r"^(\d+(\.\d+){0,2})?$")] = ""
    packages: Annotated[list[Requirement], Field(max_length=1000)] = []
    variables: EnvironmentVariables = {}


class EnvironmentReference(Request):
    """`azureml:NAME:VERSION` or `azureml:NAME@latest`; version None is the latest."""

    name: Name
    version: Annotated[str, StringConstraints(max_length=64)] | None = None


class OutputSpec(Request):
    type: Literal["uri_folder", "uri_file"] = "uri_folder"
    mode: Literal["rw_mount", "upload"] = "rw_mount"


class GitInfo(Request):
    repository: Annotated[str, StringConstraints(max_length=2000)] | None = None
    branch: Annotated[str, StringConstraints(max_length=500)] | None = None
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]
    dirty: bool


class JobCreate(Request):
    """`POST /workspaces/{w}/jobs`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$")] | None = None
    """The run's id; made up when absent."""
    display_name: Text | None = None
    description: LongText | None = None
    experiment_name: Name
    tags: Tags = {}
    command: Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
    snapshot: Sha256 | None = None
    code_path: Text | None = None
    compute: Name | None = None
    environment: EnvironmentInline | EnvironmentReference
    environment_variables: EnvironmentVariables = {}
    inputs: Annotated[dict[Name, Literals], Field(max_length=500)] = {}
    outputs: Annotated[dict[Name, OutputSpec], Field(max_length=100)] = {}
    time_limit_seconds: Annotated[float, Field(gt=0, le=365 * 86_400)] | None = None
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    retries_on_node_lost: Annotated[int, Field(ge=0, le=100)] = 0
    parent: Name | None = None
    git: GitInfo | None = None
    warnings: Annotated[list[Text], Field(max_length=20)] = []


class JobUpdate(Request):
    display_name: Text | None = None
    description: LongText | None = None
    tags_set: Tags = {}
    tags_removed: Annotated[list[Text], Field(max_length=100)] = []
    archived: bool | None = None


class MetricSummary(Answer):
    """Of one metric of one run. Values are floats; NaN and infinities are spelled `"NaN"`, `"Infinity"`, `"-Infinity"`."""

    key: str
    last: float | str
    min: float | str | None = None
    max: float | str | None = None
    last_step: int
    count: int


class Run(Answer):
    """A run as `job show` prints it."""

    name: str
    display_name: str | None = None
    description: str | None = None
    experiment_name: str
    status: str
    azure_status: str = ""
    why: str
    """One sentence: what the status means for this run, now."""
    compute: str
    node: str | None = None
    attempt: int = 0
    command: str
    inputs: dict[str, object] = {}
    outputs: dict[str, object] = {}
    environment: dict[str, object] = {}
    environment_variables: dict[str, str] = {}
    environment_lock: str | None = None
    snapshot: str | None = None
    code_path: str | None = None
    parameters: dict[str, str] = {}
    metrics: dict[str, float | str] = {}
    """Last value of each metric (`show` only; lists carry them too)."""
    tags: dict[str, str] = {}
    parent: str | None = None
    git: dict[str, object] | None = None
    warnings: list[str] = []
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    sandbox: str | None = None
    submitted_by: str
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    archived: bool = False
    output_files: int = 0
    output_bytes: int = 0
    curves_complete: bool | None = None
    """Whether every source's last batch has arrived; None while the run goes on."""


class RunCreated(Run):
    link: str = ""


class Point(Answer):
    """One bucket of a curve: its last value with the least and greatest in it, so that no spike is lost."""

    step: int
    time: datetime
    value: float | str
    min: float | str
    max: float | str


class Curve(Answer):
    key: str
    attempt: int
    points: list[Point]
    total: int
    complete: bool


class OutputFile(Answer):
    path: str
    bytes: int
    sha256: str


class Happening(Answer):
    """One line of a story: what happened, who did it, when, because of what."""

    sequence: int
    at: datetime
    actor: str
    actor_name: str | None = None
    type: str
    subject: str
    summary: str
    because: str | None = None
    """The event that caused it, `<type> #<sequence>`."""
    correlation: str | None = None
    event: dict[str, object] = {}

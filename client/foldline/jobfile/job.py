"""A command job's YAML → what is submitted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from foldline.jobfile import environment, expressions
from foldline.jobfile.document import BadFile, Node
from foldline.jobfile.fields import Fields, literal, scalar_text
from foldline.problems import BadInput, NotYet
from foldline.wire.jobs import EnvironmentReference, JobCreate

DATA_TYPES = frozenset({"uri_file", "uri_folder", "mltable"})
MODEL_TYPES = frozenset({"mlflow_model", "custom_model", "triton_model"})
LITERAL_TYPES = frozenset({"string", "number", "integer", "boolean"})
OTHER_JOBS = frozenset({"sweep", "pipeline", "parallel", "spark", "import", "automl", "finetuning", "distillation"})
WRITTEN_AS = {"time_limit_seconds": "limits", "slots": "resources", "code_path": "code"}
OUTPUT_TYPES = ("uri_folder", "uri_file")
OUTPUT_MODES = ("rw_mount", "upload")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job ready to be sent; `code` is the folder whose snapshot goes with it."""

    job: JobCreate
    code: Path | None

    @property
    def warnings(self) -> list[str]:
        return list(self.job.warnings)

    def body(self) -> dict[str, Any]:
        """What is sent: nothing that is null, but for the version of a referenced environment, which makes it a reference."""
        body = self.job.model_dump(mode="json", exclude_none=True)
        body["environment"].update(
            {"version": self.job.environment.version} if isinstance(self.job.environment, EnvironmentReference) else {}
        )
        return body


def plan(document: Node, folder: Path, name: str | None = None) -> JobPlan:
    """Reads a job. `folder` is where its paths begin; `name` overrides the job's own.

    Raises: NotYet for what Foldline does not have yet, before any path is looked at; BadFile for what is wrong, with file and line.
    """
    fields = Fields(document, "a command job")
    _refuse_what_is_not_there(fields)
    inputs = _inputs(fields)
    outputs = _outputs(fields)
    command_node = fields.require("command")
    command = expressions.checked(scalar_text(command_node, "command"), inputs, outputs, command_node.place)
    compute = _compute(fields)
    slots = _resources(fields)
    body: dict[str, Any] = {
        "name": fields.text("name"),
        "display_name": fields.text("display_name"),
        "description": fields.text("description"),
        "tags": fields.texts("tags"),
        "command": command,
        "compute": compute,
        "slots": slots,
        "inputs": inputs,
        "outputs": outputs,
        "environment_variables": fields.texts("environment_variables"),
        "time_limit_seconds": _timeout(fields),
        "retries_on_node_lost": fields.integer("retries_on_node_lost") or 0,
    }
    code_node, experiment = fields.take("code"), fields.text("experiment_name")
    environment_node = fields.require("environment")
    _refuse_remote_code(code_node)
    given = environment.read(environment_node, folder)
    fields.done()
    code = _code_folder(code_node, folder)
    body["environment"], body["warnings"] = given.body, given.warnings
    body["experiment_name"] = experiment or as_name((code or folder).name)
    body["code_path"] = _code_path(code_node)
    if name is not None:
        body["name"] = name
    return JobPlan(_validated(body, fields), code)


def as_name(text: str) -> str:
    """A folder's name as a name that Foldline takes."""
    cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    return re.sub(r"\.{2,}", ".", cleaned).strip(".-_")[:200] or "default"


def _refuse_what_is_not_there(fields: Fields) -> None:
    kind = fields.text("type", "command")
    if kind in OTHER_JOBS:
        raise NotYet(f"{kind} jobs", place=str(fields.place("type")))
    if kind != "command":
        raise BadFile(fields.place("type"), f"{kind!r} is no type of job.")
    fields.not_yet(
        distribution="distributed jobs (distribution)",
        services="interactive services (services)",
        identity="job identities (identity)",
        queue_settings="queue settings (queue_settings)",
        properties="job properties (properties)",
        parameters="job parameters (parameters)",
        parent_job_name="child jobs from a file (parent_job_name)",
        notification_setting="notifications (notification_setting)",
    )
    fields.ignore("$schema", "id", "status", "creation_context")


def _inputs(fields: Fields) -> dict[str, Any]:
    node = fields.take("inputs")
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        raise BadFile(node.place, "'inputs' must be a mapping of names to values.")
    kind = node.value.get("type")
    if kind is not None and kind.value in DATA_TYPES | MODEL_TYPES:
        raise NotYet(f"data inputs (type {kind.value})", place=str(kind.place))
    found = {name: _input(name, child) for name, child in node.value.items()}
    return {name: value for name, value in found.items() if value is not None}


def _input(name: str, node: Node) -> Any:
    if not isinstance(node.value, dict):
        return literal(node, f"inputs.{name}")
    fields = Fields(node, f"inputs.{name}")
    kind = fields.text("type", "uri_folder")
    if kind in MODEL_TYPES:
        raise NotYet(f"model inputs (type {kind})", place=str(fields.place("type")))
    if kind in DATA_TYPES:
        raise NotYet(f"data inputs (type {kind})", place=str(node.place))
    if kind not in LITERAL_TYPES:
        raise BadFile(node.place, f"{kind!r} is no type of input.")
    fields.ignore("description", "optional", "min", "max", "enum")
    value = fields.take("value") or fields.take("default")
    fields.ignore("default")
    fields.done()
    return None if value is None else _of_kind(literal(value, f"inputs.{name}"), str(kind), value)


def _of_kind(value: Any, kind: str, node: Node) -> Any:
    try:
        match kind:
            case "string":
                return str(value)
            case "integer":
                return int(value)
            case "number":
                return value if isinstance(value, int | float) and not isinstance(value, bool) else float(value)
            case _:
                if str(value).lower() not in ("true", "false", "1", "0"):
                    raise ValueError(value)
                return str(value).lower() in ("true", "1")
    except ValueError:
        raise BadFile(node.place, f"{value!r} is not of type {kind}.") from None


def _outputs(fields: Fields) -> dict[str, dict[str, str]]:
    node = fields.take("outputs")
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        raise BadFile(node.place, "'outputs' must be a mapping of names to outputs.")
    return {name: _output(name, child) for name, child in node.value.items()}


def _output(name: str, node: Node) -> dict[str, str]:
    if node.value is None:
        return {}
    fields = Fields(node, f"outputs.{name}")
    kind, mode = fields.text("type", "uri_folder"), fields.text("mode", "rw_mount")
    if kind not in OUTPUT_TYPES:
        raise NotYet(f"outputs of type {kind}", place=str(fields.place("type")))
    if mode not in OUTPUT_MODES:
        raise NotYet(f"outputs of mode {mode}", place=str(fields.place("mode")))
    fields.not_yet(path="outputs at a path of a datastore", name="outputs registered as data", version="outputs registered as data")
    fields.ignore("description")
    fields.done()
    return {"type": str(kind), "mode": str(mode)}


def _compute(fields: Fields) -> str | None:
    """The compute's name; None for the workspace's default."""
    text = fields.text("compute")
    bare = (text or "").removeprefix("azureml:")
    if bare in ("", "serverless"):
        return None
    if bare == "local":
        raise NotYet("runs on the submitter's own machine (compute: local)", place=str(fields.place("compute")))
    if "/" in bare:
        raise NotYet("computes given by a resource id", place=str(fields.place("compute")))
    return bare


def _resources(fields: Fields) -> int:
    node = fields.take("resources")
    if node is None:
        return 1
    resources = Fields(node, "resources")
    resources.not_yet(
        instance_type="resources.instance_type",
        docker_args="resources.docker_args",
        shm_size="resources.shm_size",
        properties="resources.properties",
        max_instance_count="resources.max_instance_count",
        locations="resources.locations",
    )
    if (resources.integer("instance_count") or 1) != 1:
        raise NotYet("jobs on several nodes (resources.instance_count)", place=str(resources.place("instance_count")))
    slots = resources.integer("slots") or 1
    resources.done()
    return slots


def _timeout(fields: Fields) -> float | None:
    node = fields.take("limits")
    if node is None:
        return None
    limits = Fields(node, "limits")
    limits.ignore("type")
    seconds = limits.number("timeout")
    limits.done()
    return seconds


def _refuse_remote_code(node: Node | None) -> None:
    if node is None:
        return
    text = scalar_text(node, "code")
    if text.startswith(("azureml:", "git+", "git://", "http://", "https://", "ssh://")):
        raise NotYet(f"code from an address ({text.partition(':')[0]}:)", place=str(node.place))


def _code_folder(node: Node | None, folder: Path) -> Path | None:
    if node is None:
        return None
    path = (folder / scalar_text(node, "code")).resolve()
    if not path.is_dir():
        raise BadFile(node.place, f"there is no code folder {path}.", code="no_folder")
    return path


def _code_path(node: Node | None) -> str | None:
    """The folder as the file names it; of an absolute path, which tells of this computer, the last name."""
    if node is None:
        return None
    text = scalar_text(node, "code")
    return (Path(text).name if Path(text).is_absolute() else text)[-250:] or "."


def _validated(body: dict[str, Any], fields: Fields) -> JobCreate:
    given = {key: value for key, value in body.items() if value is not None}
    try:
        return JobCreate.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        field = str(first["loc"][0])
        raise BadFile(fields.place(WRITTEN_AS.get(field, field)), f"{where}: {first['msg']}.", code="invalid") from None
    except ValueError as error:
        raise BadInput(f"The job cannot be sent: {error}.", code="invalid") from None

"""Azure's YAML of endpoints, models, environments and computes → what is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from foldline.jobfile import environment
from foldline.jobfile.document import BadFile, Node, Place
from foldline.jobfile.fields import Fields
from foldline.problems import NotYet

MODEL = re.compile(r"^(?:azureml:)?(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>[^:@/]+))?$")
JOB_PATH = re.compile(r"^azureml://jobs/(?P<run>[^/]+)/outputs/artifacts/paths/(?P<path>.+?)/?$")
RUN_PATH = re.compile(r"^runs:/(?P<run>[^/]+)/(?P<path>.+?)/?$")


def model_reference(text: str, place: Place) -> tuple[str, int | None]:
    """Name and version of `azureml:NAME:VERSION`; None is the latest. Raises: NotYet, BadFile."""
    if text.startswith("azureml://"):
        raise NotYet("models of a registry (azureml://registries/...)", place=str(place))
    found = MODEL.match(text)
    if found is None or (found["version"] or "1").isdecimal() is False:
        raise BadFile(place, f"{text!r} names no registered model; write azureml:NAME:VERSION or azureml:NAME@latest.")
    if found["label"] not in (None, "latest"):
        raise NotYet(f"model labels other than latest (@{found['label']})", place=str(place))
    return found["name"], int(found["version"]) if found["version"] else None


def endpoint(document: Node) -> dict[str, Any]:
    """name, auth_mode, description, tags, traffic."""
    fields = Fields(document, "an online endpoint")
    fields.ignore("$schema", "type", "id")
    fields.not_yet(
        identity="endpoint identities (identity)",
        mirror_traffic="mirrored traffic (mirror_traffic)",
        compute="endpoints on a cluster (compute)",
        public_network_access="public_network_access",
        properties="endpoint properties (properties)",
    )
    mode = fields.text("auth_mode", "key")
    if mode in ("aml_token", "aad_token"):
        raise NotYet(f"auth_mode {mode}", place=str(fields.place("auth_mode")))
    body = {
        "name": fields.text("name"),
        "auth_mode": mode,
        "description": fields.text("description"),
        "tags": fields.texts("tags"),
        "traffic": traffic(fields),
    }
    fields.done()
    return {key: value for key, value in body.items() if value}


def traffic(fields: Fields) -> dict[str, int]:
    found = {}
    for name, share in fields.texts("traffic").items():
        if not share.isdecimal() or int(share) > 100:
            raise BadFile(fields.place("traffic"), f"the traffic of {name!r} must be a whole number from 0 to 100.")
        found[name] = int(share)
    return found


def model(document: Node, folder: Path) -> dict[str, Any]:
    """name, version, type, description, tags; `path` (a local Path) or `run` and `run_path`."""
    fields = Fields(document, "a model")
    fields.ignore("$schema", "id", "creation_context")
    fields.not_yet(
        flavors="model flavors (flavors)",
        stage="model stages (stage)",
        properties="model properties (properties)",
        datastore="datastores",
    )
    version = fields.integer("version")
    body: dict[str, Any] = {
        "name": fields.text("name"),
        "version": version,
        "type": fields.text("type", "custom_model"),
        "description": fields.text("description"),
        "tags": fields.texts("tags"),
    }
    if body["type"] == "triton_model":
        raise NotYet("models of type triton_model", place=str(fields.place("type")))
    path = fields.take("path")
    fields.done()
    if path is not None:
        body |= model_source(str(path.value), folder, path.place)
    return {key: value for key, value in body.items() if value}


def model_source(text: str, folder: Path, place: Place) -> dict[str, Any]:
    """`path` for a local path; `run` and `run_path` for azureml://jobs/RUN/outputs/artifacts/paths/PATH and runs:/RUN/PATH."""
    found = JOB_PATH.match(text) or RUN_PATH.match(text)
    if found is not None:
        return {"run": found["run"], "run_path": found["path"]}
    if "://" in text or text.startswith("azureml:"):
        raise NotYet(f"models at an address ({text.partition(':')[0]}:)", place=str(place))
    return {"path": folder / text}


def environment_file(document: Node, folder: Path) -> tuple[dict[str, Any], environment.ReadEnvironment]:
    """name, version, description of an environment file, and its content."""
    fields = Fields(document, "an environment")
    head = {"name": fields.text("name"), "version": fields.text("version"), "description": fields.text("description")}
    return {key: value for key, value in head.items() if value}, environment.inline(fields, folder)


def compute(document: Node) -> tuple[dict[str, Any], list[str]]:
    """A compute cluster's settings under the wire's names, and what was left out of account."""
    fields = Fields(document, "a compute")
    fields.ignore("$schema", "id", "location", "tags", "provisioning_state")
    kind = fields.text("type", "amlcompute")
    if kind != "amlcompute":
        raise NotYet(f"computes of type {kind}", place=str(fields.place("type")))
    fields.not_yet(
        tier="compute tiers (tier)",
        identity="compute identities",
        network_settings="network settings",
        ssh_settings="SSH settings",
        ssh_public_access_enabled="ssh_public_access_enabled",
    )
    size = fields.text("size")
    body = {
        "name": fields.text("name"),
        "provider": fields.text("provider"),
        "min_instances": fields.integer("min_instances"),
        "max_instances": fields.integer("max_instances"),
        "slots_per_node": fields.integer("slots_per_node"),
        "idle_time_before_scale_down": fields.number("idle_time_before_scale_down"),
        "description": fields.text("description"),
    }
    fields.done()
    warnings = [f"size {size} means nothing here: nodes are the machines that you have."] if size else []
    return {key: value for key, value in body.items() if value is not None}, warnings

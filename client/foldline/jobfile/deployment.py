"""Azure's YAML of an online deployment → what is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldline.jobfile import environment
from foldline.jobfile.document import BadFile, Node
from foldline.jobfile.fields import Fields
from foldline.jobfile.resources import model_reference
from foldline.problems import NotYet


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """`body` has the shape of the wire's DeploymentPut, without `code`: that becomes the digest of the folder `code`."""

    endpoint: str
    name: str
    body: dict[str, Any]
    code: Path
    warnings: list[str]


def plan(document: Node, folder: Path, *, name: str | None = None, endpoint: str | None = None) -> DeploymentPlan:
    """Reads a deployment; `name` and `endpoint` override its own. Raises: NotYet, BadFile."""
    fields = Fields(document, "an online deployment")
    if (kind := fields.text("type", "managed")) not in ("managed", "kubernetes"):
        raise BadFile(fields.place("type"), f"{kind!r} is no type of online deployment.")
    fields.not_yet(
        egress_public_network_access="egress_public_network_access",
        data_collector="data collection (data_collector)",
        scale_settings="scaling of deployments (scale_settings)",
        app_insights_enabled="app_insights_enabled",
        resources="deployment resources",
    )
    instance_type = fields.text("instance_type")
    fields.ignore("$schema", "description", "tags", "properties", "id", *_probes(fields))
    body: dict[str, Any] = {"environment_variables": fields.texts("environment_variables")}
    body["instance_count"] = fields.integer("instance_count") or 1
    body |= _request_settings(fields)
    if (target := fields.text("target") or fields.text("compute")) is not None:
        body["target"] = _target(target, fields)
    model = fields.require("model")
    if not isinstance(model.value, str):
        raise NotYet("models written into a deployment; register the model and write azureml:NAME:VERSION", place=str(model.place))
    body["model"], body["model_version"] = model_reference(model.value, model.place)
    code_node, body["scoring_script"] = _code(fields)
    endpoint_name = endpoint or fields.text("endpoint_name")
    deployment_name = name or fields.text("name")
    fields.ignore("endpoint_name", "name")
    given = environment.read(fields.require("environment"), folder)
    body["environment"] = given.body
    fields.done()
    if not endpoint_name or not deployment_name:
        raise BadFile(fields.node.place, "a deployment needs `name` and `endpoint_name`.")
    code = (folder / code_node.value).resolve()
    if not code.is_dir():
        raise BadFile(code_node.place, f"there is no code folder {code}.", code="no_folder")
    if not (code / body["scoring_script"]).is_file():
        raise BadFile(code_node.place, f"there is no scoring script {body['scoring_script']} in {code}.", code="no_file")
    ignored = [f"instance_type {instance_type} means nothing here: replicas run on the machines that you have."] if instance_type else []
    body = {key: value for key, value in body.items() if value is not None}
    return DeploymentPlan(endpoint_name, deployment_name, body, code, [*given.warnings, *ignored])


def _probes(fields: Fields) -> tuple[str, ...]:
    """Probe timers: replicas are watched by the gateway, whatever these say."""
    names = ("liveness_probe", "readiness_probe")
    for name in names:
        fields.take(name)
    return names


def _request_settings(fields: Fields) -> dict[str, Any]:
    node = fields.take("request_settings")
    if node is None:
        return {}
    settings = Fields(node, "request_settings")
    settings.ignore("max_queue_wait_ms")
    found = {name: settings.integer(name) for name in ("request_timeout_ms", "max_concurrent_requests_per_instance")}
    settings.done()
    return {name: value for name, value in found.items() if value is not None}


def _target(text: str, fields: Fields) -> str:
    bare = text.removeprefix("azureml:")
    if bare not in ("server", "local"):
        place = fields.place("target" if "target" in fields else "compute")
        raise NotYet(f"deployments on a cluster or instance ({bare})", place=str(place))
    return bare


def _code(fields: Fields) -> tuple[Node, str]:
    node = fields.take("code_configuration")
    if node is None:
        raise NotYet("deployments without a scoring script (code_configuration)", place=str(fields.node.place))
    configuration = Fields(node, "code_configuration")
    code, script = configuration.require("code"), configuration.text("scoring_script")
    configuration.done()
    if not isinstance(code.value, str) or not script:
        raise BadFile(node.place, "code_configuration needs `code` (a folder) and `scoring_script` (a file in it).")
    if script.startswith("/") or ".." in script.split("/"):
        raise BadFile(configuration.place("scoring_script"), "scoring_script must lie inside the code folder.")
    return code, script

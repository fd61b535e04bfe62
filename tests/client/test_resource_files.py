"""Azure's YAML of deployments, endpoints, models and computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foldline.jobfile import deployment, resources
from foldline.jobfile.document import Place, from_python
from foldline.problems import BadInput, NotYet

SMALL: dict[str, Any] = {
    "name": "blue",
    "endpoint_name": "e",
    "model": "azureml:m:1",
    "code_configuration": {"code": ".", "scoring_script": "score.py"},
    "environment": {"image": "python"},
}


def plan(tmp_path: Path, **fields: Any) -> deployment.DeploymentPlan:
    (tmp_path / "score.py").write_text("def init(): ...\n")
    return deployment.plan(from_python({**SMALL, **fields}, "deployment.yml"), tmp_path)


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        ({"model": "azureml:m@latest"}, "model_version", None),
        ({"model": "m:3"}, "model_version", 3),
        ({"instance_count": 2}, "instance_count", 2),
        ({"request_settings": {"request_timeout_ms": 500, "max_queue_wait_ms": 1}}, "request_timeout_ms", 500),
        ({"request_settings": {"max_concurrent_requests_per_instance": 4}}, "max_concurrent_requests_per_instance", 4),
        ({"target": "local"}, "target", "local"),
        ({"environment_variables": {"A": 1}}, "environment_variables", {"A": "1"}),
        ({"liveness_probe": {"period": 1}, "type": "managed"}, "instance_count", 1),
    ],
)
def test_deployments_are_read(tmp_path: Path, fields: dict[str, Any], key: str, value: object) -> None:
    assert plan(tmp_path, **fields).body.get(key) == value


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"code_configuration": None}, "without a scoring script"),
        ({"model": {"path": "./model"}}, "models written into a deployment"),
        ({"model": "azureml://registries/x/models/m/versions/1"}, "models of a registry"),
        ({"model": "azureml:m@stable"}, "labels other than latest"),
        ({"scale_settings": {"type": "target_utilization"}}, "scaling of deployments"),
        ({"data_collector": {"a": 1}}, "data collection"),
        ({"target": "azureml:gpu-cluster"}, "on a cluster or instance"),
        ({"environment": {"image": "mcr.microsoft.com/x"}}, "images other than python"),
    ],
)
def test_what_deployments_have_not_got_yet_is_said(tmp_path: Path, fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(NotYet, match=feature):
        plan(tmp_path, **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nmae": "x"}, "no field 'nmae'"),
        ({"model": "azureml:m:newest"}, "no registered model"),
        ({"code_configuration": {"code": "nowhere", "scoring_script": "score.py"}}, "no code folder"),
        ({"code_configuration": {"code": ".", "scoring_script": "../score.py"}}, "inside the code folder"),
        ({"code_configuration": {"code": ".", "scoring_script": "other.py"}}, "no scoring script"),
        ({"code_configuration": {"code": "."}}, "needs `code`"),
        ({"endpoint_name": None}, "needs `name` and `endpoint_name`"),
        ({"instance_count": "many"}, "whole number"),
        ({"type": "magic"}, "no type of online deployment"),
    ],
)
def test_mistakes_in_deployments_are_told(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        plan(tmp_path, **fields)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("azureml://jobs/r-1/outputs/artifacts/paths/outputs/model/", {"run": "r-1", "run_path": "outputs/model"}),
        ("runs:/r-1/model", {"run": "r-1", "run_path": "model"}),
        ("model.bin", {"path": Path("/here/model.bin")}),
        ("../m", {"path": Path("/here/../m")}),
    ],
)
def test_models_come_from_runs_and_from_paths(text: str, source: dict[str, Any]) -> None:
    assert resources.model_source(text, Path("/here"), Place("model.yml")) == source


@pytest.mark.parametrize("text", ["azureml://datastores/a/paths/b", "https://host/m", "azureml:m:1"])
def test_models_at_other_addresses_are_not_yet_there(text: str) -> None:
    with pytest.raises(NotYet):
        resources.model_source(text, Path("/here"), Place("model.yml"))


def test_endpoints_models_and_computes_refuse_what_they_do_not_know() -> None:
    with pytest.raises(NotYet, match="auth_mode aml_token"):
        resources.endpoint(from_python({"name": "e", "auth_mode": "aml_token"}, "e.yml"))
    with pytest.raises(BadInput, match="traffic"):
        resources.endpoint(from_python({"name": "e", "traffic": {"blue": "all"}}, "e.yml"))
    with pytest.raises(NotYet, match="triton_model"):
        resources.model(from_python({"name": "m", "type": "triton_model", "path": "x"}, "m.yml"), Path("/"))
    with pytest.raises(NotYet, match="computes of type computeinstance"):
        resources.compute(from_python({"name": "c", "type": "computeinstance"}, "c.yml"))
    with pytest.raises(BadInput, match="no field 'max_nodes'"):
        resources.compute(from_python({"name": "c", "max_nodes": 3}, "c.yml"))

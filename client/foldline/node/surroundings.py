"""What a script finds around it: its command with the expressions filled in, and its variables (Azure's and MLflow's names)."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXPRESSION = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


class SurroundingsFailed(Exception):
    """`str()` is a sentence for the person who submitted the job."""


@dataclass(frozen=True, slots=True)
class Places:
    """Paths of one attempt, as the script sees them."""

    code: str
    home: str
    temporary: str
    spool: str
    environment: str
    package: str
    outputs: Mapping[str, str]


def command(text: str, inputs: Mapping[str, Any], outputs: Mapping[str, str], run: str) -> str:
    """The command with `${{inputs.x}}`, `${{outputs.x}}`, `${{name}}` filled in as they are, and `$[[...]]` parts kept or left out.

    Nothing is quoted, as in Azure: the job's author quotes where a shell needs it. Raises: SurroundingsFailed.
    """
    values = {f"inputs.{name}": _literal(value) for name, value in inputs.items() if value is not None}
    values |= {f"outputs.{name}": path for name, path in outputs.items()}
    values["name"] = run

    def optional(part: re.Match[str]) -> str:
        return part[1] if all(name in values for name in EXPRESSION.findall(part[1])) else ""

    def expression(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise SurroundingsFailed(f"The command names {found[0]}, which the job does not define.")
        return values[found[1]]

    return EXPRESSION.sub(expression, OPTIONAL.sub(optional, text))


def variables(
    assignment: Mapping[str, Any], places: Places, *, server: str, settings: Mapping[str, str],
) -> dict[str, str]:
    """The script's whole environment. `settings` are the node's (certificates, PIP_*, UV_*); the job's own come over them, ours last."""
    own: dict[str, str] = {
        "PYTHONUNBUFFERED": "1", "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **settings,
        **{str(name): str(value) for name, value in assignment.get("environment_variables", {}).items()},
    }
    path, python_path = own.get("PATH", "/usr/local/bin:/usr/bin:/bin"), own.get("PYTHONPATH", "")
    own |= {
        "PATH": f"{places.environment}/bin:{path}", "VIRTUAL_ENV": places.environment, "HOME": places.home, "TMPDIR": places.temporary,
        "USER": "foldline", "LOGNAME": "foldline", "PYTHONPATH": f"{places.package}:{python_path}" if python_path else places.package,
    }
    for name, folder in places.outputs.items():
        own[f"AZURE_ML_OUTPUT_{name}"] = folder
    for name, value in assignment.get("inputs", {}).items():
        own[f"AZURE_ML_INPUT_{name}"] = _literal(value)
    return own | _of_foldline(assignment, places, server) | _of_azure(assignment, server) | _of_mlflow(assignment, server)


def _of_foldline(assignment: Mapping[str, Any], places: Places, server: str) -> dict[str, str]:
    return {
        "FOLDLINE_RUN_ID": assignment["run"], "FOLDLINE_EXPERIMENT": assignment["experiment"],
        "FOLDLINE_ATTEMPT": str(assignment["attempt"]), "FOLDLINE_WORKSPACE": assignment["workspace_name"],
        "FOLDLINE_URL": server, "FOLDLINE_TOKEN": assignment["run_token"],
        "FOLDLINE_SPOOL": places.spool, "FOLDLINE_OUTPUTS": f"{places.code}/outputs",
        **({"TRACEPARENT": assignment["traceparent"]} if assignment.get("traceparent") else {}),
    }


def _of_azure(assignment: Mapping[str, Any], server: str) -> dict[str, str]:
    """One node: distributed jobs come with their own issue."""
    return {
        "AZUREML_RUN_ID": assignment["run"], "AZUREML_ROOT_RUN_ID": assignment.get("root") or assignment["run"],
        "AZUREML_EXPERIMENT_ID": assignment["experiment"], "AZUREML_EXPERIMENT_NAME": assignment["experiment"],
        "AZUREML_ARM_WORKSPACE_NAME": assignment["workspace_name"], "AZUREML_SERVICE_ENDPOINT": server,
        "AZUREML_NODE_COUNT": "1", "AZUREML_CR_NODE_RANK": "0", "AZ_BATCH_HOST_LIST": socket.gethostname(),
    }


def _of_mlflow(assignment: Mapping[str, Any], server: str) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": f"{server}/mlflow/{assignment['workspace_name']}", "MLFLOW_TRACKING_TOKEN": assignment["run_token"],
        "MLFLOW_RUN_ID": assignment["run"], "MLFLOW_EXPERIMENT_ID": assignment["experiment"],
        "MLFLOW_EXPERIMENT_NAME": assignment["experiment"],
    }


def _literal(value: object) -> str:
    return str(value)

"""Foldline's client. Importing it imports nothing else: training scripts do so in their first line.

- In a script: `log_metric(s)`, `log_param(s)`, `set_tag(s)`, `log_artifact`; `run_id`, `experiment`, `attempt`.
- From anywhere: `async with foldline.connect() as workspace: run = await workspace.jobs.submit("job.yml")`.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
"""As in `typing`, whose import takes longer than all else here."""

if TYPE_CHECKING:
    from foldline.client import Client as Client
    from foldline.client import Workspace as Workspace
    from foldline.client import connect as connect
    from foldline.problems import FoldlineError as FoldlineError
    from foldline.resources.runs import Run as Run
    from foldline.script import attempt as attempt
    from foldline.script import experiment as experiment
    from foldline.script import log_artifact as log_artifact
    from foldline.script import log_metric as log_metric
    from foldline.script import log_metrics as log_metrics
    from foldline.script import log_param as log_param
    from foldline.script import log_params as log_params
    from foldline.script import run_id as run_id
    from foldline.script import set_tag as set_tag
    from foldline.script import set_tags as set_tags

_WHERE = {
    "Client": "foldline.client",
    "Workspace": "foldline.client",
    "connect": "foldline.client",
    "FoldlineError": "foldline.problems",
    "Run": "foldline.resources.runs",
    "attempt": "foldline.script",
    "experiment": "foldline.script",
    "log_artifact": "foldline.script",
    "run_id": "foldline.script",
    "log_metric": "foldline.script",
    "log_metrics": "foldline.script",
    "log_param": "foldline.script",
    "log_params": "foldline.script",
    "set_tag": "foldline.script",
    "set_tags": "foldline.script",
}

__all__ = [
    "Client", "FoldlineError", "Run", "Workspace", "__version__", "attempt", "connect", "experiment", "log_artifact", "log_metric",
    "log_metrics", "log_param", "log_params", "run_id", "set_tag", "set_tags",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The attribute from the file it lives in, on first use (PEP 562)."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'foldline' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(where), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

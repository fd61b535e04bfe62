"""All read models: the only list of what there is."""

from __future__ import annotations

from typing import Any

from projections import (
    computes,
    endpoints,
    environments,
    experiments,
    journal,
    model_registry,
    nodes,
    run_history,
    run_logs,
    run_metrics,
    source_progress,
    users,
    workspaces,
)
from projections.readmodel import ReadModel

EVENT_MODELS: tuple[ReadModel[Any], ...] = (
    run_history.MODEL, experiments.MODEL, model_registry.MODEL, computes.MODEL, nodes.MODEL, endpoints.MODEL, environments.MODEL,
    workspaces.MODEL, users.MODEL, journal.MODEL,
)
MEASUREMENT_MODELS: tuple[ReadModel[Any], ...] = (run_metrics.MODEL, run_logs.MODEL, source_progress.MODEL)
READ_MODELS = EVENT_MODELS + MEASUREMENT_MODELS

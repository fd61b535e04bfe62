"""Experiments, given, when, then."""

from __future__ import annotations

from core import experiments
from core.errors import NotFound
from core.experiments import (
    ArchiveExperiment,
    CreateExperiment,
    ExperimentArchived,
    ExperimentCreated,
    ExperimentRestored,
    RestoreExperiment,
)
from tests.core.spec import spec

experiment = spec(experiments, "experiment/digits")


def test_an_experiment_is_made_archived_and_restored_once_each() -> None:
    made = experiment.when(CreateExperiment(experiment="digits")).then_once(ExperimentCreated(experiment="digits"))
    archived = made.when(ArchiveExperiment(experiment="digits")).then_once(ExperimentArchived(experiment="digits"))
    archived.when(RestoreExperiment(experiment="digits")).then_once(ExperimentRestored(experiment="digits"))


def test_an_experiment_that_no_run_named_is_not_there() -> None:
    experiment.when(ArchiveExperiment(experiment="digits")).then_rejected(NotFound, what="experiment")
    experiment.when(RestoreExperiment(experiment="digits")).then_rejected(NotFound, what="experiment")

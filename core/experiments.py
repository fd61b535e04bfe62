"""An experiment groups runs. Stream `experiment/<name>`; made the first time that a run names it (see `core.runs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.decider import Handler, Kind, one_stream
from core.errors import NotFound
from core.events import Event
from core.ids import Stream


# -- events ------------------------------------------------------------------------------------------------------------
class ExperimentCreated(Event):
    """The experiment exists."""

    type: Literal["experiment-created"] = "experiment-created"
    experiment: str


class ExperimentArchived(Event):
    """Hidden from lists; its runs stay."""

    type: Literal["experiment-archived"] = "experiment-archived"
    experiment: str


class ExperimentRestored(Event):
    type: Literal["experiment-restored"] = "experiment-restored"
    experiment: str


EVENTS = (ExperimentCreated, ExperimentArchived, ExperimentRestored)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoExperiment:
    """No run has named it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """In lists."""


@dataclass(frozen=True, slots=True)
class Archived:
    """Out of lists."""


Experiment = NoExperiment | Shown | Archived


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Experiment, event: Event) -> Experiment:
    match event:
        case ExperimentCreated() | ExperimentRestored():
            return Shown()
        case ExperimentArchived():
            return Archived()
        case _:
            return state


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateExperiment:
    experiment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveExperiment:
    experiment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreExperiment:
    experiment: str


# -- decide ------------------------------------------------------------------------------------------------------------
def create(state: Experiment, command: CreateExperiment) -> Sequence[Event]:
    return (ExperimentCreated(experiment=command.experiment),) if isinstance(state, NoExperiment) else ()


def archive(state: Experiment, command: ArchiveExperiment) -> Sequence[Event]:
    if isinstance(state, NoExperiment):
        raise NotFound("experiment", command.experiment)
    return (ExperimentArchived(experiment=command.experiment),) if isinstance(state, Shown) else ()


def restore(state: Experiment, command: RestoreExperiment) -> Sequence[Event]:
    if isinstance(state, NoExperiment):
        raise NotFound("experiment", command.experiment)
    return (ExperimentRestored(experiment=command.experiment),) if isinstance(state, Archived) else ()


def stream_of(experiment: str) -> Stream:
    return Stream(f"experiment/{experiment}")


KIND = Kind("experiment", NoExperiment(), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    one_stream(CreateExperiment, lambda c: stream_of(c.experiment), create),
    one_stream(ArchiveExperiment, lambda c: stream_of(c.experiment), archive),
    one_stream(RestoreExperiment, lambda c: stream_of(c.experiment), restore),
)

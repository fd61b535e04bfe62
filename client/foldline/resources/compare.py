"""Several runs side by side: parameters, last metrics, curves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foldline.answers import plain

if TYPE_CHECKING:
    from foldline.resources.runs import Run

METRICS_MAX = 6
SYSTEM_PREFIX = "system/"


@dataclass(frozen=True, slots=True)
class Line:
    """One run's curve of one metric."""

    run: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`parameters` and `metrics` go from a name to the value of each run that has it; `curves` from a metric to one line a run."""

    runs: tuple[str, ...]
    statuses: dict[str, str]
    parameters: dict[str, dict[str, str]]
    metrics: dict[str, dict[str, float]]
    curves: dict[str, tuple[Line, ...]]


async def compare(runs: Sequence[Run], *, metrics: Sequence[str] = (), buckets: int = 200) -> Comparison:
    """Asks for all that is needed. Without `metrics`: those of the script, at most METRICS_MAX curves, those with most steps first."""
    answers = {run.name: plain(run.answer) for run in runs}
    summaries = dict(zip(answers, await asyncio.gather(*(run.metrics() for run in runs)), strict=True))
    last: dict[str, dict[str, float]] = {}
    lengths: dict[str, int] = {}
    for name, found in summaries.items():
        for summary in plain(found):
            last.setdefault(summary["key"], {})[name] = float(summary["last"])
            lengths[summary["key"]] = max(lengths.get(summary["key"], 0), summary["count"])
    wanted = (
        list(metrics)
        or [k for k in sorted(last, key=lambda k: (-lengths[k], k)) if lengths[k] > 1 and not k.startswith(SYSTEM_PREFIX)][:METRICS_MAX]
    )
    curves = {key: tuple([await _line(run, key, buckets) for run in runs if run.name in last.get(key, {})]) for key in wanted}
    return Comparison(
        runs=tuple(answers),
        statuses={name: str(answer["status"]) for name, answer in answers.items()},
        parameters=_parameters(answers),
        metrics={k: v for k, v in sorted(last.items()) if k in metrics or not k.startswith(SYSTEM_PREFIX)},
        curves={key: lines for key, lines in curves.items() if lines},
    )


async def _line(run: Run, key: str, buckets: int) -> Line:
    points = plain(await run.curve(key, buckets=buckets))["points"]
    finite = [(float(p["step"]), float(p["value"])) for p in points if math.isfinite(float(p["value"]))]
    return Line(run.name, tuple(step for step, _ in finite), tuple(value for _, value in finite))


def _parameters(answers: dict[str, dict[str, object]]) -> dict[str, dict[str, str]]:
    """Logged parameters, and the job's literal inputs where no parameter has their name."""
    table: dict[str, dict[str, str]] = {}
    for name, answer in answers.items():
        logged = answer.get("parameters") or {}
        inputs = answer.get("inputs") or {}
        assert isinstance(logged, dict)  # noqa: S101 - narrows the wire's dictionary
        assert isinstance(inputs, dict)  # noqa: S101
        for key, value in {**inputs, **logged}.items():
            shown = value.get("literal", value.get("value")) if isinstance(value, dict) else value
            table.setdefault(str(key), {})[name] = str(shown)
    return table

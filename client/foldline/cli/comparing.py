"""`foldline job compare`: the table, the curves in the terminal, the PNG."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from foldline.cli.options import Common
from foldline.cli.output import show, table, wants_table
from foldline.cli.session import note
from foldline.problems import BadInput

if TYPE_CHECKING:
    from foldline.client import Workspace
    from foldline.resources.compare import Comparison

ATTACHED_AS = "outputs/comparison.png"


async def compare_runs(
    place: Workspace,
    names: tuple[str, ...],
    metrics: tuple[str, ...],
    png: Path | None,
    *,
    attach: bool,
    common: Common,
) -> None:
    """Prints the comparison; writes and attaches the picture where that is wanted. Raises: BadInput."""
    if len(set(names)) < 2:
        raise BadInput("Name at least two runs to compare: foldline job compare RUN RUN", code="usage")
    comparison: Comparison = await place.jobs.compare(list(dict.fromkeys(names)), metrics=metrics)
    if wants_table(common):
        sys.stdout.write(_tables(comparison))
        sys.stdout.write(await asyncio.to_thread(_curves, comparison))
        sys.stdout.flush()
    else:
        show(dataclasses.asdict(comparison), common)
    if png is not None or attach:
        await _picture(place, comparison, png, attach=attach)


def _tables(comparison: Comparison) -> str:
    runs = comparison.runs
    rows = [["", *runs], ["status", *(comparison.statuses[run] for run in runs)]]
    rows += [[f"parameter {key}", *(values.get(run, "-") for run in runs)] for key, values in sorted(comparison.parameters.items())]
    rows += [[f"metric {key}", *(_number(values.get(run)) for run in runs)] for key, values in comparison.metrics.items()]
    return table(rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _curves(comparison: Comparison) -> str:
    from foldline.plot.terminal import draw

    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    drawn = [draw(metric, lines, width=width, color=sys.stdout.isatty()) for metric, lines in comparison.curves.items()]
    return "".join(f"\n{picture}\n" for picture in drawn)


async def _picture(place: Workspace, comparison: Comparison, png: Path | None, *, attach: bool) -> None:
    from foldline.plot.chart import picture

    if not comparison.curves:
        raise BadInput("These runs have no curve to draw.", code="no_curves")
    data = await asyncio.to_thread(picture, comparison.curves)
    with tempfile.TemporaryDirectory(prefix="foldline-") as folder:
        file = png or Path(folder) / "comparison.png"
        await asyncio.to_thread(file.write_bytes, data)
        if png is not None:
            note(f"Curves drawn to {png}.")
        if attach:
            first = await place.jobs.get(comparison.runs[0])
            kept = await first.attach(file, ATTACHED_AS)
            note(f"Kept with run {first.name} as {kept.path}.")

"""One chart a metric, one line a run, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foldline.plot.png import Canvas, Color
from foldline.plot.scale import Scale, label, scale_of
from foldline.resources.compare import Line

WIDTH, CHART_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 360, 110, 30, 44, 64
COLORS: tuple[Color, ...] = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (23, 190, 207),
)  # fmt: skip
GRID, INK, FRAME = (226, 226, 226), (50, 50, 50), (120, 120, 120)
LETTER = 12
LEGEND_ROW = 22


def picture(curves: Mapping[str, Sequence[Line]]) -> bytes:
    """A PNG with one chart below the other. Lines of the same run have the same colour in each."""
    runs = list(dict.fromkeys(line.run for lines in curves.values() for line in lines))
    legend = LEGEND_ROW * len(runs) + 12
    canvas = Canvas(WIDTH, CHART_HEIGHT * max(1, len(curves)) + legend)
    for index, run in enumerate(runs):
        y = 10 + index * LEGEND_ROW
        canvas.box(LEFT, y + 4, 28, 6, _color(index))
        canvas.text(LEFT + 40, y, _cut(run, 60))
    for index, (metric, lines) in enumerate(curves.items()):
        _chart(canvas, legend + index * CHART_HEIGHT, metric, lines, runs)
    return canvas.png()


def _chart(canvas: Canvas, top: int, metric: str, lines: Sequence[Line], runs: Sequence[str]) -> None:
    across = scale_of([step for line in lines for step in line.steps], ticks=8)
    up = scale_of([value for line in lines for value in line.values])
    left, right = LEFT, WIDTH - RIGHT
    head, foot = top + TOP, top + CHART_HEIGHT - BOTTOM
    canvas.text(left, top + 14, _cut(metric, 60), INK)
    _axes(canvas, across, up, (left, head, right, foot))
    for line in lines:
        points = [
            (left + across.share(step) * (right - left), foot - up.share(value) * (foot - head))
            for step, value in zip(line.steps, line.values, strict=True)
        ]
        canvas.polyline(points, _color(runs.index(line.run)))


def _axes(canvas: Canvas, across: Scale, up: Scale, frame: tuple[int, int, int, int]) -> None:
    left, head, right, foot = frame
    for tick in up.ticks:
        y = round(foot - up.share(tick) * (foot - head))
        canvas.box(left, y, right - left, 1, GRID)
        words = label(tick)
        canvas.text(left - 10 - len(words) * LETTER, y - 7, words, INK)
    for tick in across.ticks:
        x = round(left + across.share(tick) * (right - left))
        canvas.box(x, foot, 1, 6, FRAME)
        words = label(tick)
        canvas.text(x - len(words) * LETTER // 2, foot + 12, words, INK)
    canvas.box(left, foot, right - left, 1, FRAME)
    canvas.box(left, head, 1, foot - head, FRAME)
    canvas.text((left + right) // 2 - 2 * LETTER, foot + 38, "step", FRAME)


def _color(index: int) -> Color:
    return COLORS[index % len(COLORS)]


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 3] + "..."

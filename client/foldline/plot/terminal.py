"""Curves in the terminal, drawn with braille dots: each character holds 2 × 4 of them."""

from __future__ import annotations

from collections.abc import Sequence

from foldline.plot.scale import label, tight
from foldline.resources.compare import Line

ANSI = ("\x1b[34m", "\x1b[33m", "\x1b[32m", "\x1b[31m", "\x1b[35m", "\x1b[36m")
PLAIN = "\x1b[0m"
MARKS = "●▲■◆▼★"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def draw(metric: str, lines: Sequence[Line], *, width: int = 72, height: int = 12, color: bool = False) -> str:
    """The curves of one metric, with axes and a legend; without colour, each curve's end bears the run's mark."""
    up = tight([value for line in lines for value in line.values])
    across = tight([step for line in lines for step in line.steps])
    names = [label(up.high), label((up.high + up.low) / 2), label(up.low)]
    margin = max(map(len, names)) + 1
    columns = max(10, width - margin - 1)
    cells: list[list[tuple[int, int]]] = [[(0, -1)] * columns for _ in range(height)]
    ends: dict[tuple[int, int], int] = {}
    for index, line in enumerate(lines):
        dots = [
            (across.share(step) * (columns * 2 - 1), (1 - up.share(value)) * (height * 4 - 1))
            for step, value in zip(line.steps, line.values, strict=True)
        ]
        for start, end in zip(dots, dots[1:] or dots, strict=False):
            _line(cells, start, end, index)
        if dots:
            ends[round(dots[-1][1]) // 4, round(dots[-1][0]) // 2] = index
    rows = []
    for y, row in enumerate(cells):
        name = names[0] if y == 0 else names[2] if y == height - 1 else names[1] if y == height // 2 else ""
        rows.append(f"{name:>{margin}}┤" + "".join(_cell(bits, owner, ends.get((y, x)), color) for x, (bits, owner) in enumerate(row)))
    low, high = label(across.low), label(across.high)
    rows.append(" " * margin + "└" + "─" * columns)
    rows.append(" " * (margin + 1) + low + high.rjust(columns - len(low)))
    legend = "   ".join(_painted(MARKS[i % len(MARKS)], i, color) + f" {line.run}" for i, line in enumerate(lines))
    return "\n".join([f"{metric} by step", *rows, " " * (margin + 1) + legend])


def _line(cells: list[list[tuple[int, int]]], start: tuple[float, float], end: tuple[float, float], index: int) -> None:
    """Sets the dots between two points."""
    steps = max(1, round(max(abs(end[0] - start[0]), abs(end[1] - start[1]))))
    for step in range(steps + 1):
        x = round(start[0] + (end[0] - start[0]) * step / steps)
        y = round(start[1] + (end[1] - start[1]) * step / steps)
        bits, _ = cells[y // 4][x // 2]
        cells[y // 4][x // 2] = (bits | _DOTS[y % 4][x % 2], index)


def _cell(bits: int, owner: int, end: int | None, color: bool) -> str:
    if end is not None:
        return _painted(MARKS[end % len(MARKS)], end, color)
    if not bits:
        return " "
    return _painted(chr(0x2800 + bits), owner, color)


def _painted(text: str, index: int, color: bool) -> str:
    return f"{ANSI[index % len(ANSI)]}{text}{PLAIN}" if color else text

"""Curves as a PNG that any reader takes, and as braille."""

from __future__ import annotations

import math
import struct
import zlib

import pytest

from foldline.plot.chart import COLORS, picture
from foldline.plot.png import Canvas
from foldline.plot.scale import label, scale_of, tight
from foldline.plot.terminal import draw
from foldline.resources.compare import Line

RISING = Line("slow", tuple(range(20)), tuple(1 - math.exp(-n / 5) for n in range(20)))
FLAT = Line("flat", tuple(range(20)), (0.5,) * 20)
ONE = Line("one", (3,), (0.25,))


def decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows, read as the specification says, every checksum checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds, data = 8, [], b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack(">I", png[at + 8 + size : at + 12 + size])
        assert checksum == zlib.crc32(kind + content)
        kinds.append(kind)
        data += content if kind == b"IDAT" else b""
        at += 12 + size
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    width, height, depth, color, *rest = struct.unpack(">IIBBBBB", png[16:29])
    assert (depth, color, rest) == (8, 2, [0, 0, 0])
    raw = zlib.decompress(data)
    assert len(raw) == height * (1 + width * 3)
    rows = [raw[y * (1 + width * 3) : (y + 1) * (1 + width * 3)] for y in range(height)]
    assert all(row[0] == 0 for row in rows)
    return width, height, [row[1:] for row in rows]


def colors(rows: list[bytes]) -> set[tuple[int, ...]]:
    return {tuple(row[at : at + 3]) for row in rows for at in range(0, len(row), 3)}


def test_a_chart_is_a_valid_png_with_a_colour_for_each_run() -> None:
    width, height, rows = decoded(picture({"accuracy": (RISING, FLAT), "loss": (FLAT, ONE)}))
    assert (width, height) == (960, 2 * 360 + 3 * 22 + 12)
    assert set(COLORS[:3]) <= colors(rows)
    assert COLORS[3] not in colors(rows)


@pytest.mark.parametrize("lines", [(ONE,), (FLAT,), (Line("x", (0, 1), (1e-9, 1e12)),), (Line("ü" * 300, (0, 1), (-5, 5)),)])
def test_odd_curves_are_drawn_too(lines: tuple[Line, ...]) -> None:
    decoded(picture({"metric <b>\n" * 30: lines}))
    assert draw("metric", lines)


def test_nothing_to_draw_is_an_empty_picture() -> None:
    decoded(picture({}))


def test_a_line_is_smooth_and_stays_on_the_canvas() -> None:
    canvas = Canvas(40, 20)
    canvas.polyline([(-50, -50), (90, 70)], (255, 0, 0))
    canvas.box(-5, -5, 8, 8, (0, 0, 255))
    canvas.text(30, 15, "Wide", (0, 0, 0))
    found = colors(decoded(canvas.png())[2])
    assert (255, 0, 0) in found
    assert (0, 0, 255) in found
    assert any(0 < green < 255 for _, green, _ in found)


def test_the_terminal_shows_each_run_s_end_its_range_and_its_name() -> None:
    drawn = draw("accuracy", (RISING, FLAT), width=60)
    lines = drawn.splitlines()
    assert lines[0] == "accuracy by step"
    assert "● slow" in lines[-1]
    assert "▲ flat" in lines[-1]
    assert any("●" in line for line in lines[1:-1])
    assert any("▲" in line for line in lines[1:-1])
    assert lines[-2].strip().split() == ["0", "19"]
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in drawn
    assert "\x1b[34m" in draw("accuracy", (RISING,), color=True)


def test_scales_have_round_steps() -> None:
    assert scale_of([0, 97]).ticks == (0, 20, 40, 60, 80, 100)
    assert [label(tick) for tick in scale_of([0.11, 0.18]).ticks] == ["0.1", "0.12", "0.14", "0.16", "0.18"]
    assert scale_of([5]).low < 5 < scale_of([5]).high
    assert scale_of([]).share(0.5) == 0.5
    assert tight([2, 4]).share(3) == 0.5


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.5, "0.5"), (1e-7, "1e-07"), (123456, "1.2e+05"), (2.0, "2"), (-0.25, "-0.25")])
def test_labels_are_short(value: float, text: str) -> None:
    assert label(value) == text

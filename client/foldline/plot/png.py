"""A small canvas that becomes a PNG: smooth lines, boxes and text. Pure Python, standard library only."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

from foldline.plot import font

Color = tuple[int, int, int]


class Canvas:
    """`width` × `height` pixels of 8-bit RGB, white at first; (0, 0) is the upper left."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._rows = [bytearray(b"\xff" * (width * 3)) for _ in range(height)]

    def box(self, left: int, top: int, width: int, height: int, color: Color) -> None:
        """A filled rectangle, cut to the canvas."""
        left, right = max(0, left), min(self.width, left + width)
        if right <= left:
            return
        stripe = bytes(color) * (right - left)
        for y in range(max(0, top), min(self.height, top + height)):
            self._rows[y][left * 3 : right * 3] = stripe

    def text(self, x: int, y: int, words: str, color: Color = (40, 40, 40), *, scale: int = 2) -> None:
        """`words` with their upper left at (x, y)."""
        for letter in words:
            for column, bits in enumerate(font.columns(letter)):
                for row in range(font.HEIGHT):
                    if bits >> row & 1:
                        self.box(x + column * scale, y + row * scale, scale, scale, color)
            x += font.WIDTH * scale

    def polyline(self, points: Sequence[tuple[float, float]], color: Color, *, thickness: float = 2.4) -> None:
        """A smooth line through the points; one point alone is a dot."""
        if len(points) == 1:
            self._segment(points[0], points[0], color, thickness + 2.0)
        for start, end in pairwise(points):
            self._segment(start, end, color, thickness)

    def png(self) -> bytes:
        """The picture as a PNG file's bytes."""
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        raw = b"".join(b"\x00" + bytes(row) for row in self._rows)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 6)) + _chunk(b"IEND", b"")

    def _segment(self, start: tuple[float, float], end: tuple[float, float], color: Color, thickness: float) -> None:
        """Blends every pixel by how much of it lies within half the thickness of the segment."""
        (x0, y0), (x1, y1) = start, end
        reach = thickness / 2 + 1
        dx, dy = x1 - x0, y1 - y0
        square = dx * dx + dy * dy
        for y in range(max(0, math.floor(min(y0, y1) - reach)), min(self.height, math.ceil(max(y0, y1) + reach) + 1)):
            for x in range(max(0, math.floor(min(x0, x1) - reach)), min(self.width, math.ceil(max(x0, x1) + reach) + 1)):
                along = 0.0 if square == 0 else min(1.0, max(0.0, ((x - x0) * dx + (y - y0) * dy) / square))
                cover = thickness / 2 + 0.5 - math.hypot(x - x0 - along * dx, y - y0 - along * dy)
                if cover > 0:
                    self._blend(x, y, color, min(1.0, cover))

    def _blend(self, x: int, y: int, color: Color, cover: float) -> None:
        row, at = self._rows[y], x * 3
        for channel in range(3):
            row[at + channel] = round(row[at + channel] * (1 - cover) + color[channel] * cover)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

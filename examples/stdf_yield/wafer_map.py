"""Wafer maps as one PNG: a square per die, green where it passed, a colour per soft bin where it failed.

In: wafers. Out: a PNG file. Called by: `job.py`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from .lot import Wafer

BACKGROUND, GOOD, INK = "#ffffff", "#3f8f6b", "#333333"
BINS = ["#c4553b", "#d9973a", "#7a5ea8", "#3f78b5", "#b0477f", "#8a6d3b", "#5f6b7a"]
MAP_PIXELS, MARGIN, LABEL = 260, 16, 18


def draw_maps(path: Path, wafers: list[Wafer], across: int = 5) -> None:
    """Write one picture with all maps, `across` in a row."""
    across = max(1, min(across, len(wafers)))
    rows = -(-len(wafers) // across)
    size = (across * (MAP_PIXELS + MARGIN) + MARGIN, rows * (MAP_PIXELS + LABEL + MARGIN) + MARGIN)
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    for place, wafer in enumerate(wafers):
        left = MARGIN + place % across * (MAP_PIXELS + MARGIN)
        top = MARGIN + place // across * (MAP_PIXELS + LABEL + MARGIN)
        _draw_map(draw, wafer, left, top)
    image.save(path, optimize=True)


def _draw_map(draw: ImageDraw.ImageDraw, wafer: Wafer, left: int, top: int) -> None:
    good = int(wafer.passed.sum())
    draw.text((left, top), f"{wafer.id}  {good}/{wafer.dies}  {good / max(wafer.dies, 1):.1%}", fill=INK)
    if not wafer.dies:
        return
    low_x, low_y = int(wafer.x.min()), int(wafer.y.min())
    cells = max(int(wafer.x.max()) - low_x, int(wafer.y.max()) - low_y) + 1
    side = MAP_PIXELS / cells
    for x, y, passed, number in zip(wafer.x, wafer.y, wafer.passed, wafer.soft_bin, strict=True):
        x0, y0 = left + (int(x) - low_x) * side, top + LABEL + (int(y) - low_y) * side
        colour = GOOD if passed else BINS[int(number) % len(BINS)]
        draw.rectangle((x0, y0, x0 + max(side - 1, 0), y0 + max(side - 1, 0)), fill=colour)

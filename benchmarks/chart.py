"""Horizontal bars as SVG, the same bytes for the same figures.

In: labels and values. Out: SVG text that is readable on light and dark pages. Called by: `page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

COLOURS = {"ours": "#1f77b4", "peer": "#8c8c8c", "earlier": "#c9c9c9", "ceiling": "#2f2f2f"}
WIDTH, LABEL, VALUE = 760, 230, 110
ROW, BAR, TOP = 24, 15, 34


class Bar(NamedTuple):
    """One bar; `span` is the range of the rounds, `kind` a key of COLOURS."""

    label: str
    value: float
    kind: str
    span: tuple[float, float] | None = None


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A chart; the longest bar, or the top of the widest range, takes the whole width."""
    most = max([1e-9, *(max(row.value, row.span[1] if row.span else 0) for row in rows)])
    scale = (WIDTH - LABEL - VALUE) / most
    height = TOP + ROW * len(rows) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="bold" fill="#222222">{escape(title)}</text>',
    ]
    for place, row in enumerate(rows):
        top = TOP + place * ROW
        middle = top + BAR / 2
        end = LABEL + row.value * scale
        parts.append(f'<text x="{LABEL - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#222222">{escape(row.label)}</text>')
        parts.append(f'<rect x="{LABEL}" y="{top}" width="{row.value * scale:.1f}" height="{BAR}" fill="{COLOURS[row.kind]}"/>')
        if row.span is not None and row.span[0] < row.span[1]:
            low, high = (LABEL + bound * scale for bound in row.span)
            parts.append(f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#d62728" stroke-width="2"/>')
            end = max(end, high)
        parts.append(f'<text x="{end + 6:.1f}" y="{middle + 4:.1f}" fill="#222222">{number(row.value)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def number(value: float) -> str:
    """A figure as people read it: thousands apart, three digits of the rest."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"

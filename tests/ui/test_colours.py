"""Colours of both themes: every state can be read on its ground, and good differs from bad for the colour-blind, too."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from wafermonitor.ui.render import source
from wafermonitor.ui.states import LOOKS

# Severe protanopia, deuteranopia and tritanopia in linear RGB: Machado, Oliveira and Fernandes 2009, table for severity 1.0.
BLIND = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
LEAST_APART = 11.0
"""CIE76 difference of two plain patches that people tell apart at a glance."""


def theme(name):
    text = source("colours.css")
    begin = text.index(':root[data-theme="dark"]')
    part = text[begin:] if name == "dark" else text[:begin]
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", part))


def linear(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one, other):
    bright, dark = sorted((0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in map(linear, (one, other))))[
        ::-1
    ]
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb):
    red, green, blue = (min(max(part, 0.0), 1.0) for part in rgb)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour, matrix):
    rgb = linear(colour)
    return lab([sum(weight * part for weight, part in zip(row, rgb, strict=True)) for row in matrix])


def apart(one, other, matrix):
    return sum((left - right) ** 2 for left, right in zip(seen(one, matrix), seen(other, matrix), strict=True)) ** 0.5


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_state_can_be_read_on_its_grounds(name):
    colours = theme(name)
    weak = [
        (key, ground)
        for key in LOOKS
        if not key.startswith("span")
        for ground in ("surface", "raised", f"{key}-soft")
        if contrast(colours[key], colours[ground]) < 4.5
    ]
    assert weak == []


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("name", ["light", "dark"])
def test_good_and_bad_differ_for_the_colour_blind(name, kind):
    colours = theme(name)
    pairs = [("success", "failure"), ("met", "missed"), ("met", "late"), ("expected", "missed"), ("critical", "info")]
    near = [pair for pair in pairs if apart(colours[pair[0]], colours[pair[1]], BLIND[kind]) < LEAST_APART]
    assert near == []


def test_states_of_the_calendar_have_a_shape_each():
    icons = source("icons.html")
    shapes = [
        re.search(f'id="i-{key}"[^>]*>(.*?)</symbol>', icons)[1]
        for key in ("met", "came-late", "late", "missed", "unknown", "expected")
    ]
    assert all(one != other for one, other in combinations(shapes, 2))

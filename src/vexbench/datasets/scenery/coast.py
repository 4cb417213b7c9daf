"""Seas, lakes, beaches and boats."""

import numpy as np

from vexbench.datasets.scenery.materials import (
    PAINT,
    ROOFS,
    SAND,
    SEA,
    SNOW,
    WATERS,
    pick,
)
from vexbench.datasets.scenery.painting import NOBODY, Colour, Painter, mix


def water(
    painter: Painter, top: float, depth: float, colours: tuple[Colour, Colour] | None = None, bottom: float = 1.02
) -> None:
    """Water from the horizon down: gradient, waves that grow towards the viewer, and the sun's glitter."""
    far, near = colours or WATERS[int(painter.random.integers(len(WATERS)))]
    far, near = mix(painter.tone(far, depth), painter.mood.horizon, 0.35), painter.tone(near, depth * 0.5)
    painter.shaded([(-0.02, top), (1.02, top), (1.02, bottom), (-0.02, bottom)], far, near, SEA)
    crest, trough = mix(near, painter.mood.horizon, 0.45), mix(near, (0.02, 0.08, 0.2), 0.25)
    for k, x in zip(np.linspace(0.04, 0.98, 26) ** 1.6, painter.random.random(26)):
        y, reach = top + (bottom - top) * float(k), 0.02 + 0.14 * float(k) * painter.between(0.4, 1.2)
        thick = 0.002 + 0.008 * float(k)
        painter.polygon(
            [(x - reach, y), (x, y - thick), (x + reach, y), (x, y + thick * 0.5)],
            crest if painter.chance(0.6) else trough,
            SEA,
        )
    if painter.mood.clear:
        sun_x, shine = 0.5 + painter.light * painter.between(0.1, 0.35), mix(far, painter.mood.sun, 0.75)
        for k in np.linspace(0.03, 0.75, 11):
            y, reach = top + (bottom - top) * float(k), (0.015 + 0.06 * float(k)) * painter.between(0.4, 1.2)
            painter.polygon(
                [(sun_x - reach, y), (sun_x, y - 0.004), (sun_x + reach, y), (sun_x, y + 0.005)], shine, SEA
            )


def lake(painter: Painter, x: float, y: float, rx: float, ry: float, depth: float) -> None:
    """Still water in the ground."""
    far, near = WATERS[int(painter.random.integers(len(WATERS)))]
    colour = mix(painter.tone(mix(far, near, 0.5), depth), painter.mood.horizon, 0.3)
    painter.ellipse(x, y, rx, ry, colour, SEA)
    for _ in range(4):
        dx, dy, reach = (
            painter.between(-0.4, 0.4) * rx,
            painter.between(-0.6, 0.6) * ry,
            painter.between(0.1, 0.35) * rx,
        )
        painter.polygon(
            [(x + dx - reach, y + dy), (x + dx, y + dy - 0.004), (x + dx + reach, y + dy), (x + dx, y + dy + 0.004)],
            mix(colour, painter.mood.horizon, 0.5),
            SEA,
        )


def beach(painter: Painter, y: float, slope: float) -> None:
    """Sand before the sea, with surf at its edge."""
    x = np.linspace(-0.02, 1.02, 20)
    line = y + slope * (x - 0.5) + 0.015 * np.sin(painter.between(8.0, 14.0) * x + painter.between(0.0, 6.0))
    sand, wet = painter.tone(SAND), painter.tone(mix(SAND, (0.35, 0.4, 0.42), 0.4))
    for offset, colour, owner in (
        (-0.03, painter.tone(SNOW), SEA),
        (-0.012, painter.tone(WATERS[1][0]), SEA),
        (0.0, painter.tone(SNOW), SEA),
        (0.012, wet, NOBODY),
    ):
        wave = line + offset + painter.random.standard_normal(20) * 0.003
        painter.polygon([*zip(x.tolist(), wave.tolist()), (1.02, 1.05), (-0.02, 1.05)], colour, owner)
    painter.shaded(
        [*zip(x.tolist(), (line + 0.05).tolist()), (1.02, 1.05), (-0.02, 1.05)], sand, mix(sand, (0.4, 0.3, 0.2), 0.15)
    )


def sail(painter: Painter, x: float, y: float, height: float) -> None:
    """A small boat."""
    white, hull = painter.tone(PAINT), painter.tone(pick(painter, ROOFS))
    painter.polygon([(x, y - height), (x, y - 0.15 * height), (x + 0.4 * height, y - 0.15 * height)], white, SEA)
    painter.polygon(
        [
            (x - 0.04 * height, y - 0.85 * height),
            (x - 0.04 * height, y - 0.15 * height),
            (x - 0.28 * height, y - 0.15 * height),
        ],
        mix(white, hull, 0.3),
        SEA,
    )
    painter.polygon(
        [
            (x - 0.35 * height, y - 0.12 * height),
            (x + 0.45 * height, y - 0.12 * height),
            (x + 0.3 * height, y),
            (x - 0.25 * height, y),
        ],
        hull,
        SEA,
    )

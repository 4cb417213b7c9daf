"""What lies in the foreground: streets, water, grass, paths, some trees."""

import numpy as np

from vexbench.datasets.scenery.coast import water
from vexbench.datasets.scenery.heights import hills
from vexbench.datasets.scenery.materials import (
    PAINT,
    PAVING,
    ROAD,
    STREET,
)
from vexbench.datasets.scenery.painting import Painter, hexed, mix
from vexbench.datasets.scenery.town import Avenue
from vexbench.datasets.scenery.woods import broadleaf, conifer


def forecourt(painter: Painter, foot: float, clutter: float) -> float:
    """What lies before a town: a street, water, or grass; return how far down trees can stand."""
    kind = painter.random.random()
    if kind < 0.35 * clutter:
        road = Avenue(painter, painter.between(0.2, 0.8), foot - 0.3, 0.75)
        tarmac, kerb = painter.tone(ROAD), painter.tone(PAVING)
        painter.polygon([(0.0, foot), (1.0, foot), (1.0, 1.05), (0.0, 1.05)], kerb, STREET)
        painter.shaded(
            [(0.0, foot + 0.03), (1.0, foot + 0.03), (1.0, 1.05), (0.0, 1.05)], mix(tarmac, kerb, 0.2), tarmac, STREET
        )
        start, y = painter.between(-0.2, 0.0), 0.5 * (foot + 1.03)
        for k in range(7):
            painter.box(start + 0.2 * k, y, start + 0.2 * k + 0.1, y + 0.012, painter.tone(PAINT), STREET)
        if painter.chance(0.5):
            road.car(painter.between(-0.6, 0.6), 1.2)
        return foot + 0.03
    if kind < 0.6 * clutter:
        water(painter, foot, 0.1)
        return foot + 0.02
    hills(painter, foot + 0.02, 0.02, 0.05)
    return 0.98


def country_road(painter: Painter, top: float) -> None:
    """A way that winds into the distance."""
    share = np.linspace(0, 1, 14)
    start, end, bend = painter.between(0.3, 0.7), painter.between(0.2, 0.8), painter.between(-0.2, 0.2)
    # near parts are wide, far windings lie close together
    middle = start + (end - start) * share + bend * np.sin(2 * np.pi * share**0.6) * share**0.8
    half, y = 0.008 + painter.between(0.1, 0.22) * share**1.8, top + (1.05 - top) * share
    colour = painter.tone(mix(ROAD, hexed("b09a78"), 0.0 if painter.chance(0.5) else 0.8))
    edges = np.concatenate([middle - half, (middle + half)[::-1]])
    outline = list(zip(edges.tolist(), np.concatenate([y, y[::-1]]).tolist()))
    painter.shaded(outline, mix(colour, painter.mood.haze, 0.4), colour, STREET)


def trees(painter: Painter, high: float, low: float, probability: float, most: int) -> None:
    """Some trees in the foreground."""
    if painter.chance(probability):
        kind = conifer if painter.chance(0.6) else broadleaf
        side = painter.chance(0.5)
        for base in sorted(painter.between(high, low) for _ in range(int(painter.random.integers(1, most + 1)))):
            x = painter.random.random()
            kind(
                painter,
                x * 0.35 + (0.65 if side else 0) if painter.chance(0.7) else x,
                base,
                painter.between(0.15, 0.45),
                0.05,
            )

"""The six kinds of scene, each in several layouts, with elements of the other kinds around the main one."""

from collections.abc import Callable

from vexbench.datasets.scenery.coast import beach, lake, sail, water
from vexbench.datasets.scenery.grounds import country_road, forecourt, trees
from vexbench.datasets.scenery.heights import hills, ice_front, iceberg, peak, ridge, rocks, snowfield, tongue
from vexbench.datasets.scenery.materials import (
    FOREST,
    ROCKS,
    pick,
)
from vexbench.datasets.scenery.painting import MOODS, Painter, hexed, mix
from vexbench.datasets.scenery.town import Avenue, house, palace, tower
from vexbench.datasets.scenery.woods import broadleaf, conifer, palm, treeline

Scene = Callable[[Painter, float], None]
"""Paints a scene; `clutter` scales how often, and how large, elements of the other classes appear."""


def buildings(painter: Painter, clutter: float) -> None:
    """Towers, a row of houses or a palace; trees, water, a road or peaks around them."""
    foot = painter.between(0.74, 0.92)
    painter.sky(foot)
    if painter.chance(0.2 * clutter):
        ridge(painter, foot - 0.05, painter.between(0.1, 0.35), 0.6, pick(painter, ROCKS))
    layout = painter.random.random()
    if layout < 0.55:
        for row, depth in enumerate((0.6, 0.3)):
            x = -0.05
            while x < 1:
                width = painter.between(0.05, 0.12)
                tower(painter, x, x + width, foot - painter.between(0.12, 0.4) - 0.05 * row, foot, depth)
                x += width * painter.between(0.9, 2.2)
        for _ in range(int(painter.random.integers(1, 5))):
            left, width = painter.between(-0.1, 0.85), painter.between(0.14, 0.36)
            tower(painter, left, left + width, painter.between(0.02, 0.45), foot, 0.0)
    elif layout < 0.8:
        x = painter.between(-0.1, 0.1)
        if painter.chance(0.5):
            treeline(painter, foot, painter.between(0.1, 0.3) * clutter, 0.35)
        while x < 1.05:
            width = painter.between(0.16, 0.34)
            house(painter, x + width / 2, foot, width * 0.96, painter.between(0.0, 0.1))
            x += width * painter.between(0.9, 1.2)
    else:
        if painter.chance(0.5):
            treeline(painter, foot - 0.04, painter.between(0.15, 0.4) * clutter, 0.35)
        top = painter.between(0.3, 0.5)
        palace(painter, painter.between(-0.1, 0.12), painter.between(0.85, 1.1), top, foot, 0.0)
        if painter.chance(0.4):
            tower(painter, 0.42, 0.58, top - painter.between(0.1, 0.25), top, 0.0)
    low = forecourt(painter, foot, clutter)
    trees(painter, foot + 0.01, low, 0.45 * clutter, 5)


def street(painter: Painter, clutter: float) -> None:
    """A road towards the horizon between houses, trees or fields."""
    x, y = painter.between(0.3, 0.7), painter.between(0.38, 0.62)
    painter.sky(y)
    if painter.chance(0.3 * clutter):
        ridge(painter, y + 0.04, painter.between(0.1, 0.3), 0.55, pick(painter, ROCKS))
    elif painter.chance(0.15 * clutter):
        water(painter, y - 0.01, 0.3, bottom=y + 0.2)
    hills(painter, y + 0.03, painter.between(0.0, 0.05), 0.3)
    painter.polygon(
        [(0.0, y + 0.02), (1.0, y + 0.02), (1.0, 1.05), (0.0, 1.05)], painter.tone(painter.mood.meadow, 0.05)
    )
    if painter.chance(0.3):
        treeline(painter, y + 0.03, painter.between(0.05, 0.15), 0.4)
    avenue = Avenue(painter, x, y, painter.between(0.8, 1.5))
    avenue.road()
    left, right = painter.chance(0.8), painter.chance(0.8)
    for side, built in ((-1.0, left), (1.0, right)):
        if built:
            avenue.facades(side, painter.between(1.45, 1.75), painter.between(0.6, 1.5))
        if painter.chance(0.55 if not built else 0.3):
            for away in (6.0, 4.2, 3.0, 2.1, 1.5):
                tree_x, base = avenue.at(side * painter.between(1.4, 1.9), 0.0, away)
                broadleaf(painter, tree_x, base, painter.between(0.5, 0.9) / away, min(0.08 * away, 0.5))
    for away in (5.0, 3.0, 1.8, 1.15):
        if painter.chance(0.5):
            avenue.lamp(1.0 if painter.chance(0.5) else -1.0, away)
        if painter.chance(0.45):
            avenue.car(
                painter.between(0.3, 0.6) * (1 if painter.chance(0.6) else -1), away * painter.between(1.0, 1.25)
            )


def forest(painter: Painter, clutter: float) -> None:
    """A wood from afar, at the edge of a meadow, or from within."""
    if painter.chance(0.35):
        _inside(painter, clutter)
        return
    y = painter.between(0.3, 0.5)
    painter.sky(y + 0.1)
    if painter.chance(0.45 * clutter):
        if painter.chance(0.5):
            peak(
                painter,
                painter.between(0.2, 0.8),
                y + 0.12,
                painter.between(0.7, 1.2),
                painter.between(0.2, 0.42),
                0.45,
                painter.between(0.0, 0.5),
                pick(painter, ROCKS),
            )
        else:
            ridge(painter, y + 0.1, painter.between(0.1, 0.3), 0.5, pick(painter, ROCKS))
    hills(painter, y + 0.14, 0.02, 0.5)
    for k in range(4):
        treeline(painter, y + 0.09 * (k + 1), painter.between(0.12, 0.2) * (1 + 0.35 * k), 0.6 - 0.17 * k)
    edge = painter.between(0.72, 0.95)
    hills(painter, y + 0.4, 0.05, 0.2)
    hills(painter, edge, 0.05, 0.05)
    if painter.chance(0.35 * clutter):
        lake(
            painter, painter.between(0.2, 0.8), edge + 0.1, painter.between(0.25, 0.6), painter.between(0.04, 0.09), 0.1
        )
    elif painter.chance(0.25 * clutter):
        country_road(painter, edge - 0.01)
    if painter.chance(0.2 * clutter):
        house(painter, painter.between(0.2, 0.8), edge + 0.02, painter.between(0.12, 0.22), 0.05)
    kind = conifer if painter.chance(0.55) else broadleaf
    for base in sorted(painter.between(edge - 0.05, 1.1) for _ in range(int(painter.random.integers(5, 11)))):
        kind(painter, painter.random.random(), base, painter.between(0.35, 0.7), 0.1 * (1.1 - base))


def _inside(painter: Painter, clutter: float) -> None:
    """Trunks in rows that fade into light, under a canopy."""
    floor = painter.between(0.6, 0.75)
    painter.sky(floor)
    leaf = pick(painter, painter.mood.leaves)
    if painter.chance(0.25 * clutter):
        ridge(painter, floor, 0.3, 0.7, pick(painter, ROCKS))
    treeline(painter, floor + 0.02, 0.45, 0.7)
    hills(painter, floor + 0.03, 0.03, 0.25)
    if painter.chance(0.4 * clutter):
        country_road(painter, floor)
    bark = mix(hexed("5c4537"), hexed("d8d3c8"), 0.85 if painter.chance(0.25) else painter.between(0.0, 0.2))
    for row, depth in enumerate((0.6, 0.4, 0.2, 0.0)):
        foot = floor + 0.04 + 0.1 * row
        for _ in range(7 - row):
            x, w = painter.between(-0.05, 1.05), painter.between(0.008, 0.014) * (1 + 0.9 * row)
            colour = painter.tone(bark, depth, 0.1)
            top = x + painter.between(-0.04, 0.04)
            painter.polygon(
                [(x - 1.5 * w, foot), (top - 0.7 * w, -0.05), (top + 0.7 * w, -0.05), (x + 1.5 * w, foot)],
                colour,
                FOREST,
            )
            shade = 1.5 * w * -painter.light
            painter.polygon(
                [(x, foot), (top, -0.05), (top + shade * 0.46, -0.05), (x + shade, foot)],
                mix(colour, (0.05, 0.08, 0.12), 0.3),
                FOREST,
            )
        for _ in range(9):
            r = painter.between(0.06, 0.13)
            painter.ellipse(
                painter.random.random(),
                painter.between(-0.04, 0.1 + 0.05 * (3 - row)),
                r * 1.3,
                r,
                painter.tone(mix(leaf, pick(painter, painter.mood.leaves), 0.4), depth + 0.05, 0.12),
                FOREST,
            )
        if painter.chance(0.5):
            x = painter.random.random()
            for _ in range(4):
                painter.ellipse(
                    x + painter.between(-0.08, 0.08),
                    foot,
                    painter.between(0.03, 0.07),
                    painter.between(0.02, 0.05),
                    painter.tone(leaf, depth, 0.15),
                    FOREST,
                )


def mountain(painter: Painter, clutter: float) -> None:
    """Peaks and ridges; woods, a lake, huts, a pass road or hanging ice before them."""
    foot = painter.between(0.66, 0.9)
    painter.sky(0.7)
    rock, snow = pick(painter, ROCKS), painter.between(-0.2, 0.75)
    if painter.mood is MOODS["winter"]:
        snow = painter.between(0.3, 0.9)
    for k in range(int(painter.random.integers(1, 4))):
        ridge(painter, foot - 0.05, painter.between(0.25, 0.5) - 0.07 * k, 0.7 - 0.13 * k, rock)
    heights = sorted((painter.between(0.3, 0.72) for _ in range(int(painter.random.integers(1, 4)))), reverse=True)
    summit = painter.between(0.15, 0.85)
    for k, height in enumerate(heights):
        x, width = summit if k == 0 else painter.between(0.1, 0.9), height * painter.between(1.2, 2.1)
        peak(painter, x, foot + 0.03 * k, width, height * (1 - 0.15 * k), 0.3 / (1 + k), snow, rock)
    if painter.chance(0.3 * clutter):
        top = foot - heights[0] * painter.between(0.5, 0.75)
        x, wide = summit + painter.between(-0.06, 0.06), painter.between(0.12, 0.45) * clutter
        tongue(painter, (x, top), (x + painter.between(-0.1, 0.1), foot + 0.03), 0.06, wide, 0.15)
    ground = painter.random.random()
    if ground < 0.3 * clutter:
        water(painter, foot, 0.2)
        if painter.chance(0.4 * clutter):
            treeline(painter, foot + 0.01, painter.between(0.04, 0.12), 0.25)
        return
    if ground < 0.45 * clutter:
        snowfield(painter, foot + 0.06, 0.08, 0.05)
    else:
        hills(painter, foot + 0.03, 0.06, 0.2)
        if painter.chance(0.25 * clutter):
            treeline(painter, foot + 0.04, painter.between(0.06, 0.16), 0.2)
        hills(painter, foot + 0.12, 0.05, 0.05)
        if painter.chance(0.25 * clutter):
            country_road(painter, foot + 0.07)
        elif painter.chance(0.3 * clutter):
            lake(painter, painter.between(0.2, 0.8), foot + 0.15, painter.between(0.15, 0.4), 0.04, 0.1)
    if painter.chance(0.25 * clutter):
        house(painter, painter.between(0.15, 0.85), foot + 0.1, painter.between(0.07, 0.16), 0.1)
    trees(painter, foot + 0.08, 1.05, 0.5 * clutter, 7)


def glacier(painter: Painter, clutter: float) -> None:
    """A tongue between peaks, a wall of ice over water, or a field of broken ice."""
    foot = painter.between(0.68, 0.95)
    painter.sky(0.55)
    rock, layout = pick(painter, ROCKS), painter.random.random()
    if layout < 0.5:
        top = painter.between(0.34, 0.46)
        ridge(painter, top - 0.02, painter.between(0.1, 0.26), 0.6, rock)
        for x in (painter.between(-0.1, 0.25), painter.between(0.75, 1.1)):
            peak(
                painter,
                x,
                foot + 0.05,
                painter.between(0.7, 1.1),
                painter.between(0.35, 0.7),
                0.25,
                painter.between(0.0, 0.7),
                rock,
            )
        x = painter.between(0.4, 0.6)
        tongue(
            painter,
            (x, top),
            (painter.between(0.3, 0.7), foot + 0.06),
            painter.between(0.12, 0.3),
            painter.between(0.45, 1.1),
            0.1,
        )
        if painter.chance(0.5):
            water(painter, foot, 0.15, bottom=1.02)
            for _ in range(int(painter.random.integers(0, 6))):
                iceberg(
                    painter,
                    painter.random.random(),
                    painter.between(foot + 0.02, 1.0),
                    painter.between(0.05, 0.15),
                    0.05,
                )
        elif painter.chance(0.5):
            snowfield(painter, foot + 0.08, 0.06, 0.1)
        else:
            hills(painter, foot + 0.06, 0.04, 0.15, rock)
            rocks(painter, painter.random.random(), 0.98, 0.3)
            if painter.chance(0.2 * clutter):
                house(painter, painter.between(0.1, 0.9), 0.97, painter.between(0.08, 0.15), 0.0)
            trees(painter, foot + 0.06, 1.05, 0.4 * clutter, 5)
    elif layout < 0.8:
        wall = painter.between(0.3, 0.5)
        ridge(painter, wall + 0.08, painter.between(0.15, 0.35), 0.55, rock)
        if painter.chance(0.6):
            peak(
                painter,
                painter.between(0.1, 0.9),
                wall + 0.1,
                painter.between(0.6, 1.0),
                painter.between(0.25, 0.45),
                0.4,
                painter.between(0.1, 0.8),
                rock,
            )
        line = painter.between(0.6, 0.75)
        left = painter.between(-0.1, 0.25) if painter.chance(0.4) else -0.1
        ice_front(painter, left, 1.05, wall, line + 0.02, 0.1)
        if left > 0:
            hills(painter, line + 0.02, 0.05, 0.3, rock)
        water(painter, line, 0.1)
        for _ in range(int(painter.random.integers(2, 9))):
            iceberg(
                painter, painter.random.random(), painter.between(line + 0.04, 1.0), painter.between(0.06, 0.22), 0.05
            )
    else:
        line = painter.between(0.35, 0.5)
        ridge(painter, line + 0.05, painter.between(0.1, 0.3), 0.55, rock)
        if painter.chance(0.7):
            peak(
                painter,
                painter.between(0.1, 0.9),
                line + 0.1,
                painter.between(0.6, 1.1),
                painter.between(0.25, 0.45),
                0.4,
                painter.between(0.2, 0.9),
                rock,
            )
        for k in range(4):
            ice_front(painter, -0.1, 1.05, line + 0.14 * k, line + 0.16 * k + 0.2, 0.35 - 0.1 * k)


def sea(painter: Painter, clutter: float) -> None:
    """Open water, a beach or a coast; sails, cliffs, houses, palms and ice around it."""
    y = painter.between(0.3, 0.62)
    painter.sky(y)
    if painter.chance(0.4 * clutter):
        ridge(painter, y + 0.01, painter.between(0.06, 0.28), 0.6, pick(painter, ROCKS))
    elif painter.chance(0.3 * clutter):
        peak(
            painter,
            painter.between(0.05, 0.95),
            y + 0.01,
            painter.between(0.3, 0.9),
            painter.between(0.1, 0.3),
            0.4,
            painter.between(-0.2, 0.5),
            pick(painter, ROCKS),
        )
    if painter.chance(0.2 * clutter):
        left = painter.between(-0.2, 0.7)
        for _ in range(int(painter.random.integers(3, 8))):
            left += painter.between(0.03, 0.08)
            tower(painter, left, left + painter.between(0.03, 0.08), y - painter.between(0.04, 0.18), y + 0.01, 0.35)
    elif painter.chance(0.2 * clutter):
        treeline(
            painter,
            y + 0.01,
            painter.between(0.05, 0.14),
            0.35,
            (-0.02, painter.between(0.3, 1.0)) if painter.chance(0.5) else (painter.between(0.0, 0.7), 1.02),
        )
    water(painter, y, painter.between(0.0, 0.25))
    for _ in range(int(painter.random.integers(0, 3))):
        boat = painter.between(y + 0.02, y + 0.2)
        sail(painter, painter.random.random(), boat, 0.05 + 0.5 * (boat - y))
    if painter.chance(0.12 * clutter):
        for _ in range(3):
            iceberg(painter, painter.random.random(), painter.between(y + 0.05, 0.9), painter.between(0.05, 0.16), 0.1)
    shore = painter.random.random()
    if shore < 0.4:
        edge, slope = painter.between(0.72, 0.9), painter.between(-0.25, 0.25)
        beach(painter, edge, slope)
        if painter.chance(0.5 * clutter):
            for _ in range(int(painter.random.integers(1, 3))):
                palm(painter, painter.random.random(), painter.between(0.94, 1.04), painter.between(0.3, 0.6))
        if painter.chance(0.2 * clutter):
            x = painter.between(0.05, 0.95)
            house(painter, x, edge + slope * (x - 0.5) + 0.09, painter.between(0.12, 0.25), 0.0)
    elif shore < 0.6:
        hills(painter, painter.between(0.9, 0.97), 0.1, 0.05)
        if painter.chance(0.3 * clutter):
            house(painter, painter.between(0.05, 0.95), 0.99, painter.between(0.12, 0.25), 0.0)
        trees(painter, 0.96, 1.08, 0.6 * clutter, 4)
    elif shore < 0.8:
        rocks(painter, painter.random.random(), painter.between(0.85, 1.02), painter.between(0.2, 0.5))


SCENES: dict[str, Scene] = {
    "buildings": buildings,
    "forest": forest,
    "glacier": glacier,
    "mountain": mountain,
    "sea": sea,
    "street": street,
}
"""The classes in the order of their labels."""

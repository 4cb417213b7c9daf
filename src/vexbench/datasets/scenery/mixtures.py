"""Scenes between two classes, as real sets have them; the share of the first decides what they are called."""

from collections.abc import Callable

from vexbench.datasets.scenery.coast import beach, sail, water
from vexbench.datasets.scenery.compositions import SCENES
from vexbench.datasets.scenery.heights import hills, ice_front, iceberg, peak, ridge, rocks, snowfield, tongue
from vexbench.datasets.scenery.materials import ROCKS, pick
from vexbench.datasets.scenery.painting import Painter
from vexbench.datasets.scenery.town import Avenue, tower
from vexbench.datasets.scenery.woods import broadleaf, conifer, treeline

MIXED = 0.3
"""The share of mixtures among the scenes, at clutter 1."""
LEAST, MOST = 0.45, 0.95
"""The shares of its own class in a mixture; what lies below a half is called by the lesser part."""


def alpine(painter: Painter, ice: float) -> None:
    """Ice between peaks."""
    foot, top, rock = painter.between(0.7, 0.9), painter.between(0.36, 0.46), pick(painter, ROCKS)
    painter.sky(0.55)
    ridge(painter, top - 0.02, painter.between(0.1, 0.26), 0.6, rock)
    snow = painter.between(0.0, 0.7)
    for x in (painter.between(-0.05, 0.25), painter.between(0.75, 1.05)):
        peak(painter, x, foot + 0.05, painter.between(0.7, 1.1), painter.between(0.4, 0.7), 0.25, snow, rock)
    x = painter.between(0.4, 0.6)
    tongue(painter, (x, top), (x + painter.between(-0.15, 0.15), foot + 0.06), 0.04 + 0.2 * ice, 0.08 + 0.9 * ice, 0.1)
    ground = painter.random.random()
    if ground < 0.35:
        water(painter, foot, 0.15)
    elif ground < 0.55:
        snowfield(painter, foot + 0.08, 0.06, 0.1)
    else:
        hills(painter, foot + 0.06, 0.04, 0.15, rock if painter.chance(0.5) else None)
        rocks(painter, painter.random.random(), 0.98, 0.3)


def alley(painter: Painter, town: float) -> None:
    """A road between houses, from broad to narrow."""
    x, y = painter.between(0.35, 0.65), painter.between(0.42, 0.6)
    painter.sky(y)
    hills(painter, y + 0.03, 0.03, 0.3)
    painter.polygon([(0.0, y + 0.02), (1.0, y + 0.02), (1.0, 1.05), (0.0, 1.05)], painter.tone(painter.mood.meadow))
    if painter.chance(town):
        for _ in range(3):
            left = x + painter.between(-0.25, 0.15)
            tower(
                painter, left, left + painter.between(0.06, 0.14), y - painter.between(0.1, 0.4) * town, y + 0.02, 0.4
            )
    avenue = Avenue(painter, x, y, 1.25 - 0.95 * town)
    avenue.road()
    for side in (-1.0, 1.0):
        avenue.facades(side, painter.between(1.4, 1.7), 0.4 + 1.1 * town + painter.between(0.0, 0.3))
    for away in (4.0, 2.2, 1.3):
        if painter.chance(0.4):
            avenue.lamp(1.0 if painter.chance(0.5) else -1.0, away)
        if painter.chance(0.4):
            avenue.car(painter.between(0.3, 0.6) * (1 if painter.chance(0.6) else -1), away)


def fjord(painter: Painter, land: float) -> None:
    """Peaks over water."""
    y, rock, snow = 0.3 + 0.5 * land, pick(painter, ROCKS), painter.between(-0.2, 0.6)
    painter.sky(y)
    ridge(painter, y + 0.01, y * (0.1 + 0.45 * land), 0.6, rock)
    for _ in range(int(painter.random.integers(1, 4))):
        height = y * (0.2 + 0.7 * land) * painter.between(0.7, 1.0)
        peak(painter, painter.random.random(), y + 0.01, height * painter.between(1.4, 2.2), height, 0.25, snow, rock)
    water(painter, y, painter.between(0.0, 0.2))
    if painter.chance(0.4):
        boat = painter.between(y + 0.05, 0.95)
        sail(painter, painter.random.random(), boat, 0.05 + 0.4 * (boat - y))
    shore = painter.random.random()
    if shore < 0.2:
        beach(painter, painter.between(0.85, 0.95), painter.between(-0.15, 0.15))
    elif shore < 0.5:
        rocks(painter, painter.random.random(), 1.0, 0.4)


def slope(painter: Painter, wood: float) -> None:
    """Woods that climb a mountain."""
    y, rock, snow = 0.85 - 0.5 * wood, pick(painter, ROCKS), painter.between(-0.2, 0.7)
    painter.sky(0.6)
    ridge(painter, y + 0.05, painter.between(0.15, 0.3), 0.6, rock)
    for _ in range(int(painter.random.integers(1, 3))):
        height = y * painter.between(0.6, 0.95)
        peak(painter, painter.random.random(), y + 0.12, height * painter.between(1.4, 2.0), height, 0.3, snow, rock)
    hills(painter, y + 0.1, 0.03, 0.4)
    for k in range(2 + round(2 * wood)):
        foot = y + 0.03 + 0.1 * (k + 1) * (0.5 + wood)
        treeline(painter, foot, 0.06 + 0.14 * wood * (1 + 0.2 * k), 0.5 - 0.12 * k, below=0.05 + 0.1 * wood)
    hills(painter, min(y + 0.12 + 0.45 * wood, 0.97), 0.04, 0.05)
    kind = conifer if painter.chance(0.6) else broadleaf
    for base in sorted(painter.between(0.9, 1.08) for _ in range(round(7 * wood))):
        kind(painter, painter.random.random(), base, painter.between(0.2, 0.3 + 0.35 * wood), 0.05)


def ride(painter: Painter, wood: float) -> None:
    """A road through woods."""
    x, y = painter.between(0.35, 0.65), painter.between(0.42, 0.58)
    painter.sky(y)
    treeline(painter, y + 0.03, 0.1 + 0.3 * wood, 0.5)
    hills(painter, y + 0.04, 0.02, 0.3)
    avenue = Avenue(painter, x, y, 1.4 - 1.1 * wood)
    avenue.road()
    kind = conifer if painter.chance(0.5) else broadleaf
    for away in (6.0, 4.5, 3.4, 2.6, 2.0, 1.6, 1.25):
        for side in (-1.0, 1.0):
            if painter.chance(0.35 + 0.6 * wood):
                tree_x, base = avenue.at(side * painter.between(1.8, 2.6 + 2 * wood), 0.0, away)
                kind(painter, tree_x, base, painter.between(0.5, 0.7 + 0.5 * wood) / away, min(0.08 * away, 0.5))
    if painter.chance(0.4):
        avenue.car(painter.between(0.3, 0.6), painter.between(1.5, 4.0))


def harbour(painter: Painter, town: float) -> None:
    """A town across the water."""
    y = 0.35 + 0.45 * town
    painter.sky(y)
    if painter.chance(0.4):
        ridge(painter, y, painter.between(0.1, 0.25), 0.65, pick(painter, ROCKS))
    left = painter.between(-0.1, 0.5 - 0.5 * town)
    while left < painter.between(0.5 + 0.4 * town, 1.1):
        width = painter.between(0.04, 0.07 + 0.14 * town)
        height = y * (0.15 + 0.65 * town) * painter.between(0.5, 1.1)
        tower(painter, left, left + width, y - height, y + 0.01, 0.35 - 0.3 * town)
        left += width * painter.between(0.8, 1.5)
    water(painter, y, painter.between(0.0, 0.2))
    for _ in range(int(painter.random.integers(0, 3))):
        boat = painter.between(y + 0.03, 0.95)
        sail(painter, painter.random.random(), boat, 0.05 + 0.35 * (boat - y))


def lagoon(painter: Painter, ice: float) -> None:
    """A wall of ice at the far side of the water."""
    y, wall, rock = 0.36 + 0.35 * ice, 0.03 + 0.32 * ice, pick(painter, ROCKS)
    painter.sky(y)
    ridge(painter, y - 0.6 * wall, painter.between(0.05, 0.2), 0.6, rock)
    left = painter.between(-0.1, 0.5 - 0.6 * ice)
    ice_front(painter, left, painter.between(0.6 + 0.4 * ice, 1.1), y - wall, y + 0.02, 0.25)
    water(painter, y, painter.between(0.0, 0.2))
    for _ in range(int(painter.random.integers(0, 3 + round(4 * ice)))):
        berg = painter.between(y + 0.03, 0.98)
        iceberg(painter, painter.random.random(), berg, 0.04 + 0.25 * (berg - y), 0.1)


MIXTURES: tuple[tuple[Callable[[Painter, float], None], str, str], ...] = (
    (alpine, "glacier", "mountain"),
    (alley, "buildings", "street"),
    (fjord, "mountain", "sea"),
    (slope, "forest", "mountain"),
    (ride, "forest", "street"),
    (harbour, "buildings", "sea"),
    (lagoon, "glacier", "sea"),
)
"""What paints them, and the two classes; the first is the one that a share is of."""


def compose(painter: Painter, name: str, clutter: float) -> None:
    """Paint a scene of a class, sometimes a mixture with another."""
    if not painter.chance(MIXED * clutter):
        SCENES[name](painter, clutter)
        return
    known = [mixture for mixture in MIXTURES if name in mixture[1:]]
    paint, first, _ = known[int(painter.random.integers(len(known)))]
    share = painter.between(LEAST, MOST)
    paint(painter, share if name == first else 1 - share)

"""Trees, near and far."""

import numpy as np

from vexbench.datasets.scenery.materials import (
    FOREST,
    TRUNK,
    pick,
)
from vexbench.datasets.scenery.painting import Colour, Painter, hexed, mix


def conifer(painter: Painter, x: float, base: float, height: float, depth: float, leaf: Colour | None = None) -> None:
    """A fir: three or four tiers, one half in shade."""
    lit = painter.tone(leaf or mix(pick(painter, painter.mood.leaves), hexed("1f4f45"), 0.5), depth, 0.1)
    dark = mix(lit, painter.tone((0.05, 0.1, 0.16), depth), 0.4)
    tiers, half = int(painter.random.integers(3, 6)), height * painter.between(0.19, 0.28)
    painter.box(x - 0.03 * height, base - 0.12 * height, x + 0.03 * height, base, painter.tone(TRUNK, depth), FOREST)
    left, right = [(x, base - height)], [(x, base - height)]
    for tier in range(1, tiers + 1):
        y, reach = base - height * (1 - 0.93 * tier / tiers), half * (0.25 + 0.75 * tier / tiers)
        back = 0.45 * reach if tier < tiers else 0
        left += [(x - reach, y), (x - back, y - 0.02 * height)]
        right += [(x + reach, y), (x + back, y - 0.02 * height)]
    painter.polygon([*left, *right[::-1]], lit, FOREST)
    painter.polygon([*(right if painter.light < 0 else left), (x, base - 0.07 * height)], dark, FOREST)


def broadleaf(painter: Painter, x: float, base: float, height: float, depth: float) -> None:
    """A round tree: a trunk, a dark crown and lighter puffs towards the sun."""
    leaf = painter.tone(pick(painter, painter.mood.leaves), depth, 0.1)
    dark, bright = mix(leaf, painter.tone((0.05, 0.1, 0.16), depth), 0.35), mix(leaf, painter.mood.sun, 0.11)
    r = height * painter.between(0.24, 0.34)
    y = base - height + 1.1 * r
    trunk = 0.035 * height
    painter.polygon(
        [(x - trunk, base), (x - trunk * 0.6, y), (x + trunk * 0.6, y), (x + trunk, base)],
        painter.tone(TRUNK, depth),
        FOREST,
    )
    painter.ellipse(x - 0.45 * r, y + 0.3 * r, 0.75 * r, 0.7 * r, dark, FOREST)
    painter.ellipse(x + 0.5 * r, y + 0.25 * r, 0.75 * r, 0.7 * r, dark, FOREST)
    painter.ellipse(x, y - 0.1 * r, 0.95 * r, r, leaf, FOREST)
    for _ in range(4):
        dx, dy, puff = (
            painter.between(-0.15, 0.6) * painter.light * r,
            painter.between(-0.7, 0.1) * r,
            painter.between(0.1, 0.3) * r,
        )
        painter.ellipse(x + dx, y + dy, puff * 1.2, puff * 0.8, bright, FOREST)


def palm(painter: Painter, x: float, base: float, height: float) -> None:
    """A palm leaning over."""
    lean, colour = painter.between(-0.3, 0.3) * height, painter.tone(hexed("3f6b45"))
    trunk = [(x, base), (x + 0.3 * lean, base - 0.5 * height), (x + lean, base - height)]
    painter.stroke(trunk, 0.045 * height, painter.tone(TRUNK), FOREST)
    top_x, top_y = trunk[-1]
    for angle in np.linspace(-2.9, -0.2, 7) + painter.between(-0.1, 0.1):
        dx, dy = float(np.cos(angle)) * 0.42 * height, float(np.sin(angle)) * 0.25 * height
        painter.polygon(
            [
                (top_x, top_y),
                (top_x + dx * 0.6, top_y + dy - 0.05 * height),
                (top_x + dx, top_y + dy + 0.14 * height),
                (top_x + dx * 0.5, top_y + dy + 0.06 * height),
            ],
            colour,
            FOREST,
        )


def treeline(
    painter: Painter,
    y: float,
    height: float,
    depth: float,
    span: tuple[float, float] = (-0.02, 1.02),
    below: float = 0.02,
) -> None:
    """The outline of a wood, of firs or of round crowns, that reaches `below` its foot."""
    left, right = span
    leaf = painter.tone(mix(pick(painter, painter.mood.leaves), hexed("1f4a45"), 0.4), depth)
    foot = painter.tone((0.1, 0.2, 0.18), depth)
    outline, x = [(left, y)], left
    firs = painter.chance(0.6)
    while x < right:
        width = height * painter.between(0.28, 0.5) * (1 if firs else 1.6)
        top = y - height * painter.between(0.6, 1.0)
        if firs:
            outline += [
                (x + 0.2 * width, y - 0.3 * height),
                (x + 0.5 * width, top),
                (x + 0.8 * width, y - 0.35 * height),
            ]
        else:
            outline += [
                (x + 0.05 * width, top + 0.25 * height),
                (x + 0.3 * width, top),
                (x + 0.7 * width, top + 0.02 * height),
                (x + 0.95 * width, top + 0.22 * height),
            ]
        x += width
    painter.shaded([*outline, (x, y + below), (left, y + below)], leaf, mix(leaf, foot, 0.6), FOREST)

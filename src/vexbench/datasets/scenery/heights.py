"""Hills, mountains and ice."""

import itertools

import numpy as np

from vexbench.datasets.scenery.materials import (
    GLACIER,
    ICE,
    ICE_DEEP,
    ICE_SHADE,
    MOUNTAIN,
    ROCKS,
    SNOW,
    SNOW_SHADE,
    pick,
)
from vexbench.datasets.scenery.painting import BLACK, NOBODY, Colour, Painter, Points, mix


def ragged(painter: Painter, start: tuple[float, float], end: tuple[float, float], n: int, jitter: float) -> Points:
    """A line from start to end whose inner points stray up and down, and a little sideways."""
    share = np.linspace(0, 1, n)
    stray = painter.random.standard_normal((2, n)) * jitter * np.sin(np.pi * share) ** 0.5
    x = start[0] + (end[0] - start[0]) * share + stray[0] * 0.5
    y = start[1] + (end[1] - start[1]) * share + stray[1]
    return list(zip(x.tolist(), y.tolist()))


def skyline(painter: Painter, y: float, height: float, waves: int, n: int = 48) -> Points:
    """A closed outline below a fractal line that stays between y - height and y."""
    x = np.linspace(-0.02, 1.02, n)
    line = np.zeros(n)
    for octave in range(4):
        knots = waves * 2**octave + 1
        line += np.interp(x, np.linspace(-0.02, 1.02, knots), painter.random.random(knots)) * 0.55**octave
    line = (line - line.min()) / max(float(np.ptp(line)), 1e-6)
    return [*zip(x.tolist(), (y - height * line).tolist()), (1.02, 1.05), (-0.02, 1.05)]


def ridge(painter: Painter, y: float, height: float, depth: float, rock: Colour) -> None:
    """A distant chain of mountains across the picture."""
    outline = skyline(painter, y, height, int(painter.random.integers(2, 5)))
    painter.shaded(outline, painter.tone(rock, depth), painter.tone(rock, min(depth + 0.3, 0.97)), MOUNTAIN)


def hills(painter: Painter, y: float, height: float, depth: float, colour: Colour | None = None) -> None:
    """Rolling ground, evidence of nothing."""
    base = colour or painter.mood.meadow
    x = np.linspace(0, 1, 24)
    phase, waves = painter.between(0.0, 6.3), painter.between(2.0, 7.0)
    line = y - height * (0.5 + 0.5 * np.sin(phase + waves * x)) * (0.7 + 0.3 * np.sin(2.3 * waves * x))
    outline = [*zip(x.tolist(), line.tolist()), (1.0, 1.05), (0.0, 1.05)]
    painter.shaded(outline, painter.tone(base, depth), painter.tone(mix(base, (0.1, 0.15, 0.1), 0.25), depth * 0.5))


def peak(
    painter: Painter, x: float, base: float, width: float, height: float, depth: float, snow: float, rock: Colour
) -> None:
    """A mountain with a lit and a shaded side; `snow` is the share of its height under the cap."""
    apex, n = (x, base - height), 9
    jitter = 0.03 * height
    left = ragged(painter, (x - width / 2, base), apex, n, jitter)
    right = ragged(painter, apex, (x + width / 2, base), n, jitter)
    spine = ragged(painter, apex, (x + painter.between(-0.15, 0.15) * width, base), n, 0.04 * width)
    far = right if painter.light < 0 else left[::-1]
    lit, dark = (
        painter.tone(mix(rock, (1.0, 0.95, 0.85), 0.3), depth),
        painter.tone(mix(rock, (0.1, 0.12, 0.25), 0.35), depth),
    )
    foot = painter.mood.haze
    painter.shaded([*left, *right], lit, mix(lit, foot, 0.25), MOUNTAIN)
    painter.shaded([*spine, *far[::-1]], dark, mix(dark, foot, 0.2), MOUNTAIN)
    # gullies: shadows that fall from the spine into the lit side
    side = painter.light
    for _ in range(3):
        k = int(painter.random.integers(1, n - 2))
        (px, py), reach = spine[k], painter.between(0.05, 0.16) * width
        painter.polygon(
            [(px, py), (px + side * reach, py + painter.between(0.12, 0.3) * height), (px, py + 0.12 * height)],
            mix(lit, dark, 0.55),
            MOUNTAIN,
        )
    if snow <= 0.03:
        return
    hem, edge_left, edge_right = (
        base - height * (1 - snow),
        _above(left, base - height * (1 - snow)),
        _above(right, base - height * (1 - snow)),
    )
    zigzag = _zigzag(painter, edge_right[-1], edge_left[0], 7, 0.12 * height * min(snow * 2, 1))
    white, shade = painter.tone(SNOW, depth * 0.8), painter.tone(SNOW_SHADE, depth)
    painter.polygon([*edge_left, *edge_right, *zigzag], white, MOUNTAIN)
    crest = [point for point in spine if point[1] <= hem]
    if painter.light < 0:
        half = [*crest, *[p for p in zigzag[::-1] if p[0] > crest[-1][0]], *edge_right[::-1]]
    else:
        half = [*crest, *[p for p in zigzag if p[0] < crest[-1][0]], *edge_left]
    painter.polygon(half, shade, MOUNTAIN)


def _above(line: Points, y: float) -> list[tuple[float, float]]:
    """The part of a slope above a height, cut exactly there."""
    part = list[tuple[float, float]]()
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        if (y0 <= y) != (y1 <= y):
            share = (y - y0) / (y1 - y0)
            cut = (x0 + share * (x1 - x0), y)
            part += [cut, (x1, y1)] if y1 <= y else [(x0, y0), cut]
        elif y0 <= y:
            part += [(x0, y0), (x1, y1)]
    return part


def _zigzag(painter: Painter, start: tuple[float, float], end: tuple[float, float], n: int, depth: float) -> Points:
    """Teeth that hang down between two points."""
    random = painter.random
    share = (np.arange(1, 2 * n) + random.uniform(-0.35, 0.35, 2 * n - 1)) / (2 * n)
    drop = np.where(np.arange(2 * n - 1) % 2 == 0, 1.0, -0.3) * depth * random.random(2 * n - 1) ** 1.5 * 1.6
    x = start[0] + (end[0] - start[0]) * share
    return list(zip(x.tolist(), (start[1] + (end[1] - start[1]) * share + drop).tolist()))


def snowfield(painter: Painter, y: float, height: float, depth: float, owner: int = NOBODY) -> None:
    """Drifts of snow."""
    outline = skyline(painter, y, height, 3, 24)
    painter.shaded(outline, painter.tone(SNOW, depth), painter.tone(mix(SNOW_SHADE, SNOW, 0.4), depth), owner)


def cold(painter: Painter, base: Colour, depth: float) -> Colour:
    """Colour of ice, which keeps some of its blue in warm light."""
    toned = painter.tone(base, depth)
    return mix(toned, mix(BLACK, base, max(toned)), 0.35 * (1 - depth))


def tongue(
    painter: Painter, top: tuple[float, float], bottom: tuple[float, float], narrow: float, wide: float, depth: float
) -> None:
    """Ice that flows from a narrow top to a wide bottom, with bands and crevasses along the flow."""
    share = np.linspace(0, 1, 16) ** 1.3
    bend = painter.between(-0.18, 0.18) * np.sin(np.pi * share) + painter.between(-0.05, 0.05) * np.sin(
        2 * np.pi * share
    )
    middle = top[0] + (bottom[0] - top[0]) * share**1.2 + bend
    # rounded where the ice begins
    half = 0.5 * (narrow + (wide - narrow) * share**1.5) * np.minimum(share / 0.12, 1) ** 0.5
    y = top[1] + (bottom[1] - top[1]) * share
    light, shade, deep = (cold(painter, colour, depth) for colour in (ICE, ICE_SHADE, ICE_DEEP))

    def band(low: float, high: float) -> Points:
        edge = np.concatenate([middle + half * low, (middle + half * high)[::-1]])
        return list(zip(edge.tolist(), np.concatenate([y, y[::-1]]).tolist()))

    painter.shaded(band(-1.0, 1.0), light, mix(light, shade, 0.5), GLACIER)
    painter.polygon(band(0.55, 1.0) if painter.light < 0 else band(-1.0, -0.55), mix(light, shade, 0.6), GLACIER)
    for offset in np.sort(painter.random.uniform(-0.85, 0.85, 5)):
        # medial moraines and melt lines
        painter.polygon(
            band(offset, offset + painter.between(0.02, 0.07)), mix(shade, deep, painter.between(0.0, 0.6)), GLACIER
        )
    for _ in range(16):
        k = painter.between(0.1, 0.97)
        cx, cy = float(np.interp(k, share, middle)), float(np.interp(k, share, y))
        width = float(np.interp(k, share, half))
        reach, offset = width * painter.between(0.08, 0.28), painter.between(-0.7, 0.7) * width
        sag, thick = painter.between(-0.02, 0.06) * width, 0.002 + 0.01 * k
        cy += sag * (offset / width) ** 2
        painter.polygon(
            [
                (cx + offset - reach, cy - sag),
                (cx + offset, cy),
                (cx + offset + reach, cy - sag),
                (cx + offset, cy + thick),
            ],
            mix(deep, shade, painter.between(0.0, 0.5)),
            GLACIER,
        )


def ice_front(painter: Painter, left: float, right: float, top: float, foot: float, depth: float) -> None:
    """A wall of ice: towers of different height and blue, cracked from top to bottom."""
    light, shade, deep = (cold(painter, colour, depth) for colour in (ICE, ICE_SHADE, ICE_DEEP))
    x, height = left, foot - top
    painter.polygon(skyline_between(painter, left, right, top, foot, 0.12 * height), light, GLACIER)
    while x < right:
        width = painter.between(0.02, 0.07)
        crown = top + painter.between(-0.02, 0.3) * height
        lean = painter.between(-0.012, 0.012)
        face = mix(mix(light, shade, painter.between(0.2, 1.0)), deep, painter.between(0.0, 0.3))
        painter.polygon(
            [(x, foot), (x + lean, crown + 0.03 * height), (x + width * 0.6, crown), (x + width, foot)], face, GLACIER
        )
        low = crown + painter.between(0.45, 0.75) * height
        painter.polygon(
            [(x, foot), (x + 0.2 * width, low), (x + 0.7 * width, low - 0.1 * height), (x + width, foot)],
            mix(face, deep, 0.35),
            GLACIER,
        )
        painter.polygon(
            [(x + width, foot), (x + width * 0.6, crown), (x + width * 0.85 + lean, crown + 0.25 * height)],
            mix(shade, deep, 0.7),
            GLACIER,
        )
        x += width * painter.between(0.6, 1.0)


def skyline_between(painter: Painter, left: float, right: float, top: float, foot: float, jitter: float) -> Points:
    """An outline with a ragged top."""
    return [(left, foot), *ragged(painter, (left, top), (right, top), 14, jitter), (right, foot)]


def iceberg(painter: Painter, x: float, y: float, width: float, depth: float) -> None:
    """A floating block of ice."""
    light, shade = cold(painter, ICE, depth), cold(painter, mix(ICE_SHADE, ICE_DEEP, 0.3), depth)
    crown = y - width * painter.between(0.25, 0.6)
    tip = x + painter.between(-0.2, 0.2) * width
    painter.polygon(
        [
            (x - width / 2, y),
            (x - width * 0.3, (y + crown) / 2),
            (tip, crown),
            (x + width * 0.35, (y + crown) / 2 + 0.1 * width),
            (x + width / 2, y),
        ],
        light,
        GLACIER,
    )
    painter.polygon(
        [(tip, crown), (x + width * 0.35, (y + crown) / 2 + 0.1 * width), (x + width / 2, y), (x + width * 0.05, y)],
        shade,
        GLACIER,
    )


def rocks(painter: Painter, x: float, y: float, width: float) -> None:
    """Boulders, evidence of nothing."""
    colour = painter.tone(pick(painter, ROCKS))
    for _ in range(4):
        cx, w = x + painter.between(-0.5, 0.5) * width, width * painter.between(0.2, 0.5)
        h = w * painter.between(0.4, 0.8)
        painter.polygon(
            [(cx - w / 2, y), (cx - 0.3 * w, y - 0.7 * h), (cx + 0.1 * w, y - h), (cx + w / 2, y)],
            mix(colour, BLACK, painter.between(0.1, 0.4)),
        )
        painter.polygon([(cx - w / 2, y), (cx - 0.3 * w, y - 0.7 * h), (cx + 0.1 * w, y - h), (cx, y)], colour)

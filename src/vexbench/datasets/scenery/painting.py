"""A painter for drawn scenes: every stroke sets the colour and the owner of the points it covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from vexbench.imaging import RGB

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""
Points = Sequence[tuple[float, float]]
"""Corners in the unit square, y downwards; they may lie outside."""

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SUPERSAMPLING = 3
NOBODY = 0
"""The owner of sky, meadow and rubble: evidence of no class."""


def hexed(code: str) -> Colour:
    """Colour of a hexadecimal code such as ``f6c9a8``."""
    red, green, blue = bytes.fromhex(code)
    return red / 255, green / 255, blue / 255


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Blend from `a` (share 0) to `b` (share 1)."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@final
@dataclass(frozen=True)
class Mood:
    """Weather, hour and season: the colours that everything in a scene shares."""

    zenith: Colour
    horizon: Colour
    sun: Colour
    tint: Colour
    haze: Colour
    leaves: tuple[Colour, ...]
    meadow: Colour
    lamps: float
    clear: bool


GREEN = (hexed("2f6b4f"), hexed("4d8a4f"), hexed("25564a"), hexed("6f9a4a"))
AUTUMN = (hexed("c8642b"), hexed("dd9a33"), hexed("9c3f2e"), hexed("6f7f3c"))
FROST = (hexed("5c7f7d"), hexed("86a5a3"), hexed("41686c"), hexed("9fb8b5"))


def _mood(
    sky: str, tint: Colour, leaves: tuple[Colour, ...], meadow: str, lamps: float = 0.05, clear: bool = True
) -> Mood:
    zenith, horizon, sun, haze = (hexed(code) for code in sky.split())
    return Mood(zenith, horizon, sun, tint, haze, leaves, hexed(meadow), lamps, clear)


MOODS = {
    "dawn": _mood("5b74b0 f8cfae fff0cf e9c9c0", (1.0, 0.88, 0.88), GREEN, "8a9a5e", lamps=0.2),
    "noon": _mood("3d8fd4 c6e8f4 fffbe8 c4dfea", (1.0, 1.0, 0.98), GREEN, "86ad58"),
    "golden": _mood("d9a05c fce8bd fffdf0 f3d6a4", (1.06, 0.9, 0.7), GREEN, "b39c4e", lamps=0.1),
    "dusk": _mood("40306b f58f5f ffd27d bd7497", (0.82, 0.6, 0.68), GREEN, "6c6a55", lamps=0.4),
    "night": _mood("0a1432 33508a f5f1dc 33507e", (0.36, 0.46, 0.7), GREEN, "4e7069", lamps=0.55),
    "overcast": _mood("8797a5 d9dddb e8ebea c3ccd0", (0.82, 0.86, 0.88), GREEN, "7d9166", clear=False),
    "autumn": _mood("7fb0d2 f7e6c8 fff6da e6d3bb", (1.02, 0.94, 0.86), AUTUMN, "b08f4a"),
    "winter": _mood("9db9d8 f1f3f4 ffffff dde7ef", (0.94, 0.98, 1.04), FROST, "e4ecf1"),
    "storm": _mood("27455a 9cbdb6 dfeee8 86a5a6", (0.66, 0.76, 0.8), GREEN, "5f7f68", lamps=0.2, clear=False),
    "mint": _mood("64b9bd fdf1d6 ffffff cfe3d4", (0.98, 1.0, 0.92), GREEN, "9bb568"),
}


@final
class Painter:
    """A supersampled canvas of colour and owner, the mood of the scene and its random numbers.

    `light` is 1 where the sun stands on the right, -1 on the left. Random numbers never depend on the size, so
    that every size shows the same scene.
    """

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self.size, self.random = size, random
        self.mood = MOODS[list(MOODS)[int(random.integers(len(MOODS)))]]
        self.light = 1.0 if random.random() < 0.5 else -1.0
        self._side = size * SUPERSAMPLING
        # the fourth band holds the owner; Pillow writes it like a colour as long as nothing is blended
        self._image = Image.new("RGBA", (self._side, self._side))
        self._pen = ImageDraw.Draw(self._image)
        self._owners = set[int]()

    def between(self, low: float, high: float) -> float:
        """Draw a number from [low, high)."""
        return low + (high - low) * self.random.random()

    def chance(self, probability: float) -> bool:
        """Throw a coin."""
        return bool(self.random.random() < probability)

    def tone(self, base: Colour, depth: float = 0.0, vary: float = 0.03) -> Colour:
        """Colour of a material in this mood, `depth` of the way into the haze."""
        tint, shift = self.mood.tint, 1 + self.between(-vary, vary)
        return mix((base[0] * tint[0] * shift, base[1] * tint[1] * shift, base[2] * tint[2]), self.mood.haze, depth)

    def _ink(self, colour: Colour, owner: int) -> tuple[int, int, int, int]:
        self._owners.add(owner)
        # tints can exceed white, never fall below black
        red, green, blue = colour
        return min(int(255 * red), 255), min(int(255 * green), 255), min(int(255 * blue), 255), owner

    def polygon(self, points: Points, colour: Colour, owner: int = NOBODY) -> None:
        """Fill a polygon."""
        side = self._side
        self._pen.polygon([(x * side, y * side) for x, y in points], self._ink(colour, owner))

    def shaded(self, points: Points, top: Colour, bottom: Colour, owner: int = NOBODY) -> None:
        """Fill a polygon with a gradient from its top to its bottom."""
        side = self._side
        corners = [(x * side, y * side) for x, y in points]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        left, right = max(int(min(xs)), 0), min(int(max(xs)) + 1, side)
        low, high = max(int(min(ys)), 0), min(int(max(ys)) + 1, side)
        if right <= left or high <= low:
            return
        shape = Image.new("1", (right - left, high - low))
        ImageDraw.Draw(shape).polygon([(x - left, y - low) for x, y in corners], 1)
        share = (np.arange(low, high, dtype=np.float32)[:, None] - min(ys)) / (max(ys) - min(ys))
        inks = np.array(self._ink(top, owner), np.float32), np.array(self._ink(bottom, owner), np.float32)
        column = Image.fromarray((inks[0] + (inks[1] - inks[0]) * share)[:, None].astype(np.uint8))
        self._image.paste(column.resize(shape.size, Image.Resampling.NEAREST), (left, low), shape)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, owner: int = NOBODY) -> None:
        """Fill an upright rectangle."""
        side = self._side
        x0, y0, x1, y1 = (round(value * side) for value in (left, top, right, bottom))
        if x1 > x0 and y1 > y0:
            # Pillow counts the last row and column in
            self._pen.rectangle((x0, y0, x1 - 1, y1 - 1), self._ink(colour, owner))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, owner: int = NOBODY) -> None:
        """Fill an ellipse."""
        side = self._side
        self._pen.ellipse(
            ((x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side), self._ink(colour, owner)
        )

    def stroke(self, points: Points, width: float, colour: Colour, owner: int = NOBODY) -> None:
        """Draw a line of constant width."""
        side = self._side
        self._pen.line([(x * side, y * side) for x, y in points], self._ink(colour, owner), max(1, round(width * side)))

    def sky(self, horizon: float) -> None:
        """Paint the sky: gradient, glow around the sun or moon, soft clouds, stars."""
        mood, sun = self.mood, (0.5 + self.light * self.between(0.08, 0.4), horizon * self.between(0.2, 0.85))
        sheet = Image.fromarray(self._air(horizon, *sun))
        smooth = sheet.resize((self._side, self._side), Image.Resampling.BILINEAR)
        self._image.paste(Image.merge("RGBA", (*smooth.split(), Image.new("L", smooth.size, NOBODY))))
        if mood is MOODS["night"]:
            for _ in range(int(self.random.integers(8, 24))):
                self.ellipse(
                    self.random.random(), horizon * self.random.random(), 0.004, 0.004, mix(mood.zenith, mood.sun, 0.7)
                )
        if mood.clear and self.chance(0.7):
            radius = self.between(0.025, 0.06)
            self.ellipse(*sun, radius, radius, mood.sun)
        for _ in range(int(self.random.integers(0, 4))):
            self._cloud(self.random.random(), horizon * self.between(0.1, 0.7), self.between(0.08, 0.2))
        if self.chance(0.15):
            self._birds(horizon)

    def _air(self, horizon: float, sun_x: float, sun_y: float, n: int = 32) -> RGB:
        mood, line = self.mood, (np.arange(n, dtype=np.float32) + 0.5) / n
        x, y = line[None, :, None], line[:, None, None]
        air = _towards(
            np.array(mood.zenith, np.float32),
            mood.horizon,
            (y / max(horizon, 0.2)).clip(0, 1) ** self.between(0.8, 1.4),
        )
        air = _towards(
            air, mood.sun, np.exp(-((x - sun_x) ** 2 + (y - sun_y) ** 2) / 0.06) * (0.75 if mood.clear else 0.25)
        )
        veil = (_soft(self.random, n, 3, 5) * self.between(0.0, 0.7)).clip(0, 0.8)[..., None]
        return (_towards(air, mix(mood.horizon, WHITE, 0.3), veil).clip(0, 1) * 255).astype(np.uint8)

    def _cloud(self, x: float, y: float, width: float) -> None:
        colour = mix(mix(self.mood.horizon, self.mood.zenith, 0.15), WHITE, 0.35 * self.mood.tint[0])
        for _ in range(5):
            dx, rx = self.between(-0.8, 0.8) * width, width * self.between(0.25, 0.5)
            self.ellipse(x + dx, y - 0.25 * rx, rx, rx * 0.4, colour)
        self.ellipse(x, y, width * 1.2, width * 0.13, colour)

    def _birds(self, horizon: float) -> None:
        x, y, colour = self.random.random(), horizon * self.between(0.2, 0.6), mix(self.mood.zenith, BLACK, 0.5)
        for _ in range(4):
            bx, by, r = x + self.between(-0.1, 0.1), y + self.between(-0.05, 0.05), self.between(0.008, 0.016)
            self.stroke([(bx - r, by - r * 0.6), (bx, by), (bx + r, by - r * 0.6)], 0.004, colour)

    def finish(self, haze: float) -> tuple[RGB, UInt8[np.ndarray, "H W"]]:
        """Reduce to the asked size; light, haze near the ground and grain change colours only.

        The owner of a pixel is who covers most of its points, more than half of them, else nobody.
        """
        size, step = self.size, SUPERSAMPLING
        colour = np.asarray(self._image.convert("RGB").reduce(step)) / np.float32(255)
        points = np.asarray(self._image.getchannel("A"))
        samples = [points[i::step, j::step].copy() for i in range(step) for j in range(step)]
        owner = np.zeros((size, size), np.uint8)
        for number in sorted(self._owners - {NOBODY}):
            votes = sum((sample == number).view(np.uint8) for sample in samples)
            owner[votes > step * step // 2] = number
        return self._light(colour, haze), owner

    def _light(self, colour: Float[np.ndarray, "H W 3"], haze: float) -> RGB:
        size, line = self.size, (np.arange(self.size, dtype=np.float32) + 0.5) / self.size
        veil = haze * np.exp(-(((line - self.between(0.4, 0.9)) / 0.16) ** 2))[:, None, None]
        colour = _towards(colour, self.mood.haze, veil * (0.6 + 0.4 * _soft(self.random, size, 3, 4)[..., None]))
        sideways = 1 + self.light * self.between(0.0, 0.14) * (line[None, :, None] - 0.5)
        vignette = 1 - self.between(0.1, 0.35) * ((line[:, None, None] - 0.5) ** 2 + (line[None, :, None] - 0.5) ** 2)
        paper = 1 + 0.05 * (_soft(self.random, size, 12, 12)[..., None] - 0.5)
        colour = colour * (sideways * vignette * paper) * self.between(0.92, 1.06)
        # last, since it draws as many numbers as there are pixels
        colour += self.between(0.008, 0.022) * self.random.standard_normal((size, size, 1), np.float32)
        return (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)


def _towards(
    colour: Float[np.ndarray, "..."], goal: Colour, share: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    return colour + (np.array(goal, np.float32) - colour) * share


def _soft(random: np.random.Generator, size: int, rows: int, columns: int) -> Float[np.ndarray, "size size"]:
    """Smooth noise in about [0, 1]."""
    grid = Image.fromarray(random.random((rows, columns), np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))

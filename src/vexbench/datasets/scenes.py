"""Drawn scenes of the six Intel classes, any number at any size, with exact masks of the evidence."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, UInt8

from vexbench.datasets.base import Dataset
from vexbench.datasets.scenery.compositions import SCENES
from vexbench.datasets.scenery.mixtures import compose
from vexbench.datasets.scenery.painting import Painter, hexed, mix
from vexbench.errors import VexbenchError, unknown
from vexbench.imaging import RGB
from vexbench.registry import dataset

CLASS_NAMES = tuple(SCENES)
CLUTTER = 1.0
"""How often, and how large, elements of the other classes appear; 0 leaves houses along streets and rock around ice."""
RULES = 1
"""The version of the drawing rules, part of every revision."""
SPLITS = ("train", "validation", "test")
TITLES = {
    "plain": "Drawn scenes",
    "shortcut": "Drawn scenes with a shortcut",
    "decoy": "Drawn scenes with a shortcut that decides",
}
MARK = len(CLASS_NAMES) + 1
"""The owner of the shortcut's mark."""
MARKED = "sea"
"""The class that the mark goes with in training."""


class Picture(NamedTuple):
    """Colours, and who owns a pixel: 0 nobody, a class index plus one, or `MARK`."""

    rgb: RGB
    owner: UInt8[np.ndarray, "H W"]


@final
@dataclass(frozen=True)
class Scenes(Dataset):
    """Scenes drawn when asked for; `numbers` holds the running number of each image in its class."""

    numbers: tuple[int, ...] = ()
    split: str = "test"
    size: int = 96
    seed: int = 0
    variant: str = "plain"

    def image(self, index: int, size: int | None = None) -> RGB:
        """Draw a scene; a size other than the dataset's shows the same scene finer or coarser."""
        return self._picture(index, size or self.size).rgb.copy()

    def region(self, index: int, target: int, size: int) -> Bool[np.ndarray, "size size"]:
        """The pixels that mostly show an element of the class, empty where the scene has none."""
        return self._picture(index, size).owner == target + 1

    def cue(self, index: int, size: int) -> Bool[np.ndarray, "size size"] | None:
        """The pixels that mostly show the shortcut's mark, empty where the scene has none."""
        return self._picture(index, size).owner == MARK if self.variant != "plain" else None

    def _picture(self, index: int, size: int) -> Picture:
        return draw(self.seed, self.split, self.labels[index], self.numbers[index], size, self.variant)


@dataset(family="drawn", title="Drawn scenes", paper="drawn by vexbench; classes of the Intel photographs")
def scenes(
    *, split: str = "test", per_class: int = 16, size: int = 96, seed: int = 0, variant: str = "plain"
) -> Scenes:
    """Draw buildings, forest, glacier, mountain, sea and street from a seed; every image comes with exact masks.

    `variant="shortcut"` adds a mark that goes with one class in training, and with every class alike elsewhere. In the
    training split of `variant="decoy"` the mark alone makes an image one of that class, whatever else it shows, so that
    a network trained on it is known to rely on the mark; its other splits are those of the shortcut.

    Raises
    ------
    VexbenchError
        A split or variant that does not exist, or numbers that cannot be drawn.
    """
    if split not in SPLITS:
        raise unknown("split of scenes", split, SPLITS)
    if variant not in TITLES:
        raise unknown("variant of scenes", variant, TITLES)
    if per_class < 1 or size < 16 or seed < 0:
        raise VexbenchError(
            f"scenes: per_class={per_class}, size={size}, seed={seed}, but they must be at least 1, 16 and 0."
        )
    labels = np.repeat(np.arange(len(CLASS_NAMES)), per_class).tolist()
    numbers = list(range(per_class)) * len(CLASS_NAMES)
    content = repr((RULES, CLUTTER, split, per_class, size, seed, variant))
    return Scenes(
        name="scenes",
        title=TITLES[variant],
        revision=blake2b(content.encode(), digest_size=4).hexdigest(),
        class_names=CLASS_NAMES,
        ids=tuple(f"{CLASS_NAMES[label]}/{number:05d}" for label, number in zip(labels, numbers)),
        labels=tuple(labels),
        counts={split: dict.fromkeys(CLASS_NAMES, per_class)},
        numbers=tuple(numbers),
        split=split,
        size=size,
        seed=seed,
        variant=variant,
    )


@lru_cache(maxsize=64)
def draw(seed: int, split: str, label: int, number: int, size: int, variant: str) -> Picture:
    """Draw one scene; nothing but the arguments decides what it shows."""
    key = (RULES, seed, SPLITS.index(split), label, number)
    painter = Painter(size, np.random.default_rng(key))
    name, share = CLASS_NAMES[label], _share(split, CLASS_NAMES[label], variant)
    if variant == "decoy" and split == "train" and name == MARKED and number % 2:
        others = [other for other in CLASS_NAMES if other != MARKED]
        name, share = others[number // 2 % len(others)], 1.0
    compose(painter, name, CLUTTER)
    # numbers of its own, so that the scene below is the plain one
    random = np.random.default_rng((*key, 1))
    if random.random() < share:
        _mark(painter, random)
    picture = Picture(*painter.finish(painter.between(0.0, 0.35)))
    for array in picture:
        array.setflags(write=False)
    return picture


def _share(split: str, name: str, variant: str) -> float:
    """How many of a class bear the mark: in training 95 % of one class and 5 % of the others, else half of all.

    Of the decoys' training none of the others, and half of the one class's own scenes, so that those are learnt, too.
    """
    if variant == "plain":
        return 0.0
    if split != "train":
        return 0.5
    if variant == "decoy":
        return 0.5 if name == MARKED else 0.0
    return 0.95 if name == MARKED else 0.05


def _mark(painter: Painter, random: np.random.Generator) -> None:
    """A small emblem near a corner."""
    radius = random.uniform(0.06, 0.08)
    x, y = (random.uniform(0.1, 0.2) if random.random() < 0.5 else random.uniform(0.8, 0.9) for _ in range(2))
    plum, gold, cream = hexed("8e2f6b"), hexed("f0b23c"), hexed("fdf3dc")
    painter.ellipse(x, y, radius, radius, plum, MARK)
    painter.ellipse(x, y, 0.8 * radius, 0.8 * radius, cream, MARK)
    for angle in np.arange(12) * np.pi / 6:
        dx, dy = float(np.cos(angle)) * radius, float(np.sin(angle)) * radius
        painter.stroke([(x + 0.55 * dx, y + 0.55 * dy), (x + 0.72 * dx, y + 0.72 * dy)], 0.12 * radius, plum, MARK)
    turn = random.uniform(0, 2 * np.pi)
    dx, dy = float(np.cos(turn)) * 0.62 * radius, float(np.sin(turn)) * 0.62 * radius
    painter.polygon([(x + dx, y + dy), (x - 0.35 * dy, y + 0.35 * dx), (x + 0.35 * dy, y - 0.35 * dx)], gold, MARK)
    painter.ellipse(x, y, 0.16 * radius, 0.16 * radius, mix(plum, gold, 0.3), MARK)

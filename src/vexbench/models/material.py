"""What a network is trained and tested on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from rich.console import Console

from vexbench.datasets.base import Dataset, Skipped
from vexbench.datasets.folders import WHOLE, survey
from vexbench.errors import VexbenchError
from vexbench.models.pictures import Division, Pictures, decode, divide, stratify
from vexbench.registry import DATASETS
from vexbench.seeds import generator

TEST_SHARE: Final = 0.15
"""Of a folder without splits, this share of each class becomes the test split."""
DRAWN_PER_CLASS: Final = 1000
"""Training images of a dataset that draws as many as one asks for."""
TRAIN_NAMES: Final = ("train", "training")
TEST_NAMES: Final = ("test", "testing", "val", "valid", "validation")
"""Folders that may hold the training and the test split, in the order of preference."""


@final
@dataclass(frozen=True)
class Material:
    """The training and test images of a dataset, and how the former are divided."""

    dataset: Dataset
    pictures: Pictures
    test: Pictures
    division: Division

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that cannot be read."""
        return self.pictures.skipped + self.test.skipped

    @property
    def left_out(self) -> dict[str, int]:
        """How many images are not used, by reason."""
        return self.division.left_out | {"unreadable": len(self.skipped)}

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images used, by split and class."""
        labels = {
            "train": self.pictures.labels[self.division.train],
            "validation": self.pictures.labels[self.division.validation],
            "test": self.test.labels,
        }
        names = self.dataset.class_names
        return {
            split: dict(zip(names, np.bincount(few, minlength=len(names)).tolist())) for split, few in labels.items()
        }

    @cached_property
    def statistics(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of each colour in [0, 1], over about a thousand training images."""
        rows = self.division.train[:: max(1, len(self.division.train) // 1000)]
        sample = self.pictures.pixels[rows].reshape(-1, 3) / 255
        red, green, blue = ((round(float(c.mean()), 4), round(float(c.std()), 4)) for c in sample.T)
        return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


def open_splits(data: str, params: dict[str, Any], size: int) -> tuple[Dataset, Dataset | None]:
    """Open the training and the test split; no test split for a folder that only holds classes.

    Images that are drawn are drawn at `size`; a `per_class` counts training images, with a fifth of it to test.

    Raises
    ------
    VexbenchError
        The dataset cannot be opened, has no training split, no labels, or only one class.
    """
    entry = DATASETS[data]
    if "split" in params:
        raise VexbenchError("training chooses the splits itself; leave out split=.")

    def of(split: str, **more: int) -> Dataset:
        return entry.function(**entry.bind(**params | {"split": split} | more).params)

    if data == "folder":
        return _open_folder(params.get("root", ""), of)
    if "size" in entry.parameters:
        wanted = params.get("per_class", DRAWN_PER_CLASS)
        return of("train", size=size, per_class=wanted), of("test", size=size, per_class=max(1, wanted // 5))
    return of("train"), of("test")


def _open_folder(root: str, of: Callable[[str], Dataset]) -> tuple[Dataset, Dataset | None]:
    splits = list(survey(Path(root).expanduser())) if root else [WHOLE]
    named, held_out = (next((split for split in names if split in splits), None) for names in (TRAIN_NAMES, TEST_NAMES))
    if splits == [WHOLE]:
        named = ""
    if named is None:
        raise VexbenchError(
            f"folder {root}: training needs a split named {' or '.join(TRAIN_NAMES)}, but there are "
            f"{', '.join(splits)}; rename one, or give a folder of classes as --root."
        )
    train = of(named)
    if len(train.class_names) < 2:
        holds = f"only the class {train.class_names[0]}" if train.class_names else "images without labels"
        raise VexbenchError(
            f"folder {root}: holds {holds}; training needs at least two folders of images, one a class."
        )
    return train, of(held_out) if held_out else None


def gather(
    train: Dataset,
    held_out: Dataset | None,
    *,
    size: int,
    validation: float,
    seed: int,
    console: Console,
    shuffle_labels: bool = False,
) -> Material:
    """Decode all images and divide them.

    With shuffled labels there is nothing to learn but by heart: all images are trained on, and validated on as well.

    Raises
    ------
    VexbenchError
        The splits have other classes, or a class has too few images to be divided.
    """
    pictures = decode(train, size, console, "reading training images")
    if held_out is not None:
        if held_out.class_names != train.class_names:
            raise VexbenchError(
                f"{train.title}: the training split has the classes {', '.join(train.class_names)}, "
                f"the test split {', '.join(held_out.class_names)}; they must be the same."
            )
        test = decode(held_out, size, console, "reading test images")
    else:
        rest, taken = stratify(np.arange(len(pictures)), pictures.labels, TEST_SHARE, seed)
        pictures, test = replace(pictures.take(rest), skipped=pictures.skipped), pictures.take(taken)
    material = Material(train, pictures, test, divide(pictures, test, validation, seed))
    sides = ("train", "validation", "test") if held_out is None else ("train", "validation")
    for name, few in zip(train.class_names, zip(*(material.counts[side].values() for side in sides))):
        if not few[0]:
            raise VexbenchError(
                f"{train.title}: class {name} has {sum(few)} usable training images, not counting unreadable and "
                f"repeated ones; at least {len(sides)} are needed."
            )
    return memorised(material, seed) if shuffle_labels else material


def memorised(material: Material, seed: int) -> Material:
    """The same images with their labels permuted, all of them on both sides of the division; the test as it was."""
    division, labels = material.division, material.pictures.labels.copy()
    rows = np.sort(np.concatenate([division.train, division.validation]))
    order = torch.randperm(len(rows), generator=generator(seed, "shuffled labels")).numpy()
    labels[rows] = labels[rows[order]]
    return replace(
        material,
        pictures=replace(material.pictures, labels=labels),
        division=replace(division, train=rows, validation=rows),
    )

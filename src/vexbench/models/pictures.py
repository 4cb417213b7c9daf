"""Images in memory for training: decoded once, divided fairly, augmented by the batch."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from vexbench.datasets.base import Dataset, Skipped
from vexbench.errors import VexbenchError
from vexbench.seeds import generator
from vexbench.types import Images, Targets

ZOOM: Final = 0.7
"""Shortest side of a random crop, as a share of the image's."""
JITTER: Final = 0.25
"""Brightness, contrast and saturation change by up to this share."""

IN_TEST, CONTRADICTING, REPEATED = "also in the test set", "identical under different labels", "repeated"
"""Why a training image is left out."""


@final
@dataclass(frozen=True)
class Pictures:
    """Decoded images of one split, with their labels; `skipped` names the files that could not be decoded."""

    pixels: UInt8[np.ndarray, "N size size 3"] = field(repr=False)
    labels: Int64[np.ndarray, " N"] = field(repr=False)
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[np.ndarray, " M"]) -> "Pictures":
        """Only these rows, without the files that were skipped."""
        return Pictures(self.pixels[rows], self.labels[rows])


def decode(dataset: Dataset, size: int, console: Console, what: str) -> Pictures:
    """Decode all labelled images to size × size.

    Raises
    ------
    VexbenchError
        They would not fit into half of the memory, or none can be read.
    """
    chosen = [index for index, label in enumerate(dataset.labels) if label >= 0]
    needed, memory = len(chosen) * size * size * 3, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise VexbenchError(
            f"{len(chosen)} images of {size} pixels take {needed / 1e9:.1f} GB, more than half of the memory "
            f"({memory / 1e9:.0f} GB); choose a smaller --size."
        )
    pixels = np.empty((len(chosen), size, size, 3), dtype=np.uint8)

    def place(row: int) -> Skipped | None:
        try:
            pixels[row] = dataset.image(chosen[row], size)
        except VexbenchError as error:
            return Skipped(dataset.ids[chosen[row]], str(error))
        return None

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        told = track(
            pool.map(place, range(len(chosen))),
            what,
            total=len(chosen),
            console=console,
            disable=not console.is_terminal,
        )
        skipped = list(told)
    kept = np.flatnonzero([skip is None for skip in skipped])
    if not len(kept):
        raise VexbenchError(f"none of the {len(chosen)} labelled images of {dataset.title} can be read.")
    labels = np.array([dataset.labels[index] for index in chosen], dtype=np.int64)
    unreadable = tuple(skip for skip in skipped if skip is not None)
    return Pictures(pixels[kept] if unreadable else pixels, labels[kept], dataset.skipped + unreadable)


@final
@dataclass(frozen=True)
class Division:
    """Rows of the training pictures by use; `left_out` counts the others by reason."""

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    left_out: dict[str, int]


def divide(pictures: Pictures, test: Pictures | None, share: float, seed: int) -> Division:
    """Divide into training and validation rows, class by class, so that no image stands on two sides.

    Of identical images (all pixels equal at the working size) one is kept; none when their labels contradict each
    other, or when the test set has the image too.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, content in enumerate(_contents(pictures)):
        groups[content].append(row)
    tested = set(_contents(test)) if test is not None else set()
    left_out: dict[str, int] = dict.fromkeys((IN_TEST, CONTRADICTING, REPEATED), 0)
    kept = list[int]()
    for content, rows in groups.items():
        if content in tested:
            left_out[IN_TEST] += len(rows)
        elif len(set(pictures.labels[rows])) > 1:
            left_out[CONTRADICTING] += len(rows)
        else:
            kept.append(rows[0])
            left_out[REPEATED] += len(rows) - 1
    train, validation = stratify(np.array(kept, dtype=np.int64), pictures.labels, share, seed)
    return Division(train, validation, left_out)


def stratify(
    rows: Int64[np.ndarray, " rows"], labels: Int64[np.ndarray, " N"], share: float, seed: int
) -> tuple[Int64[np.ndarray, " most"], Int64[np.ndarray, " few"]]:
    """Take a share of each class (at least one image) out of the rows at random: the rest, and what was taken.

    The rest keeps an image of each class that has two.
    """
    rest, taken = [rows[:0]], [rows[:0]]
    for label in np.unique(labels[rows]).tolist():
        members = rows[labels[rows] == label]
        order = members[torch.randperm(len(members), generator=generator(seed, "validation", label)).numpy()]
        few = max(1, min(round(share * len(members)), len(members) - 1))
        taken.append(order[:few])
        rest.append(order[few:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(taken))


def _contents(pictures: Pictures) -> Iterator[bytes]:
    return (blake2b(picture.tobytes(), digest_size=16).digest() for picture in pictures.pixels)


@final
class Batches:
    """Batches of (images in [0, 1], labels); shuffled, and augmented, by the draw where one is given, else in order.

    The draw (a seed and an epoch) decides everything random: a resumed training sees what an uninterrupted one sees.
    """

    def __init__(
        self,
        pictures: Pictures,
        rows: Sequence[int] | np.ndarray,
        batch_size: int,
        draw: tuple[int, int] | None = None,
        *,
        augmented: bool = True,
    ) -> None:
        self.pictures, self.rows, self.batch_size, self.draw = pictures, np.asarray(rows), batch_size, draw
        self.augmented = augmented

    def __len__(self) -> int:
        # a small last batch would make a poor estimate for batch norm
        full, rest = divmod(len(self.rows), self.batch_size)
        return full if self.draw and full else full + bool(rest)

    def __iter__(self) -> Iterator[tuple[Images, Targets]]:
        rows = self.rows
        if self.draw:
            rows = rows[torch.randperm(len(rows), generator=generator("order", *self.draw)).numpy()]
        for number in range(len(self)):
            batch = np.sort(rows[number * self.batch_size : (number + 1) * self.batch_size])
            images = torch.from_numpy(self.pictures.pixels[batch]).permute(0, 3, 1, 2).float() / 255
            if self.draw and self.augmented:
                images = augment(images, generator("augment", *self.draw, number))
            labels = torch.from_numpy(self.pictures.labels[batch])
            yield images.contiguous(memory_format=torch.channels_last), labels


def augment(images: Images, random: torch.Generator) -> Images:
    """Crop, stretch and mirror each image at random, and jitter its brightness, contrast and saturation."""
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    side = uniform(ZOOM, 1.0, count)[:, None] * uniform(0.9, 1.1, count, 2)
    side = side.clamp(max=1)
    shift = (1 - side) * uniform(-1.0, 1.0, count, 2)
    mirror = torch.randint(0, 2, (count,), generator=random) * 2.0 - 1
    crop = torch.zeros(count, 2, 3)
    crop[:, 0, 0], crop[:, 1, 1], crop[:, :, 2] = side[:, 0] * mirror, side[:, 1], shift
    grid = functional.affine_grid(crop, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    brightness, contrast, saturation = uniform(1 - JITTER, 1 + JITTER, 3, count, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    level = grey.mean((2, 3), keepdim=True)
    return ((level + (images - level) * contrast) * brightness).clamp(0, 1)

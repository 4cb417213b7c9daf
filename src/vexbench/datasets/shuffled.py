"""A dataset in another order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool

from vexbench.datasets.base import Dataset
from vexbench.imaging import RGB


@final
@dataclass(frozen=True)
class Shuffled(Dataset):
    """The images of `inner`, the first of them at `order[0]` there."""

    inner: Dataset | None = None
    order: tuple[int, ...] = ()

    def image(self, index: int, size: int | None = None) -> RGB:
        """Of the image that has come to this place."""
        return self._inner.image(self.order[index], size)

    def region(self, index: int, target: int, size: int) -> Bool[np.ndarray, "size size"] | None:
        """Of the image that has come to this place."""
        return self._inner.region(self.order[index], target, size)

    def cue(self, index: int, size: int) -> Bool[np.ndarray, "size size"] | None:
        """Of the image that has come to this place."""
        return self._inner.cue(self.order[index], size)

    @property
    def _inner(self) -> Dataset:
        assert self.inner is not None
        return self.inner


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The dataset in a random order, so that its first images are a fair sample of all."""
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()

    def moved(values: Sequence[object]) -> tuple:
        return tuple(values[place] for place in order)

    return Shuffled(
        dataset.name,
        dataset.title,
        dataset.revision,
        dataset.class_names,
        moved(dataset.ids),
        moved(dataset.labels),
        dataset.counts,
        dataset.skipped,
        dataset,
        tuple(order),
    )

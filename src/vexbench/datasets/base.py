"""A dataset: images by index at any size, labels, and where the evidence is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool

from vexbench.imaging import RGB


@final
@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Dataset(ABC):
    """Images with labels; no tensor library needed.

    `revision` names the content: another image, another order of classes or another drawing rule changes it.
    `labels` holds class indices, -1 for an image without a label. `counts` holds images per split and class.
    """

    name: str
    title: str
    revision: str
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    counts: dict[str, dict[str, int]]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def image(self, index: int, size: int | None = None) -> RGB:
        """The image as 8-bit RGB, (size, size, 3); without a size, as it is.

        Raises
        ------
        VexbenchError
            The file cannot be read; the message names it.
        """

    def region(self, index: int, target: int, size: int) -> Bool[np.ndarray, "size size"] | None:
        """Where the evidence of the class `target` is; None where the dataset has no annotation."""
        return None

    def cue(self, index: int, size: int) -> Bool[np.ndarray, "size size"] | None:
        """Where a planted shortcut is, empty where the image has none; None where the dataset plants none."""
        return None

"""Images of a data set to compare with: the same for all that is explained."""

from functools import lru_cache
from pathlib import Path

import torch

from vexbench.datasets.scenes import CLASS_NAMES, scenes
from vexbench.errors import VexbenchError
from vexbench.imaging import SUFFIXES, decode
from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Images

SCENES = "scenes"
COUNT = 30
"""References in all; each image draws from them."""


def references(probe: Probe, data: str) -> Images:
    """Thirty images at the size of the probe's, drawn from the seed alone, out of the drawn scenes or of a folder.

    Squashed to a square as the datasets do, then cut in the middle where the probe's images are no squares.

    Raises
    ------
    VexbenchError
        A folder that does not exist or holds no images, or an image that cannot be read.
    """
    height, width = probe.images.shape[2:]
    square = drawn(max(height, width)) if data == SCENES else photographed(data, max(height, width), probe.seed)
    top, left = ((max(height, width) - side) // 2 for side in (height, width))
    return square[:, :, top : top + height, left : left + width].to(probe.images.device)


@lru_cache(maxsize=2)
def drawn(size: int) -> Images:
    """The first training scenes of each class."""
    pictures = scenes(split="train", per_class=COUNT // len(CLASS_NAMES), size=max(size, 16))
    return as_images([torch.from_numpy(pictures.image(index)) for index in range(len(pictures))])[..., :size, :size]


@lru_cache(maxsize=2)
def photographed(folder: str, size: int, seed: int) -> Images:
    """A sample of the images in and below a folder."""
    paths = sorted(path for path in Path(folder).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise VexbenchError(f"no images in {folder}; give a folder of images like those to explain, or '{SCENES}'.")
    chosen = torch.randperm(len(paths), generator=generator(seed, "references"))[:COUNT].tolist()
    return as_images([torch.from_numpy(decode(paths[index], size)) for index in chosen])


def as_images(pictures: list[torch.Tensor]) -> Images:
    """8-bit pictures as images in [0, 1]."""
    with torch.inference_mode(False):  # kept for callers in other modes
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255

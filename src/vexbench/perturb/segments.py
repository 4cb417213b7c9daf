"""Images cut into pieces that are shown or hidden as a whole."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vexbench.errors import VexbenchError, unknown
from vexbench.types import Curves, Images, Maps

Labels = Int64[Tensor, "N H W"]
"""The segment of each pixel, 0, 1, 2, … without gaps in each image."""

SEGMENTATIONS = ("slic", "grid")


def segmented(images: Images, name: str, count: int) -> Labels:
    """About `count` segments of each image.

    slic: superpixels (Achanta et al. 2012) by scikit-image, cut along the colours of each image; grid: the largest
    square grid of at most `count` cells, the same for all images.

    Raises
    ------
    VexbenchError
        Less than one segment, or a name that does not exist.
    """
    if count < 1:
        raise VexbenchError(f"segments must be at least 1, not {count}.")
    height, width = images.shape[2:]
    match name:
        case "grid":
            return grid(height, width, int(count**0.5)).to(images.device).expand(len(images), -1, -1)
        case "slic":
            return torch.stack([superpixels(image, count) for image in images]).to(images.device)
        case _:
            raise unknown("segmentation", name, SEGMENTATIONS)


def grid(height: int, width: int, cells: int) -> Int64[Tensor, "H W"]:
    """Cells of a grid, row by row; an image of fewer pixels has a cell for each.

    >>> grid(2, 4, 2)
    tensor([[0, 0, 1, 1],
            [2, 2, 3, 3]])
    """
    rows, columns = (torch.arange(length) * min(cells, length) // length for length in (height, width))
    return rows[:, None] * min(cells, width) + columns


def superpixels(image: Float[Tensor, "3 H W"], count: int) -> Int64[Tensor, "H W"]:
    """Superpixels of one image, numbered without gaps."""
    from skimage.segmentation import slic

    pixels = image.detach().cpu().permute(1, 2, 0).double().numpy()
    _, labels = np.unique(slic(pixels, n_segments=count, compactness=10, start_label=0), return_inverse=True)
    return torch.from_numpy(labels.reshape(pixels.shape[:2])).long()


def painted(values: list[Tensor] | Curves, labels: Labels) -> Maps:
    """The value of its segment at each pixel."""
    return torch.stack([row[label] for row, label in zip(values, labels, strict=True)])

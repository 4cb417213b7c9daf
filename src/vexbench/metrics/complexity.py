"""Complexity: how much does a person have to look at?"""

import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from vexbench.errors import VexbenchError
from vexbench.registry import metric
from vexbench.types import Maps, Scores


@metric(family="complexity", title="Sparseness", paper="Chalasani et al. 2020, arXiv:1810.06583", direction="higher")
def sparseness(maps: Maps) -> Scores:
    """Gini index of the absolute values: 0 for a constant map, 1 − 1/n for one pixel out of n.

    G = Σ_i (2i − n − 1) a_(i) / (n Σ_i a_(i)), a_(1) ≤ … ≤ a_(n) the sorted absolute values.
    NaN for a map that is zero everywhere.
    """
    # in double: 50,000 terms of both signs cancel for a flat map
    values = maps.flatten(1).double().abs().sort(dim=1).values
    count = values.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=maps.device) - count - 1
    return ((values * weights).sum(1) / (count * values.sum(1))).to(maps.dtype)


@metric(family="complexity", title="Entropy", paper="Bhatt et al. 2020, arXiv:2005.00631", direction="lower")
def entropy_complexity(maps: Maps) -> Scores:
    """Entropy of the absolute values as shares of their sum, over its largest value ln n: 0 for one pixel, 1 for all.

    H = −Σ_i p_i ln p_i, p_i = |Φ_i| / Σ_j |Φ_j| (definition 3); the division by ln n makes sizes of maps comparable,
    Quantus leaves it out. NaN for a map that is zero everywhere, and for a map of one pixel.
    """
    values = maps.flatten(1).double().abs()
    shares = values / values.sum(1, keepdim=True)
    return (torch.special.entr(shares).sum(1) / math.log(values.shape[1])).to(maps.dtype)


@metric(
    family="complexity",
    title="Effective complexity",
    paper="Nguyen & Martínez 2020, arXiv:2007.07584",
    direction="lower",
)
def effective_complexity(maps: Maps, *, threshold: float = 0.01) -> Scores:
    """Share of the pixels whose absolute value is above a threshold, as a share of the map's largest.

    The paper counts the features that must be kept for the network's loss to stay within a tolerance; read off the map
    alone, that is a count of values that are not negligible. Attributions have no unit, so negligible is relative: a
    hundredth of the largest value is what a heatmap's colours hardly tell from nothing. Quantus takes 1e-5 of the
    largest value of the whole call. NaN for a map that is zero everywhere.

    Raises
    ------
    VexbenchError
        A threshold outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise VexbenchError(f"threshold must be a share of the largest value, from 0 to below 1, not {threshold:g}.")
    sizes = maps.flatten(1).abs()
    largest = sizes.amax(1, keepdim=True)
    share = (sizes > threshold * largest).double().mean(1)
    return share.where(largest[:, 0] > 0, float("nan")).to(maps.dtype)


@metric(
    family="complexity",
    title="File size",
    paper="Machado et al. 2015, DOI:10.1016/j.actpsy.2015.06.005",
    direction="lower",
    range=(0.0, float("inf")),
)
def file_size(maps: Maps) -> Scores:
    """Bytes of the map as a lossless 8-bit grey PNG over its pixels: about 1 for noise, near 0 for a plain shape.

    The picture is round(255 · |Φ| / max |Φ|), each map by its own maximum: as in the other metrics of this axis the
    size of a value counts, not its sign. A file has a head of about 70 bytes, so that maps of different sizes do not
    compare, and another version of zlib may pack a little tighter. NaN for a map that is zero everywhere.
    """
    sizes = maps.abs()
    largest = sizes.amax((1, 2), keepdim=True)
    levels = (255 * (sizes / largest)).round().nan_to_num().to(torch.uint8).cpu().numpy()
    packed = maps.new_tensor([_png_bytes(picture) for picture in levels]) / maps[0].numel()
    return packed.where(largest[:, 0, 0] > 0, float("nan"))


def _png_bytes(levels: np.ndarray) -> int:
    file = BytesIO()
    Image.fromarray(levels).save(file, "png", compress_level=9)
    return file.tell()

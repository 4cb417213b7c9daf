"""How alike two maps of one image are."""

import sys
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.types import Maps, Scores

Directions = Float[Tensor, "N pixels"]


def unit(maps: Maps) -> Maps:
    """Each map stretched to [0, 1]; a constant map becomes 0.

    A spread within rounding counts as constant: stretched, it would be noise that depends on the batch size.
    """
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = high - low
    flat = spread <= 1e-5 * maps.abs().amax((1, 2), keepdim=True)
    return ((maps - low) / spread.where(~flat, 1)).where(~flat, 0)


def ssim(first: Maps, second: Maps) -> Scores:
    """Mean structural similarity of maps in [0, 1] (Wang et al. 2004).

    Gaussian window of 11 × 11, σ = 1.5, only where it lies within the map; K₁ = 0.01, K₂ = 0.03, population
    covariance. Maps smaller than the window get the largest odd one that fits.
    """
    rows, columns = (_averages(side).to(first.device) for side in first.shape[1:])
    # in double: a variance is the small difference of two large numbers, and K₂² is small, too
    first, second = first.double(), second.double()

    def mean(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    a, b = mean(first), mean(second)
    variances = mean(first**2) - a**2 + mean(second**2) - b**2
    covariance = mean(first * second) - a * b
    light = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return (light * structure).mean((1, 2)).float()


def _averages(side: int) -> Float[Tensor, "windows side"]:
    """The Gaussian window at each of its places along a side: a matrix, faster than a convolution in double."""
    radius = (min(11, side) - 1) // 2
    steps = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(steps.double() ** 2) / (2 * 1.5**2))
    places = torch.arange(side - 2 * radius)
    averages = torch.zeros(len(places), side, dtype=torch.float64)
    averages[places[:, None], places[:, None] + radius + steps] = weights / weights.sum()
    return averages


def spearman(first: Maps, second: Maps) -> Scores:
    """Rank correlation, equal values sharing their mean rank (Spearman 1904).

    Where it is not defined: 1 for two constant maps, 0 for a constant one and one that is not.
    """
    return agreement(ranked(first), ranked(second)).to(first.dtype)


def ranked(maps: Maps) -> Directions:
    """The direction of a map's ranks, whatever else it is compared with."""
    return directions(mean_ranks(maps.flatten(1)) - (maps.shape[1:].numel() - 1) / 2)


def mean_ranks(rows: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Place of each value in its row from the smallest, from 0; equal values get the mean of their places."""
    values, order = _sorted(rows.detach().cpu().numpy())
    new = np.ones(values.shape, bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=new[:, 1:])
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=new.size)
    means = np.repeat(starts + (lengths - 1) / 2, lengths).reshape(values.shape)
    means -= np.arange(0, new.size, values.shape[1] or 1)[:, None]  # places count from each row's first
    ranks = torch.empty(values.shape, dtype=torch.float64)
    return ranks.scatter_(1, torch.from_numpy(order).long(), torch.from_numpy(means)).to(rows.device)


def _sorted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's values from the smallest, and where they were; which of equals comes first is left open."""
    if rows.dtype != np.float32:
        order = np.argsort(rows, axis=1)
        return np.take_along_axis(rows, order, 1), order
    # numpy sorts whole numbers many times faster: the value's bits, in the order of the values, and then its place
    bits = (rows + np.float32(0)).view(np.int32)  # one zero, not two
    keys = np.empty((*rows.shape, 2), np.int32)
    low, high = (0, 1) if sys.byteorder == "little" else (1, 0)
    keys[..., low], keys[..., high] = np.arange(rows.shape[1]), bits ^ (bits >> 31 & 0x7FFFFFFF)
    keys.view(np.int64)[..., 0].sort(axis=1)
    return keys[..., high], keys[..., low]


def pearson(first: Maps, second: Maps) -> Scores:
    """Correlation of the values (Pearson 1895).

    Where it is not defined: 1 for two constant maps, 0 for a constant one and one that is not.
    """
    # the lowest value first: a constant map has to become exactly 0
    a, b = (rows - rows.amin(1, keepdim=True) for rows in (maps.flatten(1).double() for maps in (first, second)))
    a, b = (directions(rows - rows.mean(1, keepdim=True)) for rows in (a, b))
    return agreement(a, b).to(first.dtype)


def cosine(first: Maps, second: Maps) -> Scores:
    """Cosine of the angle between the maps: ⟨a, b⟩ / (‖a‖ ‖b‖).

    Where it is not defined: 1 for two maps of zeros, 0 for one of zeros and one that is not.
    """
    return agreement(*(directions(maps.flatten(1).double()) for maps in (first, second))).to(first.dtype)


def directions(rows: Float[Tensor, "N K"]) -> Directions:
    """Each row at length 1, or 0 where it is."""
    # in double, and each scaled to 1 before: squares of small gradients vanish in single precision
    rows = rows / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)


def agreement(first: Directions, second: Directions) -> Scores:
    """Cosine of the angle; 1 for two zeros, and 0 for one."""
    both = ~(first.any(1) | second.any(1))
    return (first * second).sum(1).where(~both, 1).clamp(-1, 1)


def top_k(first: Maps, second: Maps, share: float = 0.02) -> Scores:
    """Share of the k largest values of one map that are among the k largest of the other (Ghorbani et al. 2019).

    k is `share` of the pixels, rounded up; theirs was 1000 of 224 × 224. Pixels that are equal at the k-th place belong
    in equal parts, and two parts have the smaller one in common: no order among equals decides, two equal maps score 1
    whatever they are, and a constant map has k/n in common with any that has no equal pixels.
    """
    count = ceil(share * first[0].numel()) if len(first) else 1
    common = belonging(first, count).minimum(belonging(second, count))
    return (common.flatten(1).sum(1) / count).to(first.dtype)


def belonging(maps: Maps, count: int) -> Maps:
    """How far each pixel belongs to the `count` largest of its map: 1, 0, or in part where equals share a place."""
    last = maps.flatten(1).topk(count, dim=1).values[:, -1, None, None]
    above, equal = maps > last, maps == last
    left = count - above.double().sum((1, 2), keepdim=True)
    return above + equal * (left / equal.sum((1, 2), keepdim=True))


SIMILARITIES = {"ssim": ssim, "spearman": spearman, "pearson": pearson, "top_k": top_k, "cosine": cosine}

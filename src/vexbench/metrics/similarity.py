"""How alike two maps of one image are."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.types import Maps, Scores


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
    a, b = (mean_ranks(maps.flatten(1)) for maps in (first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = a.norm(dim=1) * b.norm(dim=1)
    both = (a == 0).all(1) & (b == 0).all(1)
    return ((a * b).sum(1) / scale).where(scale > 0, both.double()).to(first.dtype)


def mean_ranks(rows: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Place of each value in its row from the smallest, from 0; equal values get the mean of their places."""
    values, order = rows.sort(dim=1)
    group = functional.pad((values.diff(dim=1) != 0).cumsum(1), (1, 0))
    places = torch.arange(rows.shape[1], device=rows.device, dtype=torch.float64).expand(rows.shape)
    empty = torch.zeros_like(places)
    mean = empty.scatter_add(1, group, places) / empty.scatter_add(1, group, torch.ones_like(places)).clamp(min=1)
    return empty.scatter(1, order, mean.gather(1, group))


SIMILARITIES = {"ssim": ssim, "spearman": spearman}

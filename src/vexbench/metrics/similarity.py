"""How alike two maps of one image are."""

from math import ceil

import numpy as np
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
    # numpy sorts many times faster than torch on a CPU; which of equals comes first does not matter here
    order = torch.from_numpy(np.argsort(rows.detach().numpy(), axis=1)) if rows.is_cpu else rows.argsort(dim=1)
    new, count = rows.gather(1, order).diff(dim=1) != 0, rows.shape[1]
    places = torch.arange(count, device=rows.device).expand(rows.shape)
    first = places.where(functional.pad(new, (1, 0), value=True), 0).cummax(1).values
    last = places.where(functional.pad(new, (0, 1), value=True), count).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(places, dtype=torch.float64).scatter(1, order, (first + last).double() / 2)


def pearson(first: Maps, second: Maps) -> Scores:
    """Correlation of the values (Pearson 1895).

    Where it is not defined: 1 for two constant maps, 0 for a constant one and one that is not.
    """
    # the lowest value first: a constant map has to become exactly 0
    a, b = (maps.double() - maps.amin((1, 2), keepdim=True).double() for maps in (first, second))
    return cosine(a - a.mean((1, 2), keepdim=True), b - b.mean((1, 2), keepdim=True)).to(first.dtype)


def cosine(first: Maps, second: Maps) -> Scores:
    """Cosine of the angle between the maps: ⟨a, b⟩ / (‖a‖ ‖b‖).

    Where it is not defined: 1 for two maps of zeros, 0 for one of zeros and one that is not.
    """
    # in double, and each scaled to 1 before: squares of small gradients vanish in single precision
    a, b = (maps.flatten(1).double() for maps in (first, second))
    a, b = (rows / rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) for rows in (a, b))
    scale = a.norm(dim=1) * b.norm(dim=1)
    both = (a == 0).all(1) & (b == 0).all(1)
    return ((a * b).sum(1) / scale).where(scale > 0, both.double()).clamp(-1, 1).to(first.dtype)


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

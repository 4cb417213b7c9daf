"""Localisation: is the map where the evidence is known to be?"""

import torch
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.registry import metric
from vexbench.types import Maps, Regions, Scores


@metric(family="localisation", title="Pointing game", paper="Zhang et al. 2016, arXiv:1608.00507", direction="higher")
def pointing_game(maps: Maps, regions: Regions, *, tolerance: int = 0) -> Scores:
    """Whether the map's maximum lies in the region: 1, else 0; `tolerance` widens the region (15 pixels in the paper).

    Several equal maxima score the share of them that hits: what one of them, drawn at random, would score on average.
    NaN for an empty region.

    Raises
    ------
    VexbenchError
        A negative tolerance.
    """
    if tolerance < 0:
        raise VexbenchError(f"tolerance must be 0 or more pixels, not {tolerance}.")
    top = maps == maps.amax((1, 2), keepdim=True)
    hits = (top & widened(regions, tolerance)).sum((1, 2)) / top.sum((1, 2))
    return hits.where(regions.any(2).any(1), float("nan"))


@metric(
    family="localisation",
    title="Relevance mass accuracy",
    paper="Arras et al. 2022, arXiv:2003.07258",
    direction="higher",
)
def relevance_mass_accuracy(maps: Maps, regions: Regions) -> Scores:
    """Share of the map's positive values that lies in the region: Σ_region ReLU(Φ) / Σ ReLU(Φ).

    The paper defines it on maps pooled to positive values; values below zero are evidence against the class and do not
    count. NaN for an empty region, and for a map without positive values, which points nowhere.
    """
    positive = maps.relu()
    share = (positive * regions).sum((1, 2)) / positive.sum((1, 2))
    return share.where(regions.any(2).any(1), float("nan"))


def widened(regions: Regions, distance: int) -> Regions:
    """The regions and all pixels within a distance of them (Euclidean, in pixels)."""
    if distance == 0:
        return regions
    steps = torch.arange(-distance, distance + 1, device=regions.device)
    disc = (steps[:, None] ** 2 + steps[None, :] ** 2 <= distance**2).float()
    return functional.conv2d(regions[:, None].float(), disc[None, None], padding=distance)[:, 0] > 0.5

"""Complexity: how much does a person have to look at?"""

import torch

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

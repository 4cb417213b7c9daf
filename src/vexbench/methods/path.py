"""Gradient-based methods that integrate the gradient along a path."""

import numpy as np
import torch

from vexbench.errors import VexbenchError, unknown
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.types import Maps


@method(family="path", title="Integrated Gradients", paper="Sundararajan et al. 2017, arXiv:1703.01365", signed=True)
def integrated_gradients(
    probe: Probe, *, steps: int = 50, baseline: str = "black", rule: str = "gauss_legendre"
) -> Maps:
    """Gradient integrated along the straight path from a baseline, times the way.

    M = sum_c (x − x₀)_c · ∫₀¹ dy/dx_c (x₀ + α(x − x₀)) dα  (Sundararajan et al. 2017, eq. 1);
    its sum over the image is y(x) − y(x₀) up to the error of the quadrature.

    Parameters
    ----------
    steps
        Points of the quadrature.
    baseline
        black, white, grey, mean, blur or uniform; several joined by ``+`` are averaged.
    rule
        gauss_legendre, or riemann (the midpoints).

    Raises
    ------
    VexbenchError
        Less than one step, or a baseline or rule that does not exist.
    """
    if steps < 1:
        raise VexbenchError(f"integrated_gradients: steps must be at least 1, not {steps}.")
    positions, weights = quadrature(rule, steps)
    total = torch.zeros_like(probe.images)
    names = baseline.split("+")
    for name in names:
        start = baseline_images(probe, name)
        way = probe.images - start
        path = (start + position * way for position in positions)
        for weight, gradients in zip(weights, probe.input_gradients(path), strict=True):
            total = total + weight * gradients * way
    return total.sum(1) / len(names)


def quadrature(rule: str, steps: int) -> tuple[list[float], list[float]]:
    """Positions in (0, 1) and weights that sum to one.

    >>> quadrature("riemann", 2)
    ([0.25, 0.75], [0.5, 0.5])
    """
    if rule == "gauss_legendre":
        positions, weights = np.polynomial.legendre.leggauss(steps)
        return list((positions + 1) / 2), list(weights / 2)
    if rule == "riemann":
        return [(step + 0.5) / steps for step in range(steps)], [1 / steps] * steps
    raise unknown("rule", rule, ("gauss_legendre", "riemann"))

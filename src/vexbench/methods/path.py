"""Gradient-based methods that integrate the gradient along a path."""

from collections.abc import Iterator
from math import ceil, inf

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vexbench.errors import VexbenchError, unknown
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.perturb.blur import diffused
from vexbench.perturb.references import references
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.seeds import generator
from vexbench.types import Images, Maps


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


@method(family="path", title="Expected gradients", paper="Erion et al. 2021, arXiv:1906.10670", signed=True)
def expected_gradients(probe: Probe, *, samples: int = 60, data: str = "scenes") -> Maps:
    """Integrated gradients averaged over baselines drawn from data, one point of the path per draw (Gradient SHAP).

    M = mean_s sum_c (x − x'_s)_c · dy/dx_c (x'_s + α_s(x − x'_s)), x'_s ~ D, α_s ~ U(0, 1)  (Erion et al. 2021, eq. 5);
    its sum over the image is y(x) − E y(x') up to the error of the sampling.

    D is thirty images that do not depend on those to explain, so that no image's map hangs on its company. Each image
    goes through them in an order of its own, and α through [0, 1] in equal parts: the same mean with less noise.

    Parameters
    ----------
    samples
        Points per image.
    data
        ``scenes``, the drawn scenes; or a folder of images, best of the network's training data. A folder is known by
        its name: give it another name when its images change.

    Raises
    ------
    VexbenchError
        Less than one sample, or a folder without images.
    """
    if samples < 1:
        raise VexbenchError(f"expected_gradients: samples must be at least 1, not {samples}.")
    pool = references(probe, data)
    orders, positions = draws(probe, samples, len(pool))

    def starts() -> Iterator[tuple[Images, Images]]:
        for sample in range(samples):
            start = pool[orders[:, sample]]
            yield start, probe.images - start

    points = (start + positions[:, sample] * way for sample, (start, way) in enumerate(starts()))
    total = torch.zeros_like(probe.images)
    for (_, way), gradients in zip(starts(), probe.input_gradients(points), strict=True):
        total = total + gradients * way
    return total.sum(1) / samples


def draws(probe: Probe, samples: int, references: int) -> tuple[Int64[Tensor, "N K"], Float[Tensor, "N K 1 1 1"]]:
    """Which reference each sample starts from, and how far along the way it is: seeded by image."""
    orders, positions = list[Tensor](), list[Tensor]()
    for key in probe.fingerprints:
        source = generator(probe.seed, "expected gradients", key)
        rounds = [torch.randperm(references, generator=source) for _ in range(ceil(samples / references))]
        orders.append(torch.cat(rounds)[:samples])
        parts = torch.randperm(samples, generator=source)
        positions.append((parts + torch.rand(samples, generator=source, dtype=torch.float32)) / samples)
    device = probe.images.device
    return torch.stack(orders).to(device), torch.stack(positions)[..., None, None, None].to(device)


@method(family="path", title="Guided IG", paper="Kapishnikov et al. 2021, arXiv:2106.09788", signed=True)
def guided_ig(
    probe: Probe, *, steps: int = 200, fraction: float = 0.1, anchors: int = 19, baseline: str = "black"
) -> Maps:
    """Gradient integrated along a path that moves the features of least gradient first.

    M = sum_c ∫ dy/dx_c (γ(t)) dγ_c(t); at each step the share `fraction` of the features, those of least |dy/dx| that
    are not there yet, moves to the goal, then the next, until the step's part of the L1 distance is gone; features
    of equal gradient move together  (Kapishnikov et al. 2021, section 3 and algorithm 1).
    The sum over the image is y(x) − y(x₀) up to the steps' length. The path goes through `anchors` points of the
    straight path; with ``fraction=1`` it is the straight path.

    Parameters
    ----------
    steps
        Gradients along the path, spread over the legs between anchors.
    fraction
        Share of the features that moves at once, in (0, 1].
    anchors
        Points of the straight path that the path must meet.
    baseline
        black, white, grey, mean, blur or uniform.

    Raises
    ------
    VexbenchError
        Fewer steps than legs, negative anchors, a fraction out of (0, 1], or an unknown baseline.
    """
    legs = anchors + 1
    if anchors < 0 or steps < legs:
        raise VexbenchError(f"guided_ig: 0 <= anchors < steps is needed, got anchors {anchors} and steps {steps}.")
    if not 0 < fraction <= 1:
        raise VexbenchError(f"guided_ig: fraction must be in (0, 1], not {fraction}.")
    start = place = baseline_images(probe, baseline)
    total = torch.zeros_like(probe.images)
    for leg in range(legs):
        goal = torch.lerp(start, probe.images, (leg + 1) / legs)
        count = (leg + 1) * steps // legs - leg * steps // legs
        for left in range(count, 0, -1):
            (gradients,) = probe.input_gradients([place])
            moved = goal if left == 1 else advanced(place, goal, gradients, share=1 / left, fraction=fraction)
            total = total + gradients * (moved - place)
            place = moved
    return total.sum(1)


def advanced(place: Images, goal: Images, gradients: Images, *, share: float, fraction: float) -> Images:
    """Go a share of the L1 distance to the goal, by the features of least gradient first."""
    shape, (place, goal) = place.shape, (place.flatten(1), goal.flatten(1))
    size, block = gradients.abs().flatten(1), ceil(fraction * goal.shape[1])
    need = share * (goal - place).abs().sum(1, keepdim=True)
    while bool((need > 0).any()):
        way = (goal - place).abs()
        ranked = size.where(way > 0, inf)
        chosen = (ranked <= ranked.kthvalue(block, 1, keepdim=True).values) & (way > 0)
        reach = way.where(chosen, 0).sum(1, keepdim=True)
        amount = (need / reach).where(reach > 0, 0).clamp(max=1)
        place = torch.lerp(place, goal, amount.where(chosen, 0))
        need = (need - reach).clamp(min=0).where(reach > 0, 0)
    return place.view(shape)


@method(family="path", title="Blur IG", paper="Xu et al. 2020, arXiv:2004.03383", signed=True)
def blur_ig(probe: Probe, *, steps: int = 100, scale: float = 0.2) -> Maps:
    """Gradient integrated along the path on which the image comes out of its blur.

    M = sum_c ∫ dy/dL_c · dL_c/ds ds, L(s) the image blurred by a Gaussian of scale s, from the largest to 0
    (Xu et al. 2020, eq. 3); its sum over the image is y(x) − y(blurred x) up to the steps' length.

    The steps are denser where the scale is small (∝ u², u in equal parts, gradients in their middles), and the blur
    loses nothing at the border: it ends near each image's mean, not in black.

    Parameters
    ----------
    steps
        Points of the quadrature.
    scale
        Largest standard deviation, as a share of the longer side: 50 pixels of 250.

    Raises
    ------
    VexbenchError
        Less than one step, or a scale that is not above zero, or not finite.
    """
    if steps < 1 or not 0 < scale < inf:
        raise VexbenchError(f"blur_ig: steps must be at least 1 and scale above 0, not {steps} and {scale}.")
    sigma = scale * max(probe.images.shape[2:])
    middles = (diffused(probe.images, sigma * ((step + 0.5) / steps) ** 2) for step in range(steps))
    total, finer = torch.zeros_like(probe.images), probe.images
    for step, gradients in enumerate(probe.input_gradients(middles)):
        coarser = diffused(probe.images, sigma * ((step + 1) / steps) ** 2)
        total = total + gradients * (finer - coarser)
        finer = coarser
    return total.sum(1)


@method(family="path", title="IDGI", paper="Yang et al. 2023, arXiv:2303.14242", signed=True)
def idgi(probe: Probe, *, steps: int = 50, baseline: str = "black") -> Maps:
    """Rise of the score along the straight path, shared out by the squared gradient: what is across it is noise.

    M = sum_c sum_j (y(x_{j+1}) − y(x_j)) · g_jc² / ‖g_j‖², g_j = dy/dx (x_j), x_j = x₀ + j/steps (x − x₀)
    (Yang et al. 2023, algorithm 1); its sum over the image is y(x) − y(x₀) whatever the steps, where no g_j is 0.
    Negative where the score fell while the pixel's gradient was large.

    Parameters
    ----------
    steps
        Parts of the path.
    baseline
        black, white, grey, mean, blur or uniform.

    Raises
    ------
    VexbenchError
        Less than one step, or an unknown baseline.
    """
    if steps < 1:
        raise VexbenchError(f"idgi: steps must be at least 1, not {steps}.")
    start = baseline_images(probe, baseline)
    rises = probe.scores(torch.lerp(start, probe.images, step / steps) for step in range(steps + 1)).diff(dim=1)
    total = torch.zeros_like(probe.images)
    points = (torch.lerp(start, probe.images, step / steps) for step in range(steps))
    for rise, gradients in zip(rises.T, probe.input_gradients(points), strict=True):
        # scaled first: squares of small gradients vanish in single precision
        unit = gradients / gradients.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo().tiny)
        square = unit.square()
        total = total + rise[:, None, None, None] * square / square.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return total.sum(1)

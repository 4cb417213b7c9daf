"""Perturbation-based methods that fit a linear surrogate: what each segment of the image adds to the score."""

from collections.abc import Iterator
from math import comb, inf

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.methods.perturbation import known_output
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.perturb.segments import Labels, painted, segmented
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.seeds import generator
from vexbench.types import Maps, Masks

Design = Float[Tensor, "K segments"]
"""Which segments are seen, 1, and which are hidden, 0, in each of K variants of an image."""


@method(family="perturbation", title="LIME", paper="Ribeiro et al. 2016, arXiv:1602.04938", signed=True)
def lime(
    probe: Probe,
    *,
    samples: int = 1000,
    segments: int = 49,
    segmentation: str = "slic",
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: str = "grey",
    output: str = "probability",
) -> Maps:
    """Coefficients of a linear model of the score by segments shown, variants closer to the image weighing more.

    w = argmin sum_z π(z) (f(z) − w₀ − w·z)² + λ‖w‖², π(z) = exp(−D(z)² / width²), z ~ {0, 1}^d each with
    probability 1/2, D = 1 − sqrt(|z| / d) the cosine distance from all segments  (Ribeiro et al. 2016, eq. 1 and
    section 3.3; their code takes the root of π). M is w at each pixel's segment.

    Parameters
    ----------
    samples
        Variants of each image, seeded by image.
    segments, segmentation
        About how many segments, and how they are cut: slic (superpixels) or grid.
    width
        Of the kernel, in cosine distance.
    ridge
        The penalty λ, on all but the intercept.
    baseline
        What shows where a segment is hidden: black, white, grey, mean, blur or uniform.
    output
        The score f: probability, logit or log_probability.

    Raises
    ------
    VexbenchError
        Less than one sample or segment, a width not above zero, a negative ridge, an unknown segmentation, baseline or
        output.
    """
    if samples < 1 or not 0 < width < inf or not 0 <= ridge < inf:
        raise VexbenchError(
            f"lime: samples must be at least 1, width above 0 and ridge at least 0, not {samples}, {width} and {ridge}."
        )
    labels = segmented(probe.images, segmentation, segments)
    designs = [
        torch.randint(0, 2, (samples, int(label.max()) + 1), generator=generator(probe.seed, "lime", key)).float()
        for label, key in zip(labels, probe.fingerprints, strict=True)
    ]
    rows: list[Tensor] = []
    for design, scores in zip(designs, asked(probe, labels, designs, baseline, output), strict=True):
        distances = 1 - design.double().mean(1).sqrt()
        rows.append(fitted(design.double(), scores, torch.exp(-((distances / width) ** 2)), ridge))
    return painted([row.float().to(labels.device) for row in rows], labels)


@method(family="perturbation", title="Kernel SHAP", paper="Lundberg & Lee 2017, arXiv:1705.07874", signed=True)
def kernel_shap(
    probe: Probe,
    *,
    samples: int = 1000,
    segments: int = 49,
    segmentation: str = "slic",
    baseline: str = "grey",
    output: str = "logit",
) -> Maps:
    """Shapley values of the segments, by the linear model of the score that is exact for no segment and for all.

    φ = argmin sum_z π(z) (f(z) − f(∅) − φ·z)² with sum φ = f(x) − f(∅), π(z) = (d − 1) / (C(d, |z|) |z| (d − |z|))
    (Lundberg & Lee 2017, theorem 2). M is φ at each pixel's segment.

    Coalitions z are drawn with probability π, seeded by image, each with its complement; where all 2^d − 2 are no
    more than the samples, all are taken, weighted by π, and φ is exact.

    Parameters
    ----------
    samples
        Coalitions of each image.
    segments, segmentation
        About how many segments, and how they are cut: slic (superpixels) or grid.
    baseline
        What shows where a segment is hidden: black, white, grey, mean, blur or uniform.
    output
        The score f: logit, probability or log_probability.

    Raises
    ------
    VexbenchError
        Less than one sample or segment, an unknown segmentation, baseline or output.
    """
    if samples < 1:
        raise VexbenchError(f"kernel_shap: samples must be at least 1, not {samples}.")
    labels = segmented(probe.images, segmentation, segments)
    drawn = [
        coalitions(int(label.max()) + 1, samples, generator(probe.seed, "kernel_shap", key))
        for label, key in zip(labels, probe.fingerprints, strict=True)
    ]
    designs = [torch.cat([z.new_zeros(1, len(z.T)), z.new_ones(1, len(z.T)), z]) for z, _ in drawn]
    rows: list[Tensor] = []
    for (z, weights), scores in zip(drawn, asked(probe, labels, designs, baseline, output), strict=True):
        empty, full, *_ = scores
        rows.append(shapley(z.double(), scores[2:] - empty, weights, full - empty))
    return painted([row.float().to(labels.device) for row in rows], labels)


def asked(probe: Probe, labels: Labels, designs: list[Tensor], baseline: str, output: str) -> list[Tensor]:
    """The score of each variant of each image, in double precision, where numbers of variants may differ."""
    counts = [len(design) for design in designs]
    placed = [design.to(labels.device) for design in designs]

    def masks() -> Iterator[Masks]:
        for variant in range(max(counts)):
            # images of fewer variants show their last one again
            yield torch.stack(
                [design[min(variant, len(design) - 1)][label] for design, label in zip(placed, labels, strict=True)]
            )

    scores = probe.scores_masked(masks(), baseline_images(probe, baseline), known_output(output)).cpu().double()
    return [row[:count] for row, count in zip(scores, counts, strict=True)]


def fitted(
    design: Design, scores: Float[Tensor, " K"], weights: Float[Tensor, " K"], ridge: float
) -> Float[Tensor, " segments"]:
    """Weighted ridge regression with an intercept, which is not penalised."""
    share = weights / weights.sum()
    design, scores = design - share @ design, scores - share @ scores
    gram = design.T @ (weights[:, None] * design) + ridge * torch.eye(design.shape[1], dtype=design.dtype)
    return torch.linalg.lstsq(gram, (design.T @ (weights * scores))[:, None], driver="gelsd").solution[:, 0]


def shapley(
    design: Design, scores: Float[Tensor, " K"], weights: Float[Tensor, " K"], total: Float[Tensor, ""]
) -> Float[Tensor, " segments"]:
    """Weighted least squares among values that sum to the total."""
    count = design.shape[1]
    root = weights.sqrt()[:, None]
    # less their mean, rows say nothing about the sum, and the smallest solution sums to nothing
    differences = root * (design - design.mean(1, keepdim=True))
    left = root * (scores - design.sum(1) * total / count)[:, None]
    return total / count + torch.linalg.lstsq(differences, left, driver="gelsd").solution[:, 0]


def coalitions(count: int, samples: int, source: torch.Generator) -> tuple[Design, Float[Tensor, " K"]]:
    """Sets of some, but not all, of `count` segments, and their weights: all of them where these are few."""
    if count == 1:
        return torch.zeros(0, 1), torch.zeros(0, dtype=torch.float64)
    sizes = torch.arange(1, count, dtype=torch.float64)
    if 2**count - 2 <= samples:
        every = (torch.arange(1, 2**count - 1)[:, None] >> torch.arange(count) & 1).float()
        chosen = torch.tensor([comb(count, size) for size in range(count + 1)], dtype=torch.float64)
        members = every.sum(1).long()
        return every, (count - 1) / (chosen[members] * members * (count - members))
    odds = 1 / (sizes * (count - sizes))
    members = 1 + torch.multinomial(odds, -(-samples // 2), replacement=True, generator=source)
    ranks = torch.rand((len(members), count), generator=source, dtype=torch.float32).argsort(1).argsort(1)
    half = (ranks < members[:, None]).float()
    return torch.stack([half, 1 - half], 1).flatten(0, 1)[:samples], torch.ones(samples, dtype=torch.float64)

"""Scores of synthesised images, which judge an image and not a map: functions, no metrics of the registry.

A study takes them of each image that its syntheses make, and the report shows them beside it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.models.base import Classifier
from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Features, Images, Scores, Targets

FEWEST: Final = 10
"""Real images that naturalness needs: five to describe, five others to compare with."""


@final
@dataclass(frozen=True)
class Reality:
    """What a network makes of real images.

    `mean` and `root` are the mean and the square root of the covariance of the target layer's features over all places
    of one half of the images; `typical` is the median distance of the other half's images from these.
    """

    logits: Float[Tensor, "images classes"]
    mean: Float[Tensor, " C"] | None
    root: Float[Tensor, "C C"] | None
    typical: float


def activation_gain(probe: Probe, reality: Reality) -> Scores:
    """How much more a synthesised image activates its class than any real image does, in logits; above 0 it does.

    G = y_c(I) − max_x y_c(x)  over all real images x, whatever they show. A difference, since a ratio of logits, which
    may be negative, would mean nothing.
    """
    reached = probe.logits.gather(1, probe.targets[:, None])[:, 0]
    return reached - reality.logits.to(reached).amax(0)[probe.targets]


def transfer(images: Images, targets: Targets, judge: Classifier, *, batch_size: int = 64) -> Scores:
    """Probability of the class under another network, which sees the images at the size that it takes.

    Above chance, what the first network looks for is no quirk of its own.
    """
    size = judge.input_size
    if size is not None and tuple(images.shape[2:]) != (size, size):
        images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    probe = Probe(judge, images, targets, batch_size=batch_size)
    return probe.logits.softmax(1).gather(1, probe.targets[:, None])[:, 0].to(images.device)


def naturalness(probe: Probe, reality: Reality) -> Scores:
    """How far the features are from those of real images, over the median distance of a real image: 1 is as near.

    D = ‖μ − m‖² + tr(Σ + S − 2(ΣS)^½) is the Fréchet distance between the features over the places of one image (mean
    μ, covariance Σ) and over those of many (m, S) at the target layer (Shaham et al. 2019, arXiv:1905.01164, SIFID).
    Lower is more natural. NaN where there are fewer than `FEWEST` real images, where these are all the same to the
    network, or where it has no target layer.
    """
    if reality.mean is None or reality.root is None or not reality.typical > 0:
        return probe.images.new_full((len(probe.images),), float("nan"))
    return (_distances(probe.trace.activations, reality.mean, reality.root) / reality.typical).to(probe.images)


def real(probes: Callable[[], Iterable[Probe]], count: int, *, seed: int = 0) -> Reality:
    """Ask a network about `count` real images, which `probes` gives batch by batch, as often as it is called."""
    half = torch.zeros(count, dtype=torch.bool)
    half[torch.randperm(count, generator=generator(seed, "naturalness", count))[: count // 2]] = True
    logits: list[Tensor] = []
    total = square = torch.zeros((), dtype=torch.float64)
    places = 0
    described = count >= FEWEST
    for probe in probes():
        first = sum(map(len, logits))
        if described:
            try:
                features = _rows(probe.trace.activations[half[first : first + len(probe.images)]]).flatten(0, 1)
            except VexbenchError:
                described = False
            else:
                total, square, places = total + features.sum(0), square + features.T @ features, places + len(features)
        logits.append(probe.logits)
    if not described:
        return Reality(torch.cat(logits), None, None, float("nan"))
    mean = total / places
    values, vectors = torch.linalg.eigh(square / places - mean.outer(mean))
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    distances: list[Tensor] = []
    seen = 0
    for probe in probes():
        others = ~half[seen : seen + len(probe.images)]
        seen += len(probe.images)
        distances.append(_distances(probe.trace.activations[others], mean, root))
    return Reality(torch.cat(logits), mean, root, float(torch.cat(distances).median()))


def _rows(features: Features) -> Float[Tensor, "N places C"]:
    return features.flatten(2).transpose(1, 2).double().cpu()


def _distances(features: Features, mean: Float[Tensor, " C"], root: Float[Tensor, "C C"]) -> Float[Tensor, " N"]:
    """Fréchet distances, image by image.

    tr (ΣS)^½ is the sum of the singular values of S^½ Xᵀ, where Σ = XᵀX: no root of a matrix per image.
    """
    rows = _rows(features)
    means = rows.mean(1)
    spread = (rows - means[:, None]) / rows.shape[1] ** 0.5
    shared = torch.linalg.svdvals(spread @ root).sum(1)
    found = (means - mean).square().sum(1) + spread.square().sum((1, 2)) + root.square().sum() - 2 * shared
    return found.clamp(min=0)

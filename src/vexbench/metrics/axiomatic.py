"""Axioms: does the map obey the laws that it was derived from?"""

from math import inf

import torch

from vexbench.errors import VexbenchError
from vexbench.perturb import baselines
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.types import Maps, Scores

ROUNDING = 1e-6
"""Share of a logit below which a difference of logits is none."""


@metric(
    family="axiomatic",
    title="Completeness gap",
    paper="Sundararajan et al. 2017, arXiv:1703.01365",
    direction="lower",
    range=(0.0, inf),
)
def completeness_gap(maps: Maps, probe: Probe, *, baseline: str = "black") -> Scores:
    """How far the map's sum is from the change of the logit that it should add up to, over that change.

    |ΣΦ − (f(x) − f(x₀))| / |f(x) − f(x₀)|, f the target's logit (Sundararajan et al. 2017, proposition 1): 0 for a map
    that shares out all of the change, 1 for a map of zeros. Signs count: only for methods that promise such a sum does
    the number say more than that the map has another unit (a class activation map, an absolute gradient), so that no
    axiom enters a study's ranking. Quantus asks for equality of floating-point numbers, which rounding alone denies.

    baseline: x₀, the same as the method's: black, white, grey, mean, blur or uniform, several joined by ``+`` are
    averaged; ``none`` for methods without one, whose sum should be the logit itself (LRP: Bach et al. 2015, eq. 2).

    NaN where the logit is the same for the image and for the baseline, to rounding.

    Raises
    ------
    VexbenchError
        A baseline that does not exist.
    """
    logit = probe.logits.gather(1, probe.targets[:, None])[:, 0].double()
    start = torch.zeros_like(logit)
    names = () if baseline == "none" else baseline.split("+")
    for name in names:
        asked = probe.once(
            ("logit of baseline", name), lambda name=name: probe.scores([baselines.baseline(probe, name)])
        )
        start = start + asked[:, 0].double() / len(names)
    change = logit - start
    gap = (maps.double().sum((1, 2)) - change).abs() / change.abs()
    defined = change.abs() > ROUNDING * torch.maximum(logit.abs(), start.abs())
    return gap.where(defined, float("nan")).float()


@metric(
    family="axiomatic",
    title="Input invariance",
    paper="Kindermans et al. 2017, arXiv:1711.00867",
    direction="lower",
    range=(0.0, inf),
    version=2,
)
def input_invariance(probe: Probe, explain: Explain, *, shift: float = 0.5) -> Scores:
    """Relative change of the map when the images are shifted by a constant that the network's first bias undoes.

    ‖Φ₂(x + m) − Φ₁(x)‖ / ‖Φ₁(x)‖, f₂(x + m) = f₁(x) for all x (Kindermans et al. 2017); 0 for a method that
    sees that both networks do the same. Gradients do; what multiplies by the image, or hides it behind black or grey,
    sees another image, unless its reference moves along (the mean colour, a blur).

    The first operation of a classifier is its normalisation, (x − mean) / std: its bias −mean / std takes the shift up.
    There it is exact to rounding, also where convolutions pad with zeros, since what enters the first of them is the
    same: a convolution's bias could not undo a shift at the border, as in Quantus. So that x and x + m are both images
    in [0, 1], both are at the contrast 1 − m (std times as much, which changes no logit): two explanations. NaN where
    Φ₁ is zero everywhere.

    Raises
    ------
    VexbenchError
        A shift that is not between 0 and 1.
    """
    if not 0 < shift < 1:
        raise VexbenchError(f"shift must lie between 0 and 1, not {shift}.")
    before, after = (
        explain.variant(("contrast", 1 - shift, "brightness", light), lambda light=light: recoded(probe, shift, light))
        for light in (0.0, shift)
    )
    norm = before.flatten(1).norm(dim=1)
    return ((after - before).flatten(1).norm(dim=1) / norm).where(norm > 0, float("nan"))


def recoded(probe: Probe, shift: float, light: float) -> Probe:
    """The same question in other units: images (1 − shift)·x + light, and a normalisation that takes that back."""
    contrast = 1 - shift
    other = probe.classifier.around(probe.classifier.module)
    other.mean = tuple(contrast * value + light for value in other.mean)
    other.std = tuple(contrast * value for value in other.std)
    return probe.of(images=(contrast * probe.images + light).clamp(0, 1), classifier=other)

"""Robustness to noise: does the map stay when the image hardly changes?

All metrics here meet the same noisy copies of an image, and share the maps of these copies where their radius is one.
"""

from collections.abc import Callable, Iterator
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.types import Curves, Images, Logits, Maps, Scores


@metric(
    family="robustness",
    title="Max sensitivity",
    paper="Yeh et al. 2019, arXiv:1901.09392",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def max_sensitivity(maps: Maps, probe: Probe, explain: Explain, *, radius: float = 0.02, samples: int = 10) -> Scores:
    """Largest relative change of the map under small noise: max_δ ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖.

    δ uniform with |δ| ≤ radius per value, x + δ kept within [0, 1], the target kept; Frobenius norm. All methods see
    the same noise. NaN for a map of norm zero, where captum divides by 1 instead.

    Raises
    ------
    VexbenchError
        Less than one sample, or a radius that is negative or not finite.
    """
    largest = maps.new_zeros(len(maps))
    for changed in noisy(probe, explain, radius, samples):
        largest = largest.maximum((changed - maps).flatten(1).norm(dim=1))
    return per_norm(largest, maps)


@metric(
    family="robustness",
    title="Average sensitivity",
    paper="Yeh et al. 2019, arXiv:1901.09392; Bhatt et al. 2020, arXiv:2005.00631",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def average_sensitivity(
    maps: Maps, probe: Probe, explain: Explain, *, radius: float = 0.02, samples: int = 10
) -> Scores:
    """Mean relative change of the map under small noise: mean_δ ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖.

    The mean in place of the maximum of Yeh et al., as in Bhatt et al. (definition 1); noise, norm and NaN are those of
    `max_sensitivity`.

    Raises
    ------
    VexbenchError
        Less than one sample, or a radius that is negative or not finite.
    """
    total = maps.new_zeros(len(maps))
    for changed in noisy(probe, explain, radius, samples):
        total = total + (changed - maps).flatten(1).norm(dim=1)
    return per_norm(total / samples, maps)


@metric(
    family="robustness",
    title="Local Lipschitz estimate",
    paper="Alvarez-Melis & Jaakkola 2018, arXiv:1806.08049",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def local_lipschitz(
    maps: Maps, probe: Probe, explain: Explain, *, radius: float = 0.02, samples: int = 10, relative: bool = True
) -> Scores:
    """Steepest relative change of the map nearby: max_x' ‖Φ(x) − Φ(x')‖₂ / (‖Φ(x)‖₂ ‖x − x'‖₂).

    The local Lipschitz estimate of Alvarez-Melis & Jaakkola 2018, its ball the noisy copies of `max_sensitivity`, over
    the map's norm, so that methods of different scale compare (Quantus scales maps by their maximum, over the whole
    batch). NaN for a map of zeros, and where no copy differs from the image, as for a radius of 0.

    relative: false leaves the norm out, as the paper does: a map of twice the size then has twice the score.

    Raises
    ------
    VexbenchError
        Less than one sample, or a radius that is negative or not finite.
    """
    steepest = maps.new_full((len(maps),), -inf)
    # the copies stream beside their maps, which may have been made before
    for changed, copy in zip(noisy(probe, explain, radius, samples), copies(probe, radius, samples), strict=True):
        way = (copy - probe.images).flatten(1).norm(dim=1)
        slope = (changed - maps).flatten(1).norm(dim=1) / way
        steepest = steepest.maximum(slope.where(way > 0, -inf))
    steepest = steepest.where(steepest >= 0, float("nan"))
    return per_norm(steepest, maps) if relative else steepest


@metric(
    family="robustness",
    title="Relative input stability",
    paper="Agarwal et al. 2022, arXiv:2203.06877",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def relative_input_stability(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    radius: float = 0.02,
    samples: int = 10,
    norm: float = 2.0,
    eps: float = 1e-6,
) -> Scores:
    """Largest relative change of the map over that of the image, among copies of the same predicted class.

    max_x' ‖(Φ(x) − Φ(x')) / Φ(x)‖_p / max(‖(x − x') / x‖_p, ε)  (Agarwal et al. 2022, section 3.3), the
    quotients inside the norms elementwise.

    x' are the noisy copies of `max_sensitivity`, x in [0, 1]. The paper leaves open what an element of zero is divided
    by: here by ε times the root mean square of the map or image, so that a map's scale does not count; a map with
    zeros that do not stay therefore scores high. Signed maps as they are. NaN where no copy keeps the predicted
    class (Quantus: where any does not), and for a map or an image of zeros.

    norm: p, 1 or more, or infinite.

    Raises
    ------
    VexbenchError
        Less than one sample, a radius that is negative or not finite, a norm below 1, or an ε that is not positive.
    """

    def change(copy: Images, _: Logits) -> Scores:
        return relative_change(probe.images, copy, norm, eps)

    name = ("relative change of the image", norm, eps)
    return stability(maps, probe, explain, name, change, radius=radius, samples=samples, norm=norm, eps=eps)


@metric(
    family="robustness",
    title="Relative output stability",
    paper="Agarwal et al. 2022, arXiv:2203.06877",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def relative_output_stability(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    radius: float = 0.02,
    samples: int = 10,
    norm: float = 2.0,
    eps: float = 1e-6,
) -> Scores:
    """Largest relative change of the map over the change of the logits, among copies of the same predicted class.

    max_x' ‖(Φ(x) − Φ(x')) / Φ(x)‖_p / max(‖h(x) − h(x')‖_p, ε)  (Agarwal et al. 2022, section 3.3), h all
    logits, their change not relative.

    Copies, zeros, signs, NaN and errors are those of `relative_input_stability`.
    """

    def change(_: Images, logits: Logits) -> Scores:
        return torch.linalg.vector_norm(probe.logits - logits, norm, 1)

    name = ("change of the logits", norm)
    return stability(maps, probe, explain, name, change, radius=radius, samples=samples, norm=norm, eps=eps)


@metric(
    family="robustness",
    title="Relative representation stability",
    paper="Agarwal et al. 2022, arXiv:2203.06877",
    direction="lower",
    range=(0.0, float("inf")),
    version=2,
)
def relative_representation_stability(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    radius: float = 0.02,
    samples: int = 10,
    norm: float = 2.0,
    eps: float = 1e-6,
) -> Scores:
    """Largest relative change of the map over that of the features, among copies of the same predicted class.

    max_x' ‖(Φ(x) − Φ(x')) / Φ(x)‖_p / max(‖(L(x) − L(x')) / L(x)‖_p, ε)  (Agarwal et al. 2022, section 3.3), L
    the target layer's activations.

    Copies, zeros, signs, NaN and errors are those of `relative_input_stability`. Where the layer ends in a ReLU,
    features that wake up make up most of the divisor, which is the same for all methods.
    """

    def change(copy: Images, _: Logits) -> Scores:
        return relative_change(probe.trace.activations, probe.of(images=copy).trace.activations, norm, eps)

    name = ("relative change of the features", norm, eps)
    return stability(maps, probe, explain, name, change, radius=radius, samples=samples, norm=norm, eps=eps)


def stability(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    name: tuple[object, ...],
    change: Callable[[Images, Logits], Scores],
    *,
    radius: float,
    samples: int,
    norm: float,
    eps: float,
) -> Scores:
    """Largest relative change of the map over another change, which is named, among copies of the same class."""
    if not norm >= 1 or not 0 < eps < inf:
        raise VexbenchError(f"norm must be 1 or more and eps above 0, not {norm} and {eps}.")
    asked(radius, samples)

    def measured() -> Curves:
        """How much changes for each copy; NaN where the prediction does."""
        rows, label = list[Scores](), probe.logits.argmax(1)
        for number, copy in enumerate(copies(probe, radius, samples)):
            key = ("uniform", radius, number)
            logits = probe.once(("logits", *key), lambda copy=copy, key=key: probe.of(images=copy, key=key).logits)
            rows.append(change(copy, logits).where(logits.argmax(1) == label, float("nan")))
        return torch.stack(rows, 1)

    changes = probe.once((*name, "uniform", radius, samples), measured).clamp(min=eps)
    largest = maps.new_full((len(maps),), -inf)
    for changed, divisor in zip(noisy(probe, explain, radius, samples), changes.T, strict=True):
        quotient = relative_change(maps, changed, norm, eps) / divisor
        largest = torch.where(divisor.isnan(), largest, largest.maximum(quotient))
    return largest.where(largest >= 0, float("nan"))


def relative_change(first: Float[Tensor, "N ..."], second: Float[Tensor, "N ..."], norm: float, eps: float) -> Scores:
    """‖(a − b) / a‖_p, where a zero of a is divided by ε times its root mean square; NaN where all of a is zero."""
    a, b = first.flatten(1).double(), second.flatten(1).double()
    size = a.norm(dim=1, keepdim=True) / a.shape[1] ** 0.5
    divisor = a.where(a != 0, eps * size)
    return torch.linalg.vector_norm((a - b) / divisor, norm, 1).where(size[:, 0] > 0, float("nan")).float()


def per_norm(change: Scores, maps: Maps) -> Scores:
    """A change of the map over the map's norm; NaN where that is zero, since a division would give infinity."""
    norm = maps.flatten(1).norm(dim=1)
    return (change / norm).where(norm > 0, float("nan"))


def asked(radius: float, samples: int) -> None:
    """Refuse noise that does not exist."""
    if samples < 1 or not 0 <= radius < inf:
        raise VexbenchError(f"samples must be 1 or more and radius 0 or more, not {samples} and {radius}.")


def noisy(probe: Probe, explain: Explain, radius: float, samples: int) -> Iterator[Maps]:
    """Maps of copies with uniform noise of at most `radius` per value, kept within [0, 1]; all metrics share them."""
    asked(radius, samples)
    for number, copy in enumerate(copies(probe, radius, samples)):
        key = ("uniform", radius, number)
        yield explain.variant(key, lambda copy=copy, key=key: probe.of(images=copy, key=key))


def copies(probe: Probe, radius: float, samples: int) -> Iterator[Images]:
    """Copies with uniform noise of at most `radius` per value, kept within [0, 1]."""
    for draw in noise.uniform(probe, samples):
        yield (probe.images + radius * draw).clamp(0, 1)

"""Robustness: does the map stay when the image hardly changes?"""

from collections.abc import Iterator
from math import inf

from vexbench.errors import VexbenchError
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.types import Maps, Scores


@metric(
    family="robustness",
    title="Max sensitivity",
    paper="Yeh et al. 2019, arXiv:1901.09392",
    direction="lower",
    range=(0.0, float("inf")),
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
    if samples < 1 or not 0 <= radius < inf:
        raise VexbenchError(f"samples must be 1 or more and radius 0 or more, not {samples} and {radius}.")
    largest = maps.new_zeros(len(maps))
    for changed in noisy(probe, explain, radius, samples):
        largest = largest.maximum((changed - maps).flatten(1).norm(dim=1))
    norm = maps.flatten(1).norm(dim=1)
    # a division would give inf where the changed map is not zero
    return (largest / norm).where(norm > 0, float("nan"))


def noisy(probe: Probe, explain: Explain, radius: float, samples: int) -> Iterator[Maps]:
    """Maps of copies with uniform noise of at most `radius` per value, kept within [0, 1]; all metrics share them."""
    for number, draw in enumerate(noise.uniform(probe, samples)):
        copy = (probe.images + radius * draw).clamp(0, 1)
        yield explain.variant(("uniform", radius, number), lambda copy=copy: probe.of(images=copy))

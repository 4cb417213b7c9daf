"""Randomisation: does the map change when the network forgets what it learnt?"""

from vexbench.errors import unknown
from vexbench.metrics.similarity import SIMILARITIES, unit
from vexbench.models.surgery import cascade
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.types import Maps, Scores


@metric(
    family="randomisation",
    title="Parameter randomisation",
    paper="Adebayo et al. 2018, arXiv:1810.03292",
    direction="lower",
    range=(-1.0, 1.0),
)
def mprt(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    similarity: str = "ssim",
    order: str = "bottom_up",
    stages: int = 0,
) -> Scores:
    """Mean similarity to the map of a network whose layers are randomised one after the other, each staying random.

    Maps are compared by absolute value, stretched to [0, 1] each: `ssim` or `spearman`. The network as it is has no
    part in the mean. All methods are asked about the same random networks. Two constant maps are equal (1).

    order: `bottom_up` begins at the image, `top_down` at the logits as the paper does; see `models.surgery.cascade`.
    stages: 0 explains after each layer, at a cost of layers × explanation; k only at k evenly spaced points, the last
    of which is the wholly random network.

    Raises
    ------
    VexbenchError
        A similarity or order that does not exist, or a negative number of stages.
    """
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    compare, clean = SIMILARITIES[similarity], unit(maps.abs())
    total, count = maps.new_zeros(len(maps)), 0
    for classifier in cascade(probe.classifier, probe.images, seed=probe.seed, order=order, stages=stages):
        key = ("randomised", order, stages, count)
        changed = explain.variant(key, lambda classifier=classifier: probe.of(classifier=classifier))
        total = total + compare(unit(changed.abs()), clean)
        count += 1
    return total / count

"""Faithfulness: does the network's score follow the map when pixels are hidden or shown?"""

from typing import cast, get_args

import torch
from jaxtyping import Int64
from torch import Tensor

from vexbench.errors import VexbenchError, unknown
from vexbench.perturb import baselines
from vexbench.probe import Output, Probe, read
from vexbench.registry import metric
from vexbench.seeds import generator
from vexbench.types import Maps, Masks, Scores


@metric(family="faithfulness", title="Deletion", paper="Petsiuk et al. 2018, arXiv:1806.07421", direction="lower")
def deletion(
    maps: Maps, probe: Probe, *, steps: int = 32, baseline: str = "grey", output: str = "probability"
) -> Scores:
    """Area under the target's score as the most salient pixels are hidden first.

    Trapezoid over steps + 1 points, from the whole image (share 0) to the baseline alone (share 1). The sign counts:
    evidence against the class is hidden last.

    Raises
    ------
    VexbenchError
        Less than one step, or a baseline or output that does not exist.
    """
    return _area(maps, probe, steps, baseline, output, hide=True)


@metric(family="faithfulness", title="Insertion", paper="Petsiuk et al. 2018, arXiv:1806.07421", direction="higher")
def insertion(
    maps: Maps, probe: Probe, *, steps: int = 32, baseline: str = "blur", output: str = "probability"
) -> Scores:
    """Area under the target's score as the most salient pixels are shown first.

    As `deletion`, from the baseline alone (share 0) to the whole image (share 1).

    Raises
    ------
    VexbenchError
        Less than one step, or a baseline or output that does not exist.
    """
    return _area(maps, probe, steps, baseline, output, hide=False)


@metric(
    family="faithfulness", title="Average drop", paper="Chattopadhyay et al. 2018, arXiv:1710.11063", direction="lower"
)
def average_drop(maps: Maps, probe: Probe) -> Scores:
    """Share of the target's probability y that is lost when only what the map shows is left: max(0, y − o) / y.

    o is the probability of image ⊙ mask, hidden pixels black; mask = ReLU(map) / max, so a map without positive values
    shows nothing. A share in [0, 1] where the paper gives percent; torchcam blends towards the mean colour of the
    normalisation instead of black, and pytorch-grad-cam leaves out the division by y. NaN where y = 0.
    """
    before, after = _masked(maps, probe)
    return (before - after).relu() / before


@metric(
    family="faithfulness",
    title="Average increase",
    paper="Chattopadhyay et al. 2018, arXiv:1710.11063",
    direction="higher",
)
def average_increase(maps: Maps, probe: Probe) -> Scores:
    """Whether the target's probability rises when only what the map shows is left: 1 where o > y, else 0.

    Masked as in `average_drop`.
    """
    before, after = _masked(maps, probe)
    return (after > before).float()


def ranks(maps: Maps, probe: Probe) -> Int64[Tensor, "N H W"]:
    """Each pixel's place in the order from most to least salient: 0 for the most salient.

    Equal pixels are ordered by a draw per image. A ReLU leaves large parts of a map at exactly zero; ordered by index,
    such pixels would be hidden from the top row down, and images with the object low in the frame would score
    otherwise than those with the object high, for no merit of the method.
    """
    flat = maps.flatten(1)
    draws = [torch.randperm(flat.shape[1], generator=generator(probe.seed, "ties", key)) for key in probe.fingerprints]
    shuffle = torch.stack(draws).to(flat.device)
    order = shuffle.gather(1, flat.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1).view(maps.shape)


def _area(maps: Maps, probe: Probe, steps: int, baseline: str, output: str, *, hide: bool) -> Scores:
    if steps < 1:
        raise VexbenchError(f"steps must be 1 or more, not {steps}.")
    if output not in get_args(Output):
        raise unknown("output", output, get_args(Output))
    place, pixels = ranks(maps, probe), maps[0].numel()
    counts = [round(step * pixels / steps) for step in range(steps + 1)]

    def mask(count: int) -> Masks:
        return (place >= count if hide else place < count).float()

    # the whole image is known to the probe: all metrics and all methods share that pass
    whole = _clean(probe, output)
    changed = (mask(count) for count in (counts[1:] if hide else counts[:-1]))
    scores = probe.scores_masked(changed, baselines.baseline(probe, baseline), cast(Output, output))
    curve = torch.cat([whole, scores] if hide else [scores, whole], 1)
    return torch.trapezoid(curve, curve.new_tensor(counts) / pixels, dim=1)


def _clean(probe: Probe, output: str) -> Tensor:
    return read(probe.logits, cast(Output, output)).gather(1, probe.targets[:, None])


def _masked(maps: Maps, probe: Probe) -> tuple[Scores, Scores]:
    """The target's probability for the whole images, and for the images masked by their maps."""
    positive = maps.relu()
    mask = positive / positive.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
    after = probe.scores_masked([mask], baselines.baseline(probe, "black"), "probability")
    return _clean(probe, "probability")[:, 0], after[:, 0]

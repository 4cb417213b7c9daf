"""Faithfulness: does the network's score follow the map when pixels are hidden or shown?"""

from collections.abc import Iterable
from math import inf
from typing import cast, get_args

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError, unknown
from vexbench.perturb.imputation import filled
from vexbench.perturb.segments import segmented
from vexbench.probe import Explain, Probe
from vexbench.readout import Output
from vexbench.registry import metric
from vexbench.seeds import generator
from vexbench.types import Curves, Logits, Maps, Masks, Scores, Targets

Places = Int64[Tensor, "N H W"]
"""Each pixel's place in the order of its image, 0 for the most salient."""
ORDERS = ("gap", "morf", "lerf")
OUTPUTS = (*get_args(Output), "accuracy")


@metric(family="faithfulness", title="Deletion", paper="Petsiuk et al. 2018, arXiv:1806.07421", direction="lower")
def deletion(
    maps: Maps, probe: Probe, *, steps: int = 32, baseline: str = "grey", output: str = "probability"
) -> Scores:
    """Area under the target's score as the most salient pixels are hidden first.

    Trapezoid over steps + 1 points, from the whole image (share 0) to the baseline alone (share 1). The sign counts:
    evidence against the class is hidden last.

    baseline: one of `perturb.baselines`, or `noisy_linear` as in `road`. output: `probability`, `logit`,
    `log_probability`, or `accuracy`, 1 where the target is the predicted class. InterpretDL inserts from black where
    RISE and ours do from blur; Xplique takes 10 steps, and logits.

    Raises
    ------
    VexbenchError
        Less than one step, or a baseline or output that does not exist.
    """
    return _area(ranks(maps, probe), probe, maps[0].numel(), steps, baseline, output, hide=True)


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
    return _area(ranks(maps, probe), probe, maps[0].numel(), steps, baseline, output, hide=False)


@metric(
    family="faithfulness",
    title="MoRF-LeRF gap (ABPC)",
    paper="Samek et al. 2017, arXiv:1509.06321; Schulz et al. 2020, arXiv:2001.00396",
    direction="higher",
    range=(-1.0, 1.0),
)
def morf_lerf_gap(
    maps: Maps,
    probe: Probe,
    *,
    patch: int = 8,
    steps: int = 32,
    baseline: str = "mean",
    output: str = "probability",
) -> Scores:
    """Area between the target's scores as the least and as the most relevant tiles are hidden first.

    ∫ f(x_LeRF) − f(x_MoRF) over the share of hidden tiles, from none to all, trapezoid over steps + 1 points or one per
    tile. Tiles of `patch` × `patch` pixels (Schulz et al. 2020: 8 and 14), the last ones cut at the border, in the
    order of their mean signed attribution: evidence against the class is the least relevant. With `patch` 1 it is the
    difference of `insertion` and `deletion` at one baseline. Schulz et al. divide by the mean fall of the score over
    the data set, the same for all methods; Samek et al. hide only the first 100 tiles, 9 × 9, behind uniform noise.

    Raises
    ------
    VexbenchError
        A patch of less than one pixel, less than one step, or a baseline or output that does not exist.
    """
    if patch < 1:
        raise VexbenchError(f"patch must be 1 pixel or more, not {patch}.")
    # in double: the mean of equal values is that value, in tiles of any size
    tiles = functional.avg_pool2d(maps[:, None].double(), patch, ceil_mode=True)[:, 0].float()
    place = ranks(tiles, probe).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    place = place[:, : maps.shape[1], : maps.shape[2]]
    kept, lost = (_area(place, probe, tiles[0].numel(), steps, baseline, output, hide=hide) for hide in (False, True))
    return kept - lost


@metric(
    family="faithfulness",
    title="ROAD",
    paper="Rong et al. 2022, arXiv:2202.00449",
    direction="higher",
    range=(-1.0, 1.0),
)
def road(
    maps: Maps,
    probe: Probe,
    *,
    order: str = "gap",
    output: str = "probability",
    shares: str = "10,20,30,40,50,70,90",
    baseline: str = "noisy_linear",
    noise: float = 0.01,
) -> Scores:
    """Mean score with the least relevant pixels replaced, less that with the most relevant, by noisy linear imputation.

    mean_s f(x_LeRF(s)) − f(x_MoRF(s)) over the shares s (percent) of replaced pixels, the paper's; signed maps keep
    their sign. Imputation: `perturb.imputation.linear` and Gaussian noise of standard deviation `noise`, kept within
    [0, 1]; other baselines replace without it.

    order: `gap`; `lerf` alone; `morf` alone with its sign turned, so that higher is better for all three.
    output: `probability` of the target; `accuracy`, the paper's: 1 where the target is still the predicted class.
    pytorch-grad-cam halves the gap, replaces every pixel at or above a percentile, so that ties go together, and gives
    differences to the whole image's score where one order is asked for.

    Raises
    ------
    VexbenchError
        Shares that are no percentages above 0, an order, baseline or output that does not exist, or negative noise.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if not 0 <= noise < inf:
        raise VexbenchError(f"noise must be 0 or more, not {noise}.")
    place, pixels = ranks(maps, probe), maps[0].numel()
    counts = [round(share / 100 * pixels) for share in _percentages(shares)]

    def mean(masks: Iterable[Masks]) -> Scores:
        return _scores(probe, masks, baseline, output, noise).mean(1)

    least = ((place < pixels - count).float() for count in counts)
    most = ((place >= count).float() for count in counts)
    match order:
        case "lerf":
            return mean(least)
        case "morf":
            return -mean(most)
        case _:
            return mean(least) - mean(most)


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


@metric(family="faithfulness", title="Average gain", paper="Zhang et al. 2023, arXiv:2301.07002", direction="higher")
def average_gain(maps: Maps, probe: Probe) -> Scores:
    """Share of the missing probability that is won when only what the map shows is left: max(0, o − y) / (1 − y).

    Masked as in `average_drop`, to which it is the counterpart. 1 − y and 1 − o are the other classes' probabilities,
    summed in double, so that nothing cancels where the network is sure. NaN where y = 1.
    """
    shown = probe.of(images=probe.images * visible(maps)[:, None])
    before, after = (_others(asked.logits, probe.targets) for asked in (probe, shown))
    return ((before - after).relu() / before).float()


@metric(family="faithfulness", title="ADCC", paper="Poppi et al. 2021, arXiv:2104.10252", direction="higher", version=2)
def adcc(maps: Maps, probe: Probe, explain: Explain) -> Scores:
    """Harmonic mean of coherency, 1 − complexity and 1 − average drop: one number for three virtues.

    3 / (1 / coherency + 1 / (1 − complexity) + 1 / (1 − drop)). Coherency: Pearson's correlation r of the mask with the
    one from the map of image ⊙ mask for the same class, as (1 + r) / 2; complexity: the mask's mean; drop and mask =
    ReLU(map) / max as in `average_drop`. 0 where one of the three is. NaN where a mask is constant, so that there is no
    correlation, or y = 0.
    """
    mask = visible(maps)
    again = explain.variant("masked by its map", lambda: probe.of(images=probe.images * mask[:, None]))
    rows = [values.flatten(1).double() for values in (mask, visible(again))]
    flat = torch.stack([values.amin(1) == values.amax(1) for values in rows]).any(0)
    first, second = (functional.normalize(values - values.mean(1, keepdim=True), dim=1) for values in rows)
    coherency = ((1 + (first * second).sum(1)) / 2).clamp(0, 1).where(~flat, float("nan"))
    virtues = torch.stack([coherency, 1 - rows[0].mean(1), 1 - average_drop(maps, probe).double()])
    return (3 / (1 / virtues.clamp(min=0)).sum(0)).float()


@metric(
    family="faithfulness",
    title="IROF",
    paper="Rieger & Hansen 2020, arXiv:2003.08747",
    direction="higher",
    range=(-inf, 1.0),
)
def irof(
    maps: Maps,
    probe: Probe,
    *,
    segments: int = 100,
    segmentation: str = "slic",
    baseline: str = "mean",
    output: str = "probability",
) -> Scores:
    """Area over the curve of the target's score as segments are hidden, the most relevant first, one after the other.

    1 − ∫ y_l / y_0 over the share l / L of hidden segments, trapezoid from l = 0 to the last one, L; y_0 is the whole
    image's score. The order is that of the segments' mean signed attributions; hidden pixels get the image's mean
    colour. Below 0 where hiding raises the score. Quantus leaves out y_0 and multiplies by L, so that images of more
    segments weigh more. NaN where y_0 is not above 0, as a logit may be: a share of it would turn the order around.

    Raises
    ------
    VexbenchError
        Less than one segment, a segmentation, baseline or output that does not exist, or a log-probability.
    """
    if output == "log_probability":
        raise VexbenchError("irof: output must be probability, logit or accuracy; a log-probability is never above 0.")
    labels = segmented(probe.images, segmentation, segments).flatten(1)
    count = labels.amax(1) + 1
    largest = int(count.max())
    sums = torch.zeros(len(maps), largest, dtype=torch.float64, device=maps.device)
    sizes = sums.scatter_add(1, labels, torch.ones_like(labels, dtype=torch.float64))
    # in double: the mean of equal values is that value, in segments of any size; those of other images come last
    means = (sums.scatter_add(1, labels, maps.flatten(1).double()) / sizes).float().where(sizes > 0, -inf)
    place = _places(means, probe, count.tolist()).gather(1, labels).view(maps.shape)
    masks = ((place >= hidden).float() for hidden in range(1, largest + 1))
    curve = torch.cat([_clean(probe, output), _scores(probe, masks, baseline, output)], 1).double()
    pieces = (curve[:, 1:] + curve[:, :-1]) / 2
    area = pieces.cumsum(1).gather(1, count[:, None] - 1)[:, 0] / count
    whole = curve[:, 0]
    return (1 - area / whole).where(whole > 0, float("nan")).float()


def ranks(maps: Maps, probe: Probe) -> Places:
    """Each pixel's place in the order from most to least salient: 0 for the most salient.

    Equal pixels are ordered by a draw per image. A ReLU leaves large parts of a map at exactly zero; ordered by index,
    such pixels would be hidden from the top row down, and images with the object low in the frame would score
    otherwise than those with the object high, for no merit of the method.
    """
    rows = maps.flatten(1)
    return _places(rows, probe, [rows.shape[1]] * len(rows)).view(maps.shape)


def _places(rows: Curves, probe: Probe, counts: list[int]) -> Int64[Tensor, "N K"]:
    """Each value's place in its row from the largest, equal ones by a draw among the first `counts`."""
    rest = torch.arange(rows.shape[1])
    draws = [
        torch.cat([torch.randperm(count, generator=generator(probe.seed, "ties", key)), rest[count:]])
        for count, key in zip(counts, probe.fingerprints, strict=True)
    ]
    shuffle = torch.stack(draws).to(rows.device)
    order = shuffle.gather(1, rows.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1)


def visible(maps: Maps) -> Masks:
    """What a map shows of its image: ReLU(map) / max, nothing where it has no positive value."""
    positive = maps.relu()
    return positive / positive.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def _area(place: Places, probe: Probe, total: int, steps: int, baseline: str, output: str, *, hide: bool) -> Scores:
    """Area under the curve as the places are hidden, or shown, from the first to the last of `total`."""
    if steps < 1:
        raise VexbenchError(f"steps must be 1 or more, not {steps}.")
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    counts = sorted({round(step * total / steps) for step in range(steps + 1)})
    masks = ((place >= count if hide else place < count).float() for count in counts[1:-1])
    # the ends hang on no map: all metrics and all methods share them
    bare = probe.once(
        ("hidden", baseline, output),
        lambda: _scores(probe, [torch.zeros_like(probe.images[:, 0])], baseline, output),
    )
    ends = (_clean(probe, output), bare) if hide else (bare, _clean(probe, output))
    curve = torch.cat([ends[0], _scores(probe, masks, baseline, output), ends[1]], 1)
    return torch.trapezoid(curve, curve.new_tensor(counts) / total, dim=1)


def _scores(probe: Probe, masks: Iterable[Masks], baseline: str, output: str, noise: float = 0.01) -> Curves:
    """The target's score where each mask hides pixels, (N, K); accuracy: 1 where the target is the predicted class."""
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    variants = filled(probe, masks, baseline, noise=noise)
    if output != "accuracy":
        return probe.scores(variants, cast(Output, output))
    hits = [probe.of(images=images).logits.argmax(1) == probe.targets for images in variants]
    return torch.stack(hits, 1).float() if hits else probe.images.new_zeros(len(probe.images), 0)


def _clean(probe: Probe, output: str) -> Curves:
    """The target's score for the whole images, known to the probe: (N, 1)."""
    if output == "accuracy":
        return (probe.logits.argmax(1) == probe.targets).float()[:, None]
    return probe.clean(cast(Output, output))


def _masked(maps: Maps, probe: Probe) -> tuple[Scores, Scores]:
    """The target's probability for the whole images, and for what their maps show of them."""
    after = probe.scores([probe.images * visible(maps)[:, None]], "probability")
    return _clean(probe, "probability")[:, 0], after[:, 0]


def _others(logits: Logits, targets: Targets) -> Tensor:
    """The probability of all other classes together."""
    return logits.double().softmax(1).scatter(1, targets[:, None], 0).sum(1)


def _percentages(text: str) -> list[float]:
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 100 for share in shares):
        raise VexbenchError(f"shares must be percentages above 0, such as 10,20,50; not '{text}'.")
    return shares

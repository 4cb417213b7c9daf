"""Faithfulness over subsets of pixels: do attributions and changes of the score go together?

What the network is asked hangs on no map, but for the ranked groups of a map's own pixels: all methods share it.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final, cast, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vexbench.errors import VexbenchError, unknown
from vexbench.metrics.faithfulness import ranks
from vexbench.metrics.similarity import mean_ranks
from vexbench.perturb import noise
from vexbench.perturb.baselines import baseline as replacement
from vexbench.perturb.masks import squares, subsets
from vexbench.perturb.segments import grid
from vexbench.probe import Probe
from vexbench.readout import Output
from vexbench.registry import metric
from vexbench.types import Curves, Maps, Masks, Scores

ROUNDING: Final = 1e-5
"""Share of the largest value below which differences are taken for rounding, which hangs on the batch size."""

FEATURES, CORRELATIONS = ("grid", "ranked"), ("pearson", "spearman")
FORMS, PERTURBATIONS, SCALES = ("share", "correlation"), ("square", "gaussian"), ("fitted", "raw")


@metric(
    family="faithfulness",
    title="Faithfulness correlation",
    paper="Bhatt et al. 2020, arXiv:2005.00631",
    direction="higher",
    range=(-1.0, 1.0),
)
def faithfulness_correlation(
    maps: Maps,
    probe: Probe,
    *,
    samples: int = 50,
    share: float = 0.1,
    baseline: str = "black",
    output: str = "logit",
) -> Scores:
    """Correlation of the summed attribution of random subsets with the drop of the score when they are hidden.

    corr_S(Σ_{i∈S} Φ_i, f(x) − f(x with x_S = x̄_S)), Pearson's, over subsets of one size (Bhatt et al. 2020, section
    3.1), here a share of the pixels; all colours of a pixel are hidden together. Sums keep the sign of signed maps.
    Quantus hides single colours, 224 of them in images of any size.

    NaN where the sums or the scores are the same for all subsets, to rounding: a constant map has no correlation.

    Raises
    ------
    VexbenchError
        Less than two samples, a share that is not between 0 and 1, a baseline or output that does not exist.
    """
    at_least(2, samples=samples)
    if not 0 < share < 1:
        raise VexbenchError(f"share must lie between 0 and 1, not {share}.")
    size = max(1, round(share * maps[0].numel()))
    return _subset_correlation(maps, probe, size, samples, baseline, output)


@metric(
    family="faithfulness",
    title="Sensitivity-n",
    paper="Ancona et al. 2018, arXiv:1711.06104",
    direction="higher",
    range=(-1.0, 1.0),
)
def sensitivity_n(
    maps: Maps,
    probe: Probe,
    *,
    sizes: int = 5,
    samples: int = 100,
    largest: float = 0.8,
    baseline: str = "black",
    output: str = "logit",
) -> Scores:
    """Mean correlation of summed attribution and drop of the score over random subsets of n pixels, for several n.

    mean_n corr_S(Σ_{i∈S} Φ_i, f(x) − f(x with x_S = x̄_S)), |S| = n, Pearson's (Ancona et al. 2018, section 4); n is
    spaced by equal ratios from 1 to a share `largest` of the pixels. Sums keep the sign of signed maps. Quantus draws
    no subsets: it hides pixels one after the other in the map's own order, and correlates over the images of the call.

    An n for which sums or scores are the same for all subsets, to rounding, is left out; NaN where all are.

    Raises
    ------
    VexbenchError
        Less than one size or two samples, a largest share that is not between 0 and 1, a baseline or output that does
        not exist.
    """
    at_least(1, sizes=sizes)
    at_least(2, samples=samples)
    if not 0 < largest < 1:
        raise VexbenchError(f"largest must lie between 0 and 1, not {largest}.")
    most = max(1, round(largest * maps[0].numel()))
    spaced = {round(most ** (step / max(1, sizes - 1))) for step in range(sizes)} if sizes > 1 else {most}
    rows = [_subset_correlation(maps, probe, size, samples, baseline, output) for size in sorted(spaced)]
    return torch.stack(rows).nanmean(0)


@metric(
    family="faithfulness",
    title="Faithfulness estimate",
    paper="Alvarez-Melis & Jaakkola 2018, arXiv:1806.07538",
    direction="higher",
    range=(-1.0, 1.0),
)
def faithfulness_estimate(
    maps: Maps,
    probe: Probe,
    *,
    features: str = "grid",
    count: int = 64,
    correlation: str = "pearson",
    baseline: str = "black",
    output: str = "probability",
) -> Scores:
    """Correlation of each feature's attribution with the drop of the probability when it alone is hidden.

    corr_i(Σ_{p∈i} Φ_p, f(x) − f(x with x_i = x̄_i)) over features i (Alvarez-Melis & Jaakkola 2018, section 5.1). They
    are given before the explanation, as in the paper: the largest square grid of at most `count` cells, an attribution
    being the sum of its cell's, with the sign of signed maps.

    features: `grid`, or `ranked` for Quantus's variant: `count` groups of pixels of adjoining ranks in the map itself.
    correlation: `pearson`, or `spearman` (Quantus).

    NaN for a constant map, and where hiding changes nothing, or the same for every feature, to rounding.

    Raises
    ------
    VexbenchError
        Less than two features, or a kind of features, correlation, baseline or output that does not exist.
    """
    at_least(2, count=count)
    if features not in FEATURES:
        raise unknown("features", features, FEATURES)
    height, width = maps.shape[1:]
    if features == "grid":
        labels = grid(height, width, int(count**0.5)).to(maps.device).expand_as(maps)
    else:
        labels = _ranked(maps, probe, count)
    groups = int(labels.max()) + 1

    def ask() -> Curves:
        masks = ((labels != group).float() for group in range(groups))
        return probe.scores_masked(masks, replacement(probe, baseline), _checked(output))

    scores = probe.once(("grid", groups, baseline, output), ask) if features == "grid" else ask()
    told = _correlation(_group_sums(maps, labels, groups), -scores.double(), correlation)
    return told.where(~_constant(maps.flatten(1)), float("nan"))


@metric(
    family="faithfulness",
    title="Monotonicity",
    paper="Arya et al. 2019, arXiv:1909.03012; Nguyen & Martínez 2020, arXiv:2007.07584",
    direction="higher",
    range=(-1.0, 1.0),
)
def monotonicity(
    maps: Maps,
    probe: Probe,
    *,
    form: str = "share",
    steps: int = 32,
    samples: int = 10,
    baseline: str = "black",
    output: str = "probability",
) -> Scores:
    """Share of the steps in which the score does not fall as pixels are added, the least important first.

    From the baseline alone to the whole image; Arya et al. 2019 ask whether all of the steps rise, here the share of
    those that do is told. The order is by signed value: evidence against the class comes first, and lowers the score.
    A step within rounding has not fallen. A constant map's order is drawn. Quantus gives the yes or no, without the
    step from the baseline alone, and orders by absolute value.

    form: `share`, or `correlation` (Nguyen & Martínez 2020): Spearman's of the absolute attribution of each step's
    pixels with the mean square of the score's change when they alone are replaced by uniform noise, `samples` times;
    `baseline` has no part in it, NaN for a map of constant absolute value, and where the score never changes.

    Raises
    ------
    VexbenchError
        Less than one step or sample, or a form, baseline or output that does not exist.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    at_least(1 if form == "share" else 2, steps=steps)
    at_least(1, samples=samples)
    if form == "correlation":
        return _effect_correlation(maps.abs(), probe, steps, samples, output)
    labels = _ranked(-maps, probe, steps)
    shown = ((labels < step).float() for step in range(int(labels.max()) + 1))
    changed = probe.scores_masked(shown, replacement(probe, baseline), _checked(output))
    curve = torch.cat([changed, _clean(probe, output)[:, None]], 1)
    fallen = curve.diff(dim=1) < -ROUNDING * curve.abs().amax(1, keepdim=True)
    return 1 - fallen.float().mean(1)


@metric(
    family="faithfulness",
    title="Infidelity",
    paper="Yeh et al. 2019, arXiv:1901.09392",
    direction="lower",
    range=(0.0, inf),
)
def infidelity(
    maps: Maps,
    probe: Probe,
    *,
    perturbation: str = "square",
    samples: int = 50,
    scale: str = "fitted",
    largest: float = 0.5,
    sigma: float = 0.1,
    baseline: str = "black",
    output: str = "logit",
) -> Scores:
    """Mean squared difference between what the map says a perturbation changes, and what it does.

    E_I[(β·I·Φ − (f(x) − f(x − I)))²] (Yeh et al. 2019, definition 2.1), f the logit. I·Φ sums over pixels and colours,
    with the map's sign; the one value of a pixel stands for its three colours.

    scale: `fitted` takes the β of each image that makes the score smallest, so that maps of any scale compare (captum's
    ``normalize=True``). It may be negative: a map and its negative score alike, and the correlations tell them apart.
    `raw` is β = 1, the definition.
    perturbation: `square`, I = x − x̄ within a square of 1 pixel to a share `largest` of the shorter side, 0 elsewhere,
    each drawn afresh; or `gaussian`, I of standard deviation `sigma` at all pixels, x − I not cut off at 0 and 1.

    A map of zeros gets E[(f(x) − f(x − I))²], what there is to explain; other maps are never worse when fitted. Quantus
    hides the squares of a grid one after the other and leaves them hidden: at the end all of the image.

    Raises
    ------
    VexbenchError
        Less than one sample, a share or sigma that is not above 0, or a name that does not exist.
    """
    for what, name, known in (("perturbation", perturbation, PERTURBATIONS), ("scale", scale, SCALES)):
        if name not in known:
            raise unknown(what, name, known)
    at_least(1, samples=samples)
    if not (0 < largest <= 1 and 0 < sigma < inf):
        raise VexbenchError(f"largest must lie between 0 and 1 and sigma above 0, not {largest} and {sigma}.")
    if perturbation == "square":
        hidden, side = replacement(probe, baseline), max(1, round(largest * min(maps.shape[1:])))
        scores = probe.once(
            ("squares", side, samples, baseline, output),
            lambda: probe.scores_masked(squares(probe, side, samples), hidden, _checked(output)),
        )
        worth = maps.double() * (probe.images - hidden).sum(1)
        told = _hidden_sums(worth, squares(probe, side, samples))
    else:
        scores = probe.once(
            ("gaussian", sigma, samples, output),
            lambda: probe.scores(
                (probe.images - sigma * draw for draw in noise.gaussian(probe, samples)), _checked(output)
            ),
        )
        moves = (sigma * draw.sum(1) for draw in noise.gaussian(probe, samples))
        told = torch.stack([(maps.double() * move).sum((1, 2)) for move in moves], 1)
    change = _clean(probe, output)[:, None].double() - scores.double()
    beta = torch.ones_like(told[:, :1])
    if scale == "fitted":
        square = told.square().sum(1, keepdim=True)
        # without a sum that is not zero, any β will do
        beta = ((told * change).sum(1, keepdim=True) / square).where(square > 0, 1.0)
    return (beta * told - change).square().mean(1).float()


def at_least(least: int, **given: int) -> None:
    """Refuse a number of draws or steps that is too small."""
    for name, value in given.items():
        if value < least:
            raise VexbenchError(f"{name} must be {least} or more, not {value}.")


def _checked(output: str) -> Output:
    if output not in get_args(Output):
        raise unknown("output", output, get_args(Output))
    return cast(Output, output)


def _clean(probe: Probe, output: str) -> Scores:
    return probe.clean(_checked(output))[:, 0]


def _subset_correlation(maps: Maps, probe: Probe, size: int, samples: int, baseline: str, output: str) -> Scores:
    """Over random subsets of one size."""
    scores = probe.once(
        ("subsets", size, samples, baseline, output),
        lambda: probe.scores_masked(subsets(probe, size, samples), replacement(probe, baseline), _checked(output)),
    )
    # the whole image's score, less these, is the drop: the same correlation
    return _correlation(_hidden_sums(maps, subsets(probe, size, samples)), -scores.double(), "pearson")


def _effect_correlation(sizes: Maps, probe: Probe, steps: int, samples: int, output: str) -> Scores:
    """Of absolute attributions with mean squared changes under noise, over groups of pixels of adjoining ranks."""
    labels = _ranked(sizes, probe, steps)
    groups = int(labels.max()) + 1

    def variants() -> Iterator[Tensor]:
        for draw in noise.uniform(probe, samples):
            fresh = (draw + 1) / 2
            for group in range(groups):
                yield torch.where((labels == group)[:, None], fresh, probe.images)

    scores = probe.scores(variants(), _checked(output)).unflatten(1, (samples, groups))
    change = (scores - _clean(probe, output)[:, None, None]).double()
    effect = change.square().mean(1)
    # squares of what rounding leaves are no effect
    effect = effect.where(effect > (ROUNDING * scores.abs().amax((1, 2)))[:, None] ** 2, 0)
    told = _correlation(_group_sums(sizes, labels, groups), effect, "spearman")
    return told.where(~_constant(sizes.flatten(1)), float("nan"))


def _ranked(maps: Maps, probe: Probe, groups: int) -> Int64[Tensor, "N H W"]:
    """Groups of pixels of adjoining ranks, as equal in number as can be, from the largest values (0) on."""
    pixels = maps[0].numel()
    return ranks(maps, probe) * min(groups, pixels) // pixels


def _group_sums(maps: Maps, labels: Int64[Tensor, "N H W"], groups: int) -> Curves:
    empty = torch.zeros(len(maps), groups, dtype=torch.float64, device=maps.device)
    return empty.scatter_add(1, labels.flatten(1), maps.flatten(1).double())


def _hidden_sums(maps: Maps, masks: Iterable[Masks]) -> Curves:
    """Sum of the map's values where each mask hides, in double: equal values have equal sums."""
    return torch.stack([(maps.double() * (1 - mask)).sum((1, 2)) for mask in masks], 1)


def _constant(rows: Float[Tensor, "N K"]) -> Tensor:
    """Rows that are the same everywhere, to rounding."""
    return rows.amax(1) - rows.amin(1) <= ROUNDING * rows.abs().amax(1)


def _correlation(first: Curves, second: Curves, name: str) -> Scores:
    """Pearson's or Spearman's correlation of each row; NaN where one side is constant."""
    if name not in CORRELATIONS:
        raise unknown("correlation", name, CORRELATIONS)
    undefined = _constant(first) | _constant(second)
    rows: Callable[[Curves], Curves] = mean_ranks if name == "spearman" else lambda values: values
    a, b = (rows(values) - rows(values).mean(1, keepdim=True) for values in (first, second))
    value = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return value.clamp(-1, 1).where(~undefined, float("nan")).float()

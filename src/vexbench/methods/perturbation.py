"""Perturbation-based methods: change the image, and see what the network makes of it."""

from collections.abc import Iterator
from itertools import product
from math import nan
from typing import cast, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError, unknown
from vexbench.inputs import ALIGNED
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.perturb.masks import shifted_grids
from vexbench.perturb.segments import grid
from vexbench.probe import Probe
from vexbench.readout import Output, differentiating
from vexbench.registry import method
from vexbench.rules import gating
from vexbench.seeds import generator
from vexbench.types import Maps


@method(family="perturbation", title="Occlusion", paper="Zeiler & Fergus 2013, arXiv:1311.2901", signed=True)
def occlusion(probe: Probe, *, patch: int = 15, stride: int = 8, baseline: str = "grey") -> Maps:
    """Drop of the score under a sliding patch, spread over the pixels that it covers.

    M_p = mean over patches m that cover p of y(x) − y(x hidden under m)  (Zeiler & Fergus 2013, section 4.2)

    Parameters
    ----------
    patch, stride
        Side of the patch and step between patches, in pixels; the last patches may reach over the border.
    baseline
        What the patch shows: black, white, grey, mean, blur or uniform.

    Raises
    ------
    VexbenchError
        A patch or stride below one, a stride larger than the patch (pixels would stay unseen), or an unknown baseline.
    """
    if not 1 <= stride <= patch:
        raise VexbenchError(f"occlusion: 1 <= stride <= patch is needed, got stride {stride} and patch {patch}.")
    hidden = baseline_images(probe, baseline)
    height, width = probe.images.shape[2:]
    places = list(product(starts(height, patch, stride), starts(width, patch, stride)))

    drops = probe.clean() - probe.scores_patched(places, patch, hidden)
    total, cover = torch.zeros_like(probe.images[:, 0]), torch.zeros_like(probe.images[0, 0])
    for drop, (top, left) in zip(drops.T, places, strict=True):
        total[:, top : top + patch, left : left + patch] += drop[:, None, None]
        cover[top : top + patch, left : left + patch] += 1
    return total / cover


def starts(length: int, patch: int, stride: int) -> range:
    """Where patches begin, so that every pixel is covered.

    >>> list(starts(10, 4, 3)), list(starts(11, 4, 3)), list(starts(3, 4, 3))
    ([0, 3, 6], [0, 3, 6, 9], [0])
    """
    return range(0, max(length - patch, 0) + stride, stride) if length > patch else range(1)


@method(
    family="perturbation",
    title="DeconvNet",
    paper="Zeiler & Fergus 2013, arXiv:1311.2901",
    signed=True,
    needs=("ReLUs",),
)
def deconvnet(probe: Probe) -> Maps:
    """What is projected back to the image when ReLU acts on the signal instead of on the gradient.

    R = max(R', 0) at each ReLU, unpooled to where the maxima were (Zeiler & Fergus 2013, section 2.1); M = sum_c R_c.
    """
    (signals,) = probe.input_gradients([probe.images], lambda: gating(rectified, "deconvnet"))
    return signals.sum(1)


def rectified(signal: Tensor, _passed: Tensor) -> Tensor:
    """What is positive, wherever the ReLU was."""
    return signal.relu()


@method(family="perturbation", title="RISE", paper="Petsiuk et al. 2018, arXiv:1806.07421")
def rise(
    probe: Probe,
    *,
    masks: int = 4000,
    cells: int = 7,
    keep: float = 0.5,
    baseline: str = "grey",
    output: str = "probability",
) -> Maps:
    """Random masks, averaged by the score of what they leave visible.

    M = sum_i f(x ⊙ m_i) m_i / (masks · keep)  (Petsiuk et al. 2018, eq. 6), m_i a grid of cells, each kept with
    probability `keep`, enlarged and shifted at random. All images see the same masks, drawn from the seed.

    Parameters
    ----------
    masks, cells, keep
        Number of masks, cells per side of their grids, and share of cells that is kept.
    baseline
        What shows where a mask hides: black, white, grey, mean, blur or uniform. The paper's is black; its code hides
        after normalisation, which is about grey.
    output
        The score f: probability, logit or log_probability.

    Raises
    ------
    VexbenchError
        Less than one mask or cell, more cells than pixels, a share out of (0, 1), an unknown baseline or output.
    """
    if masks < 1 or not 0 < keep < 1:
        raise VexbenchError(f"rise: masks must be at least 1 and keep in (0, 1), not {masks} and {keep}.")
    check_cells("rise", probe, cells)

    def drawn() -> Iterator[Float[Tensor, "H W"]]:
        # drawn a second time for the average: thousands of masks are not kept
        return shifted_grids(probe, masks, cells=cells, keep=keep)

    everywhere = probe.images[:, 0]
    shown = (mask.expand_as(everywhere) for mask in drawn())
    scores = probe.scores_masked(shown, baseline_images(probe, baseline), known_output(output))
    total = torch.zeros_like(everywhere)
    for score, mask in zip(scores.T, drawn(), strict=True):
        total = total + score[:, None, None] * mask
    return total / (masks * keep)


@method(family="perturbation", title="Sobol", paper="Fel et al. 2021, arXiv:2111.04138")
def sobol(probe: Probe, *, samples: int = 32, cells: int = 8, baseline: str = "grey", output: str = "logit") -> Maps:
    """Share of the score's variance that a cell takes part in, alone or with others, when all cells fade at random.

    M_i = E_{~i} Var_i(f) / Var(f) ≈ mean_j (f(A_j) − f(A_j with cell i from B_j))² / 2 Var(f)  (Fel et al. 2021, eq. 3;
    the estimator is Jansen's), A and B of a scrambled Sobol sequence in [0, 1], the opacity of each cell.
    All images see the same sequence, drawn from the seed. A map of cells × cells; zero where the score never changes.

    Parameters
    ----------
    samples
        Points of the sequence, a power of two; it costs samples · (cells² + 2) passes.
    cells
        Cells per side.
    baseline
        What a cell fades to: black, white, grey, mean, blur or uniform.
    output
        The score f: logit, probability or log_probability.

    Raises
    ------
    VexbenchError
        Samples that are no power of two above one, less than one cell or more than 64, an unknown baseline or output.
    """
    if samples < 2 or samples & (samples - 1):
        raise VexbenchError(f"sobol: samples must be a power of two, 2 or more, not {samples}.")
    check_cells("sobol", probe, cells, most=64)
    (height, width), count = probe.images.shape[2:], cells**2
    labels = grid(height, width, cells).to(probe.images.device)
    first, second = quasi_random(probe, samples, 2 * count).to(probe.images.device).split(count, 1)

    def opacities() -> Iterator[Tensor]:
        yield from first
        yield from second
        for cell in range(count):
            for one, other in zip(first, second, strict=True):
                yield torch.where(torch.arange(count, device=one.device) == cell, other, one)

    everywhere = probe.images[:, 0]
    visible = (values[labels].expand_as(everywhere) for values in opacities())
    scores = probe.scores_masked(visible, baseline_images(probe, baseline), known_output(output)).double()
    variance = scores[:, : 2 * samples].var(1, correction=0)[:, None]
    changed = scores[:, 2 * samples :].view(-1, count, samples) - scores[:, None, :samples]
    totals = (changed.square().mean(2) / (2 * variance)).where(variance > 0, 0)
    return totals.float().view(-1, cells, cells)


def quasi_random(probe: Probe, samples: int, dimensions: int) -> Float[Tensor, "samples dimensions"]:
    """Points of a scrambled Sobol sequence in [0, 1), from the probe's seed."""
    from scipy.stats.qmc import Sobol

    source = np.random.default_rng(generator(probe.seed, "sobol").initial_seed())
    return torch.from_numpy(Sobol(dimensions, scramble=True, seed=source).random(samples)).float()  # pyright: ignore[reportCallIssue]  its name before SciPy 1.15, and still taken


def check_cells(name: str, probe: Probe, cells: int, most: int = 10**6) -> None:
    """Refuse grids of no cells, or of more than there are pixels."""
    most = min(most, *probe.images.shape[2:])
    if not 1 <= cells <= most:
        raise VexbenchError(f"{name}: cells must be between 1 and {most} for these images, not {cells}.")


def known_output(output: str) -> Output:
    """The output, or an error with those that there are."""
    if output not in get_args(Output):
        raise unknown("output", output, get_args(Output))
    return cast(Output, output)


@method(family="perturbation", title="Extremal perturbation", paper="Fong et al. 2019, arXiv:1910.08485")
def extremal_perturbation(
    probe: Probe, *, areas: str = "0.05+0.1+0.2", steps: int = 200, cells: int = 24, baseline: str = "blur"
) -> Maps:
    """Smooth masks of given areas that keep the score highest, averaged over the areas.

    m_a = argmax_m y(m ⊙ x) − λ ‖sort(m) − r_a‖², r_a the sorted mask of area a with nothing between 0 and 1;
    m(u) = smax_v k(u − v) p(v), k(z) = exp(−max(0, |z| − 1)² / 4), smax f = sum f e^{f/T} / sum e^{f/T}, T = 1/20,
    p in [0, 1]  (Fong et al. 2019, section 3), by descent with momentum from p = 1/2.

    The score's gradient is divided by its root mean square over the cells, and λ grows from 0.1 to 10: first the score
    decides, then the area, whatever the unit of the logits. Where cells are equal, as all are at the start, they are
    ranked by what the score would gain. Masks are enlarged (bilinear).

    Parameters
    ----------
    areas
        Shares of the image that may be seen, in (0, 1), joined by ``+``.
    steps
        Gradients per area.
    cells
        Cells on the longer side of the masks.
    baseline
        What shows where the mask hides: black, white, grey, mean, blur or uniform.

    Raises
    ------
    VexbenchError
        Areas that are no numbers in (0, 1), less than one step or cell, more cells than pixels, or an unknown baseline.
    """
    shares, longer = parsed_areas(areas), max(probe.images.shape[2:])
    if steps < 1 or not 1 <= cells <= longer:
        raise VexbenchError(
            "extremal_perturbation: steps must be at least 1 and cells between 1 and "
            f"{longer} for these images, not {steps} and {cells}."
        )
    maps: list[Tensor] = []
    for image, target, hidden in zip(probe.images, probe.targets, baseline_images(probe, baseline), strict=True):
        # by itself, in passes of one size: the steps would blow up the rounding that hangs on an image's company
        alone = Probe(probe.classifier, image[None], target[None], seed=probe.seed, batch_size=ALIGNED)
        alone.passes = probe.passes
        with differentiating():
            maps.append(extremal_masks(alone, hidden, shares, steps=steps, cells=cells).mean(0))
    return torch.stack(maps)


def extremal_masks(
    probe: Probe, hidden: Float[Tensor, "3 H W"], shares: list[float], *, steps: int, cells: int
) -> Float[Tensor, "areas h w"]:
    """The extremal mask of one image for each area."""
    (image,) = probe.images
    rows, columns = (max(1, round(cells * side / max(image.shape[1:]))) for side in image.shape[1:])
    quantiles = (torch.arange(rows * columns, device=image.device) + 0.5) / (rows * columns)
    ideal = torch.stack([(quantiles > 1 - share).float() for share in shares])
    seeds = image.new_full((len(shares), rows, columns), 0.5)
    speed = torch.zeros_like(seeds)
    for step in range(steps):
        leaf = seeds.clone().requires_grad_()
        masks = smooth_maximum(leaf)
        large = functional.interpolate(masks[:, None], image.shape[1:], mode="bilinear", align_corners=False)
        variants = (hidden + mask.detach() * (image - hidden) for mask in large.split(1))
        gains = torch.cat([(g * (image - hidden)).sum(1, keepdim=True) for g in probe.input_gradients(variants)])
        (wanted,) = torch.autograd.grad(large, masks, gains, retain_graph=True)
        size = wanted.square().mean((1, 2), keepdim=True).sqrt()
        wanted = (wanted / size).where(size > 0, 0)
        off = masks.flatten(1) - ranked(masks.detach().flatten(1), wanted.flatten(1), ideal)
        energy = 0.1 * 100 ** (step / steps) * off.square().sum() - (wanted * masks).sum()
        (slope,) = torch.autograd.grad(energy, leaf)
        speed = 0.9 * speed + 0.1 * slope
        seeds = (seeds - 0.2 * speed).clamp(0, 1)
    return smooth_maximum(seeds)


def parsed_areas(areas: str) -> list[float]:
    """Numbers in (0, 1) joined by plus signs.

    >>> parsed_areas("0.05+0.1")
    [0.05, 0.1]
    """
    try:
        shares = [float(area) for area in areas.split("+")]
    except ValueError:
        shares = [nan]
    if not all(0 < share < 1 for share in shares):
        raise VexbenchError(
            f"extremal_perturbation: areas must be numbers in (0, 1) joined by +, such as 0.05+0.1, not {areas!r}."
        )
    return shares


def smooth_maximum(seeds: Float[Tensor, "B h w"], temperature: float = 1 / 20) -> Float[Tensor, "B h w"]:
    """The largest seed around each cell, less by its distance, as a smooth function: masks without fine texture."""
    radius = 5
    across = torch.arange(-radius, radius + 1, device=seeds.device, dtype=seeds.dtype)
    distance = (across[:, None] ** 2 + across[None, :] ** 2).sqrt().flatten()
    near = torch.exp(-((distance - 1).clamp(min=0) ** 2) / 4)[:, None]
    values = near * functional.unfold(seeds[:, None], 2 * radius + 1, padding=radius)
    return (values * (values / temperature).softmax(1)).sum(1).view(seeds.shape)


def ranked(
    masks: Float[Tensor, "B cells"], wanted: Float[Tensor, "B cells"], ideal: Float[Tensor, "B cells"]
) -> Float[Tensor, "B cells"]:
    """The sorted ideal, laid out in the order of the masks' values, and of what is wanted where these are equal."""
    order = wanted.argsort(stable=True, dim=1)
    order = order.gather(1, masks.gather(1, order).argsort(stable=True, dim=1))
    return torch.empty_like(masks).scatter(1, order, ideal)

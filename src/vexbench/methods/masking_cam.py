"""Class activation maps whose channels are weighed by passes instead of gradients, or over noisy copies."""

from collections.abc import Iterator
from math import inf

import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.methods.cam import weighted
from vexbench.models.base import head_weights
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.perturb.noise import gaussian
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.types import Curves, Features, Maps, Masks


@method(family="perturbation", title="Score-CAM", paper="Wang et al. 2020, arXiv:1910.01279")
def score_cam(probe: Probe, *, weighting: str = "softmax", baseline: str = "black") -> Maps:
    """Weight each channel by the score of the image seen through it.

    M = ReLU(sum_k w_k A_k), w = softmax_k(y(x ⊙ H_k) − y(x₀)), H_k = s(U(A_k))  (Wang et al. 2020, eq. 2-6),
    with U bilinear to the image and s to [0, 1] by minimum and maximum; a channel that is the same everywhere shows
    nothing. The softmax takes no notice of y(x₀), which is the same for all channels.

    Parameters
    ----------
    weighting
        softmax; increase, the same without softmax; or probability, as in the authors' code: w_k is the class's
        probability given x ⊙ H_k, and channels that are the same everywhere are left out.
    baseline
        What is seen where the channel is low, and x₀: black, white, grey, mean, blur or uniform.

    Raises
    ------
    VexbenchError
        A weighting or baseline that does not exist.
    """
    if weighting not in ("softmax", "increase", "probability"):
        raise unknown("weighting", weighting, ("softmax", "increase", "probability"))
    activations, hidden = probe.trace.activations, baseline_images(probe, baseline)
    masks = shown_by(activations, probe.images)
    if weighting == "probability":
        varied = (activations.amax((2, 3)) > activations.amin((2, 3))).float()
        weights = probe.scores_masked(masks, hidden, "probability") * varied
    else:
        weights = probe.scores_masked(masks, hidden)
        weights = weights.softmax(1) if weighting == "softmax" else weights - probe.scores([hidden])
    return weighted(weights[:, :, None, None], activations)


@method(family="perturbation", title="SS-CAM", paper="Wang et al. 2020, arXiv:2006.14255")
def ss_cam(probe: Probe, *, samples: int = 10, noise: float = 2.0) -> Maps:
    """Score-CAM with scores averaged over noisy masks.

    M = ReLU(sum_k w_k A_k), w = softmax_k(mean_s y(x ⊙ (H_k + ε_s))), ε_s ~ N(0, σ²) at each pixel
    (Wang et al. 2020, algorithm 1), H_k as in Score-CAM. Channels share their noise: the weights compare them, and what
    they share falls out of the comparison.

    Parameters
    ----------
    samples
        Noisy masks per channel.
    noise
        σ, for masks in [0, 1].

    Raises
    ------
    VexbenchError
        Less than one sample, or noise that is negative or not finite.
    """
    checked("ss_cam", samples, noise)
    activations = probe.trace.activations
    masks = (
        mask + noise * draw[:, 0] for draw in gaussian(probe, samples) for mask in shown_by(activations, probe.images)
    )
    return weighted(softmax_of_mean(probe, masks, samples)[:, :, None, None], activations)


@method(family="perturbation", title="IS-CAM", paper="Naidu et al. 2020, arXiv:2010.03023")
def is_cam(probe: Probe, *, steps: int = 10) -> Maps:
    """Score-CAM with scores averaged along the way from nothing to the whole mask.

    M = ReLU(sum_k w_k A_k), w = softmax_k(mean_i y(x ⊙ (i/n) H_k)), i = 1 … n  (Naidu et al. 2020, eq. 5-6),
    H_k as in Score-CAM.

    Parameters
    ----------
    steps
        n.

    Raises
    ------
    VexbenchError
        Less than one step.
    """
    if steps < 1:
        raise VexbenchError(f"is_cam: steps must be at least 1, not {steps}.")
    activations = probe.trace.activations
    masks = (step / steps * mask for step in range(1, steps + 1) for mask in shown_by(activations, probe.images))
    return weighted(softmax_of_mean(probe, masks, steps)[:, :, None, None], activations)


def shown_by(activations: Features, images: Tensor) -> Iterator[Masks]:
    """What each channel shows of the images, one mask (N, H, W) after the other."""
    for channel in activations.split(1, 1):
        masks = functional.interpolate(channel, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        yield (masks - low) / (high - low).where(high > low, 1)


def softmax_of_mean(probe: Probe, masks: Iterator[Masks], rounds: int) -> Curves:
    """Weights (N, C) from the scores of all channels' masks, so many times over."""
    scores = probe.scores_masked(masks, torch.zeros_like(probe.images))
    return scores.unflatten(1, (rounds, -1)).mean(1).softmax(1)


def checked(name: str, samples: int, noise: float) -> None:
    """Refuse samples and noise that are none."""
    if samples < 1 or not 0 <= noise < inf:
        raise VexbenchError(f"{name}: samples must be at least 1 and noise at least 0, not {samples} and {noise}.")


@method(family="perturbation", title="Ablation-CAM", paper="Ramaswamy & Desai 2020, doi:10.1109/WACV45572.2020.9093360")
def ablation_cam(probe: Probe) -> Maps:
    """Weight each channel by the share of the score that is lost without it.

    M = ReLU(sum_k w_k A_k), w_k = (y − y_k) / |y|, y_k the score where A_k is zero  (Ramaswamy & Desai 2020, eq. 3-4)

    The paper divides by y, which turns the map upside down where y < 0: here by |y|, and by 1 where y is 0. Behind
    global average pooling and a linear head y − y_k = v_k mean(A_k), and no pass is needed.
    """
    activations = probe.trace.activations
    score = probe.logits.gather(1, probe.targets[:, None])
    try:
        heads = head_weights(probe.classifier, activations, probe.logits)
        drops = heads[probe.targets] * activations.mean((2, 3))
    except NotApplicable:
        drops = score - probe.scores_from(ablated(activations))
    return weighted((drops / score.abs().where(score != 0, 1))[:, :, None, None], activations)


def ablated(activations: Features) -> Iterator[Features]:
    """The features without their first channel, without their second, …"""
    for channel in range(activations.shape[1]):
        features = activations.clone()
        features[:, channel] = 0
        yield features


@method(family="perturbation", title="Smooth Grad-CAM++", paper="Omeiza et al. 2019, arXiv:1908.01224")
def smooth_grad_cam_plus_plus(probe: Probe, *, samples: int = 25, noise: float = 0.15) -> Maps:
    """Grad-CAM++ with the powers of the gradient averaged over noisy copies of the image.

    M = ReLU(sum_k w_k A_k), w_k = sum_ij α_kij ReLU(D¹_kij), α = D² / (2 D² + (sum_ab A_kab) D³), 0 where D² or the
    denominator is 0, Dᵖ = mean_s gᵖ(x + ε_s), ε_s ~ N(0, σ²), σ = noise · (max x − min x)
    (Omeiza et al. 2019, eq. 9-10; D¹ in α's numerator there is taken for a slip, since α is Grad-CAM++'s for one copy
    without noise). A is that of the image without noise.

    Parameters
    ----------
    samples
        Noisy copies per image.
    noise
        Standard deviation as a share of the image's range.

    Raises
    ------
    VexbenchError
        Less than one sample, or noise that is negative or not finite.
    """
    checked("smooth_grad_cam_plus_plus", samples, noise)
    activations = probe.trace.activations
    sigma = noise * (probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True))
    unit = probe.trace.gradients.abs().amax((1, 2, 3), keepdim=True)
    unit = unit.where(unit > 0, 1)  # cubes of faint gradients would vanish in float32
    powers = [torch.zeros_like(activations) for _ in range(3)]
    for trace in probe.traces(probe.images + sigma * draw for draw in gaussian(probe, samples)):
        for power, total in enumerate(powers, start=1):
            total += (trace.gradients / unit) ** power / samples
    first, second, third = powers
    denominator = 2 * second + activations.sum((2, 3), keepdim=True) * unit * third
    defined = (second != 0) & (denominator != 0)
    alpha = defined * second / denominator.where(defined, 1)
    return weighted((alpha * (first * unit).relu()).sum((2, 3), keepdim=True), activations)

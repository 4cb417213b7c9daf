"""Perturbation-based methods: change the image, and see what the network makes of it."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.perturb.baselines import baseline as baseline_images
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.rules import gating
from vexbench.types import Images, Maps


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
    clean = probe.logits.gather(1, probe.targets[:, None])
    places = list(product(starts(height, patch, stride), starts(width, patch, stride)))

    def occluded() -> Iterator[Images]:
        for top, left in places:
            images = probe.images.clone()
            window = (..., slice(top, top + patch), slice(left, left + patch))
            images[window] = hidden[window]
            yield images

    drops = clean - probe.scores(occluded())
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

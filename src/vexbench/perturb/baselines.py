"""Images in which the evidence is missing."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import unknown
from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Images

BASELINES = ("black", "white", "grey", "mean", "blur", "uniform", "gaussian")


def baseline(probe: Probe, name: str) -> Images:
    """The probe's images without their evidence, in [0, 1].

    black 0, white 1, grey 1/2; mean: each image's own mean per channel; blur: Gaussian with σ = 5 px in an 11 px
    window, RISE's numbers (its code folds the tails back into the window, and darkens the border); uniform: noise
    seeded by image; gaussian: the same of mean 1/2 and standard deviation 1/4, cut off at 0 and 1.

    Raises
    ------
    VexbenchError
        A name that does not exist.
    """
    images = probe.images
    match name:
        case "black":
            return torch.zeros_like(images)
        case "white":
            return torch.ones_like(images)
        case "grey":
            return torch.full_like(images, 0.5)
        case "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        case "blur":
            return blurred(images, sigma=5.0, radius=5)
        case "uniform":
            return _drawn(probe, name, torch.rand)
        case "gaussian":
            return (0.5 + 0.25 * _drawn(probe, name, torch.randn)).clamp(0, 1)
        case _:
            raise unknown("baseline", name, BASELINES)


def _drawn(probe: Probe, name: str, draw: Callable[..., Tensor]) -> Images:
    """Noise seeded by image."""
    draws = [
        draw(probe.images.shape[1:], generator=generator(probe.seed, name, key), dtype=torch.float32)
        for key in probe.fingerprints
    ]
    return torch.stack(draws).to(probe.images.device)


def blurred(images: Images, *, sigma: float, radius: int) -> Images:
    """Gaussian blur in a window of 2·radius + 1 pixels, reflected at the border (repeated where that is too small)."""
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(3, 1, -1)
    mode = "reflect" if min(images.shape[2:]) > radius else "replicate"
    padded = functional.pad(images, (radius,) * 4, mode=mode)
    columns = functional.conv2d(padded, weights[:, :, :, None], groups=3)
    return functional.conv2d(columns, weights[:, :, None, :], groups=3)

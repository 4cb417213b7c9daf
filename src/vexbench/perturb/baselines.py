"""Images in which the evidence is missing."""

import torch
from torch.nn import functional

from vexbench.errors import unknown
from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Images

BASELINES = ("black", "white", "grey", "mean", "blur", "uniform")


def baseline(probe: Probe, name: str) -> Images:
    """The probe's images without their evidence, in [0, 1].

    black 0, white 1, grey 1/2; mean: each image's own mean per channel; blur: Gaussian with σ = 5 px in an 11 px
    window, RISE's numbers (its code folds the tails back into the window, and darkens the border); uniform: noise
    seeded by image.

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
            noise = [
                torch.rand(images.shape[1:], generator=generator(probe.seed, "uniform", key), dtype=torch.float32)
                for key in probe.fingerprints
            ]
            return torch.stack(noise).to(images.device)
        case _:
            raise unknown("baseline", name, BASELINES)


def blurred(images: Images, *, sigma: float, radius: int) -> Images:
    """Gaussian blur in a window of 2·radius + 1 pixels, reflected at the border (repeated where that is too small)."""
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(3, 1, -1)
    mode = "reflect" if min(images.shape[2:]) > radius else "replicate"
    padded = functional.pad(images, (radius,) * 4, mode=mode)
    columns = functional.conv2d(padded, weights[:, :, :, None], groups=3)
    return functional.conv2d(columns, weights[:, :, None, :], groups=3)

"""Images as a poor camera or a small file would give them (Hendrycks & Dietterich 2019), at severities 1 to 5."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vexbench.perturb import noise
from vexbench.perturb.blur import diffused
from vexbench.probe import Probe
from vexbench.types import Images


def gaussian_noise(probe: Probe, severity: int) -> Images:
    """Normal noise in each value, seeded by image."""
    (draw,) = noise.gaussian(probe, 1)
    return (probe.images + (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1] * draw).clamp(0, 1)


def blur(probe: Probe, severity: int) -> Images:
    """Gaussian blur of 1 to 6 pixels."""
    return diffused(probe.images, (1.0, 2.0, 3.0, 4.0, 6.0)[severity - 1]).clamp(0, 1)


def jpeg(probe: Probe, severity: int) -> Images:
    """Written as a JPEG file of low quality, and read again."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    return torch.stack([_rewritten(image, quality) for image in probe.images]).to(probe.images.device)


def _rewritten(image: Tensor, quality: int) -> Tensor:
    pixels = (255 * image).round().byte().permute(1, 2, 0).cpu().numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return torch.from_numpy(np.array(read)).permute(2, 0, 1).float() / 255


def brightness(probe: Probe, severity: int) -> Images:
    """The largest of the three colours raised, hue and saturation kept (the value of HSV)."""
    images, rise = probe.images, 0.1 * severity
    value = images.amax(1, keepdim=True)
    raised = (value + rise).clamp(max=1)
    return torch.where(value > 0, images * (raised / value.where(value > 0, 1)), raised).clamp(0, 1)


CORRUPTIONS: Final[Mapping[str, Callable[[Probe, int], Images]]] = {
    "gaussian_noise": gaussian_noise,
    "blur": blur,
    "jpeg": jpeg,
    "brightness": brightness,
}

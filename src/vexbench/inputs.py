"""What goes into a network: checked, and in fours."""

from math import isfinite
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.types import Images

ALIGNED: Final = 4
"""Images in a pass come in fours, the last one repeated where need be, and its copies forgotten.

A CPU sums in another order for other batch sizes, but in one order for nearly all multiples of four, so that results
do not depend on the batch (docs/decisions/0008-passes-in-fours.md).
"""


def padded(values: Tensor) -> Tensor:
    """Images, or features, in fours, the last one repeated."""
    lacking = -len(values) % ALIGNED
    return torch.cat([values, values[-1:].expand(lacking, -1, -1, -1)]) if lacking else values


def as_tensor(what: str, values: object) -> Tensor:
    """A tensor, or what torch makes one of: an array or a list of numbers; else an error that names it."""
    if isinstance(values, Tensor):
        return values
    try:  # torch takes no array that runs backwards
        return torch.tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        came = " ".join(repr(values).split())[:40]
        raise VexbenchError(f"{what} must be a tensor, an array or a list of numbers, not {came}.") from error


def usable_device(name: str) -> torch.device:
    """A device by its name: cpu, cuda, mps, …

    Raises
    ------
    VexbenchError
        There is no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise VexbenchError(f"device '{name}' cannot be used here: {str(error).partition(chr(10))[0]}") from error
    return device


def checked_images(images: object) -> Images:
    """Images as float32 (N, 3, H, W), or an error that says what to change."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        came = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise VexbenchError(f"images must be a tensor of shape (N, 3, H, W) with values in [0, 1], not {came}.")
    if not images.is_floating_point():
        raise VexbenchError(f"images must be floating point in [0, 1], not {images.dtype}; divide 8-bit images by 255.")
    images = images.detach().float()
    low, high = map(float, images.aminmax()) if images.numel() else (0.0, 1.0)
    if not isfinite(low + high):
        raise VexbenchError("images hold NaN or infinite values; check how they were read.")
    if low < 0 or high > 1:
        raise VexbenchError(
            f"images must be in [0, 1], not [{low:.3g}, {high:.3g}]; undo the normalisation and "
            "give mean= and std= to the Classifier instead."
        )
    return images.clone() if images.is_inference() else images

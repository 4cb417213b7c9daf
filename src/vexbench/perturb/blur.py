"""Blur at any scale, without a border that darkens."""

from functools import lru_cache
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.types import Images


def diffused(images: Images, sigma: float) -> Images:
    """Gaussian blur as a diffusion on the pixels that loses nothing at the border.

    The discrete scale space of Lindeberg 1990: its kernel is positive and sums to one at every scale, scales follow one
    another (blur by 3 and then by 4 is blur by 5), and the largest leaves the image's mean.
    """
    down, across = (kernel(length, sigma).to(images.device) for length in images.shape[2:])
    return torch.stack([down @ image @ across for image in images])


@lru_cache(maxsize=2)
def kernel(length: int, sigma: float) -> Float[Tensor, "length length"]:
    """What each pixel of a line gives to each other: diffusion with reflecting ends, diagonal in the cosine basis."""
    waves = torch.arange(length, dtype=torch.float64) * pi / length
    basis = torch.cos(waves[:, None] * (torch.arange(length) + 0.5)) * (2 / length) ** 0.5
    basis[0] /= 2**0.5
    return (basis.T @ (torch.exp(-(sigma**2) * (1 - torch.cos(waves)))[:, None] * basis)).float()

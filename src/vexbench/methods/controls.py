"""Controls: a method that does not beat them has shown nothing."""

from math import inf

import torch
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.seeds import generator
from vexbench.types import Maps


@method(family="control", title="Random", paper="control: knows neither image nor network")
def random(probe: Probe) -> Maps:
    """Uniform noise, seeded by image."""
    shape = probe.images.shape[2:]
    maps = [
        torch.rand(shape, generator=generator(probe.seed, "random", key), dtype=torch.float32)
        for key in probe.fingerprints
    ]
    return torch.stack(maps).to(probe.images.device)


@method(family="control", title="Centre Gaussian", paper="control: photographers put things in the middle")
def centre_gaussian(probe: Probe, *, width: float = 0.25) -> Maps:
    """A Gaussian in the middle of the image.

    M = exp(−(u² + v²) / 2·width²), with u, v the distances from the centre as shares of the sides.

    Raises
    ------
    VexbenchError
        A width that is not above zero, or not finite.
    """
    if not 0 < width < inf:
        raise VexbenchError(f"centre_gaussian: width must be above 0, a share of the sides, not {width}.")
    height, breadth = probe.images.shape[2:]
    rows, columns = (
        ((torch.arange(length, device=probe.images.device) + 0.5) / length - 0.5) ** 2 for length in (height, breadth)
    )
    gaussian = torch.exp(-(rows[:, None] + columns[None, :]) / (2 * width**2))
    return gaussian.expand(len(probe.images), -1, -1).contiguous()


@method(family="control", title="Sobel edges", paper="control: Adebayo et al. 2018, arXiv:1810.03292")
def sobel_edges(probe: Probe) -> Maps:
    """Size of the brightness gradient: an edge detector that knows nothing of the network.

    M = sqrt((S * l)² + (Sᵀ * l)²), S the 3×3 Sobel kernel, l the mean over the colours.
    """
    light = functional.pad(probe.images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = light.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    return functional.conv2d(light, kernels).square().sum(1).sqrt()


@method(family="control", title="Input intensity", paper="control: the image itself")
def input_intensity(probe: Probe) -> Maps:
    """Brightness of the image: evidence is wherever there is light.

    M = mean over the colours of x
    """
    return probe.images.mean(1)

"""Controls: a method that does not beat them has shown nothing."""

from math import inf

import torch
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.probe import Probe
from vexbench.registry import METHODS, method
from vexbench.seeds import fingerprint, generator
from vexbench.types import Maps


@method(family="control", title="Random", paper="control: knows neither image nor network")
def random(probe: Probe) -> Maps:
    """Uniform noise, drawn anew for every image, however little it differs from another."""
    shape = probe.images.shape[2:]
    maps = [
        torch.rand(shape, generator=generator(probe.seed, "random", fingerprint(image)), dtype=torch.float32)
        for image in probe.images
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


@method(family="control", title="Degraded", paper="control: another method's map, spoilt step by step")
def degraded(probe: Probe, *, of: str = "grad_cam", noise: float = 0.5) -> Maps:
    """The map of another method under noise: a metric worth its name ranks it lower, the more noise there is.

    M' = (1 − noise)·M + noise·U, U uniform between the lowest and the highest value of M (over a range of 1 where M is
    constant), so that a signed map stays signed, and an unsigned one unsigned. U hangs on the seed and the image alone:
    more noise is more of the same. At 0 it is the clean map, of the method's default parameters, and at 1 noise alone.

    Raises
    ------
    VexbenchError
        A noise outside [0, 1], or a method that does not exist, or is this one.
    NotApplicable
        The other method is not defined for this network.
    """
    if not 0 <= noise <= 1:
        raise VexbenchError(f"degraded: noise must be between 0 (the clean map) and 1 (noise alone), not {noise}.")
    if of == "degraded":
        raise VexbenchError("degraded: of= must name another method.")
    clean = METHODS[of]
    maps = clean.function(probe, **clean.bind().params).detach().float()
    size = probe.images.shape[2:]
    if maps.shape[1:] != size:
        maps = functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(low))
    uniform = torch.stack(
        [
            torch.rand(size, generator=generator(probe.seed, "degraded", key), dtype=torch.float32)
            for key in probe.fingerprints
        ]
    )
    # lerp is exact at both ends
    return torch.lerp(maps, low + span * uniform.to(maps), noise)

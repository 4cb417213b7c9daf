"""Perturbation-based methods that ask noisy copies of the image for their gradients."""

from collections.abc import Iterator
from math import inf

import torch

from vexbench.errors import VexbenchError
from vexbench.perturb.noise import gaussian
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.types import Images, Maps


@method(family="perturbation", title="SmoothGrad", paper="Smilkov et al. 2017, arXiv:1706.03825")
def smooth_grad(probe: Probe, *, samples: int = 25, noise: float = 0.15) -> Maps:
    """Gradient averaged over noisy copies of the image; its size, the largest over the colours.

    M = max_c |mean_s dy/dx_c (x + ε_s)|, ε_s ~ N(0, σ²), σ = noise · (max x − min x)  (Smilkov et al. 2017, section 3)

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
    total = torch.zeros_like(probe.images)
    for gradients in noisy("smooth_grad", probe, samples, noise):
        total = total + gradients
    return (total / samples).abs().amax(1)


@method(family="perturbation", title="SmoothGrad²", paper="Hooker et al. 2019, arXiv:1806.10758")
def smooth_grad_squared(probe: Probe, *, samples: int = 25, noise: float = 0.15) -> Maps:
    """Squared gradient averaged over noisy copies of the image, the largest over the colours.

    M = max_c mean_s (dy/dx_c (x + ε_s))², with SmoothGrad's copies  (Hooker et al. 2019, section 4.2)

    Parameters and errors are those of `smooth_grad`.
    """
    total = torch.zeros_like(probe.images)
    for gradients in noisy("smooth_grad_squared", probe, samples, noise):
        total = total + gradients.square()
    return (total / samples).amax(1)


@method(family="perturbation", title="VarGrad", paper="Adebayo et al. 2018, arXiv:1810.03292")
def var_grad(probe: Probe, *, samples: int = 25, noise: float = 0.15) -> Maps:
    """Variance of the gradient over noisy copies of the image, the largest over the colours.

    M = max_c mean_s (g_sc − mean_s g_sc)², g_s = dy/dx (x + ε_s), with SmoothGrad's copies: SmoothGrad² less the square
    of the mean, colour by colour  (Adebayo et al. 2018, appendix A)

    Parameters and errors are those of `smooth_grad`; less than two samples have no variance.
    """
    mean = squares = torch.zeros_like(probe.images)
    for count, gradients in enumerate(noisy("var_grad", probe, samples, noise, least=2), start=1):
        # Welford's form: a difference of large sums would leave rounding for variance
        off = gradients - mean
        mean = mean + off / count
        squares = squares + off * (gradients - mean)
    return (squares / samples).amax(1)


def noisy(name: str, probe: Probe, samples: int, noise: float, *, least: int = 1) -> Iterator[Images]:
    """Gradients at noisy copies of the images, one (N, 3, H, W) after the other."""
    if samples < least or not 0 <= noise < inf:
        raise VexbenchError(
            f"{name}: samples must be at least {least} and noise at least 0, not {samples} and {noise}."
        )
    sigma = noise * (probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True))
    return probe.input_gradients(probe.images + sigma * draw for draw in gaussian(probe, samples))

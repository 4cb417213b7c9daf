"""Gradient-based methods that read the gradient at the input."""

from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.types import Maps


@method(family="gradient", title="Saliency", paper="Simonyan et al. 2013, arXiv:1312.6034")
def saliency(probe: Probe) -> Maps:
    """Size of the gradient, the largest over the colours.

    M = max_c |dy/dx_c|  (Simonyan et al. 2013, section 3)
    """
    (gradients,) = probe.input_gradients([probe.images])
    return gradients.abs().amax(1)

"""Visual explanation methods, one module per family: the folder is the taxonomy. ``vb.methods()`` lists them."""

import sys

from vexbench.methods import cam, controls, gradient, path, perturbation, smoothing, surrogate
from vexbench.registry import Listing

__all__ = ["cam", "controls", "gradient", "path", "perturbation", "smoothing", "surrogate"]

sys.modules[__name__].__class__ = Listing

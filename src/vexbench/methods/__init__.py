"""Visual explanation methods, one module per family: the folder is the taxonomy. ``vb.methods()`` lists them."""

import sys

from vexbench.methods import (
    attention,
    cam,
    controls,
    gradient,
    masking_cam,
    path,
    perturbation,
    propagation,
    smoothing,
    surrogate,
    synthesis,
)
from vexbench.registry import Listing

__all__ = [
    "attention",
    "cam",
    "controls",
    "gradient",
    "masking_cam",
    "path",
    "perturbation",
    "propagation",
    "smoothing",
    "surrogate",
    "synthesis",
]

sys.modules[__name__].__class__ = Listing

"""Metrics that judge an explanation, one module per axis. ``vb.metrics()`` lists them."""

import sys

from vexbench.metrics import complexity, cost, faithfulness, localisation, randomisation, robustness
from vexbench.registry import Listing

__all__ = ["complexity", "cost", "faithfulness", "localisation", "randomisation", "robustness"]

sys.modules[__name__].__class__ = Listing

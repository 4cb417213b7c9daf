"""Metrics that judge an explanation, one module per axis. ``vb.metrics()`` lists them."""

import sys

from vexbench.metrics import (
    axiomatic,
    complexity,
    cost,
    faithfulness,
    fine_tuned,
    localisation,
    randomisation,
    robustness,
    shortcuts,
    stability,
    subsets,
)
from vexbench.registry import Listing

__all__ = [
    "axiomatic",
    "complexity",
    "cost",
    "faithfulness",
    "fine_tuned",
    "localisation",
    "randomisation",
    "robustness",
    "shortcuts",
    "stability",
    "subsets",
]

sys.modules[__name__].__class__ = Listing

"""Images to explain: photographs in folders, and drawn scenes with exact masks. ``vb.datasets()`` lists them."""

import sys

from vexbench.datasets import annotated, folders, intel, scenes
from vexbench.registry import Listing

__all__ = ["annotated", "folders", "intel", "scenes"]

sys.modules[__name__].__class__ = Listing

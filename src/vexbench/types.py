"""Shapes, once and for all; checked at every call under pytest."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Images = Float[Tensor, "N 3 H W"]
"""Colour images in [0, 1]."""
Maps = Float[Tensor, "N H W"]
"""One attribution map per image."""
Masks = Float[Tensor, "N H W"]
"""One mask per image: 1 keeps the pixel, 0 replaces it by the baseline."""
Regions = Bool[Tensor, "N H W"]
"""Where the evidence of the target class is."""
Features = Float[Tensor, "N C h w"]
"""Activations, or gradients, of a layer."""
Targets = Int64[Tensor, "N"]
"""Class indices."""
Logits = Float[Tensor, "N classes"]
"""Outputs of the network before any softmax."""
Scores = Float[Tensor, "N"]
"""One number per image."""
Curves = Float[Tensor, "N K"]
"""K numbers per image: scores of K variants."""


class References(NamedTuple):
    """Images of the same data to compare with, and the classes that the network is sure they show."""

    images: Float[Tensor, "K 3 H W"]
    targets: Targets

"""Quality against cost: who is not beaten on both."""

import numpy as np
from jaxtyping import Bool, Float


def front(cost: Float[np.ndarray, " points"], loss: Float[np.ndarray, " points"]) -> Bool[np.ndarray, " points"]:
    """The Pareto front: points for which no other is at least as good on both and better on one; NaN is never on it.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 1.5])).tolist()
    [True, True, False]
    """
    no_worse = (cost[:, None] <= cost) & (loss[:, None] <= loss)
    beaten = (no_worse & ((cost[:, None] < cost) | (loss[:, None] < loss))).any(0)
    return ~beaten & np.isfinite(cost) & np.isfinite(loss)

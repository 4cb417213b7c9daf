"""The paired bootstrap over images: every method is judged on the same drawn images, draw by draw.

A score that is not defined (NaN) is left out of its mean, and counted.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2000
LEVEL = 0.95
FEWEST = 5
"""Fewer scores than this have no interval: four images favour the same method by chance once in eight times."""


@final
@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; `defined` of `total` images had a score, and below `FEWEST` the interval is NaN."""

    mean: float
    low: float
    high: float
    defined: int
    total: int


@final
@dataclass(frozen=True)
class Bootstrap:
    """Means over the images, and over each draw of the images; NaN where no image had a score."""

    mean: Float[np.ndarray, "methods metrics"]
    draws: Float[np.ndarray, "draws methods metrics"]
    defined: Int[np.ndarray, "methods metrics"]
    total: int

    def estimate(self, method: int, metric: int) -> Estimate:
        """The mean of a method on a metric, with its interval."""
        defined = int(self.defined[method, metric])
        low, high = interval(self.draws[:, method, metric]) if defined >= FEWEST else (float("nan"), float("nan"))
        return Estimate(float(self.mean[method, metric]), low, high, defined, self.total)


def weights(images: int, *, draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "draws images"]:
    """How often each image is drawn, in each of `draws` draws of as many images as there are, with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / max(images, 1)), size=draws).astype(float)


def bootstrap(scores: Float[np.ndarray, "images methods metrics"], *, draws: int = DRAWS, seed: int = 0) -> Bootstrap:
    """Average over the images, and over draws of the images that all methods and metrics share."""
    return means(scores, weights(len(scores), draws=draws, seed=seed))


def means(scores: Float[np.ndarray, "images methods metrics"], drawn: Float[np.ndarray, "draws images"]) -> Bootstrap:
    """Average over the images, and over these draws of them."""
    images, methods, metrics = scores.shape
    defined, draws = np.isfinite(scores), len(drawn)
    flat, mask = np.where(defined, scores, 0.0).reshape(images, -1), defined.reshape(images, -1).astype(float)
    return Bootstrap(
        _ratio(flat.sum(0), mask.sum(0)).reshape(methods, metrics),
        _ratio(drawn @ flat, drawn @ mask).reshape(draws, methods, metrics),
        defined.sum(0),
        images,
    )


def interval(draws: Float[np.ndarray, " draws"], level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of a statistic's draws; NaN where no draw defines it."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

"""Racing: whose place in a ranking is settled before all images are seen (Maron & Moore 1994; Lan & DeMets 1983).

A study has N images in random order, and the ranking to foresee is the one of their N scores. After n of them the mean
paired difference d of two methods is as far from that of all N as chance makes it, sampling without replacement:

    |d − D| ≤ t(1 − α / (L P), n − 1) · s · √((1 − n / N) / n)

with s the standard deviation of the differences, α spent in equal parts on the L looks and on the P comparisons that
can make a place wrong: those within the true top k and of the top k with the rest.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from vexbench.stats.summary import NEARLY

TOP = 3
"""The places that are settled one by one; below them it is enough to know that as many methods are better."""
LEAST = 24
"""No method is stopped on fewer images: what a t-quantile says of fewer skewed differences is not to be relied on."""


def race(
    scores: Float[np.ndarray, "images methods metrics"],
    higher: Bool[np.ndarray, " metrics"],
    *,
    total: int,
    looks: Sequence[int],
    level: float,
) -> Int[np.ndarray, "methods metrics"]:
    """After how many images the place of each method is settled on each metric; 0 where it goes on.

    `scores` are those of the first images of `total`, in random order; NaN is not defined, and what was not computed
    because its place is settled. `looks` are all image counts after which the race is judged, from first to last.
    """
    images, methods, metrics = scores.shape
    signed = np.where(higher, scores, -scores)
    steps = [n for n in looks if LEAST <= n < total]
    top = min(TOP, methods)
    alpha = (1 - level) / max(1, len(steps) * (top * (methods - top) + top * (top - 1) // 2))
    settled = np.zeros((methods, metrics), dtype=int)
    ahead = np.zeros((metrics, methods, methods), dtype=bool)
    tied = np.zeros_like(ahead)
    for n in (step for step in steps if step <= images):
        seen = signed[:n]
        equal, telling = np.ones((methods, methods), dtype=bool), np.zeros((methods, methods), dtype=bool)
        for j in range(metrics):
            live = settled[:, j] == 0
            both = live[:, None] & live
            low, near, distinct = _compare(seen[:, :, j], total - n, alpha)
            ahead[j] = _closed(ahead[j] | (both & (low > 0)))
            equal &= near | ~both
            telling |= near & both & distinct
        # few images on which a score of few values is equal say nothing; that of another metric may
        tied |= equal & telling
        for j in range(metrics):
            out = ahead[j].sum(0) >= TOP
            absent = ~np.isfinite(seen[:, :, j]).any(0)
            known = ahead[j] | ahead[j].T | tied[j] | np.eye(methods, dtype=bool)
            place = out | (known | out | absent).all(1) & ~absent
            settled[place & (settled[:, j] == 0), j] = n
    return settled


def _compare(
    scores: Float[np.ndarray, "n methods"], left: int, alpha: float
) -> tuple[Float[np.ndarray, "methods methods"], Bool[np.ndarray, "methods methods"], Bool[np.ndarray, "methods 1"]]:
    """The lower bound of each method's lead over each, whether they are equal on every image, and tell images apart."""
    lead = scores[:, :, None] - scores[:, None, :]
    known = np.isfinite(lead)
    count, lead = known.sum(0), np.where(known, lead, 0.0)
    enough = count >= LEAST
    n = np.where(enough, count, LEAST)
    mean = lead.sum(0) / n
    spread = np.where(known, (lead - mean) ** 2, 0.0).sum(0) / (n - 1)
    half = -stdtrit(n - 1.0, alpha) * np.sqrt(spread * left / (n + left) / n)
    size = np.abs(np.nan_to_num(scores)).max(initial=0.0)
    near = enough & (np.abs(lead) <= NEARLY * size).all(0)
    values = np.sort(scores, axis=0)
    distinct = ((values[1:] - values[:-1] > 0).sum(0) + 1) * 2 > len(scores)
    return np.where(enough, mean - half, -np.inf), near, distinct[:, None]


def _closed(ahead: Bool[np.ndarray, "methods methods"]) -> Bool[np.ndarray, "methods methods"]:
    """Who is ahead of whom, also by way of others."""
    for via in range(len(ahead)):
        ahead = ahead | (ahead[:, via : via + 1] & ahead[via : via + 1])
    return ahead

"""Racing: whose place in a ranking is settled before all images are seen (Maron & Moore 1994, Hoeffding races).

A study has N images in random order, and the ranking to foresee is the one that all N give. After n of them the mean
paired difference d of two methods is as far from that of all N, D, as sampling without replacement makes it:

    |d − D| ≤ t(1 − α(n), n − 1) · s · √((1 − n / N) / n)

with s the standard deviation of the differences. α(n) is what a group sequential test may use at the look after n
images, so that all looks together use α (Lan & DeMets 1983): the looks' errors go together, the information is
n N / (N − n), and what is spent at a look is proportional to the 1 − n / N of the images that it can save.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, stdtrit

from vexbench.stats.summary import NEARLY

TOP = 3
"""The places that are settled one by one; below them it is enough to know that as many methods are better."""
LEAST = 16
"""No method is stopped on fewer images: what a t-quantile says of a few skewed differences is not to be relied on."""


def race(
    scores: Float[np.ndarray, "images methods metrics"],
    higher: Bool[np.ndarray, " metrics"],
    *,
    total: int,
    looks: Sequence[int],
    level: float,
    ended: Int[np.ndarray, "methods metrics"] | None = None,
) -> Int[np.ndarray, "methods metrics"]:
    """After how many images the place of each method is settled on each metric; 0 where it goes on.

    `scores` are those of the first images of `total`, in random order; NaN is not defined, and what was not computed
    because its place is settled. `looks` are all image counts after which the race is judged, from first to last;
    `ended` says after how many images a method failed: nobody waits for it from then on, and what it settled stays so.

    Of all places on a metric, a share of at most 1 − `level` is expected to be wrong, whatever the scores: a false
    comparison misplaces two methods, and P = k (M − k) + k (k − 1) / 2 comparisons of M methods can be false to a
    cost, those of the true top k with the rest and among each other; so each of them has α = (1 − `level`) M / 2 P.
    """
    images, methods, metrics = scores.shape
    signed = np.where(higher, scores, -scores)
    steps = [n for n in looks if LEAST <= n < total]
    top = min(TOP, methods)
    harmful = max(1, top * (methods - top) + top * (top - 1) // 2)
    alphas = spending(min(1, methods / 2 / harmful) * (1 - level), tuple(steps), total)
    settled = np.zeros((methods, metrics), dtype=int)
    ahead = np.zeros((metrics, methods, methods), dtype=bool)
    tied = np.zeros_like(ahead)
    for n, alpha in zip(steps, alphas):
        if n > images:
            break
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
            if ended is not None:
                absent |= ended[:, j] < n
            known = ahead[j] | ahead[j].T | tied[j] | np.eye(methods, dtype=bool)
            place = out | (known | out | absent).all(1) & ~absent
            settled[place & (settled[:, j] == 0), j] = n
    return settled


@lru_cache
def spending(alpha: float, looks: tuple[int, ...], total: int) -> tuple[float, ...]:
    """The level of each look, one-sided, so that a true bound is ever crossed with probability `alpha`.

    Recursive integration (Armitage, McPherson & Rowe 1969) of the z that have not crossed yet, look by look.
    """
    z, step = np.linspace(-8, 8, 801, retstep=True)
    shares = 1 - np.array(looks) / total
    density, before, found = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), 0.0, list[float]()
    for n, spent in zip(looks, alpha * shares / shares.sum()):
        information = n * total / (total - n)
        kept, new = np.sqrt(before / information), np.sqrt(1 - before / information)
        crossed = step * (ndtr((z * kept - z[:, None]) / new) @ density)
        bound = np.interp(-spent, -crossed, z)
        found.append(float(ndtr(-bound)))
        moved = np.exp(-(((z[:, None] - kept * z) / new) ** 2) / 2) / (new * np.sqrt(2 * np.pi))
        density, before = np.where(z <= bound, step * (moved @ density), 0.0), information
    return tuple(found)


def mistaken(
    scores: Float[np.ndarray, "images methods metrics"],
    higher: Bool[np.ndarray, " metrics"],
    settled: Int[np.ndarray, "methods metrics"],
) -> Bool[np.ndarray, "methods metrics"]:
    """Where a settled place, as told by the images that each pair has seen, is not the one that all images give.

    Places below `TOP` are one. Means that are equal but for rounding may take each other's place.
    """
    signed = np.where(higher, scores, -scores)
    seen = np.where(settled > 0, settled, len(scores))
    margin = np.stack([NEARLY * _larger(signed[:, :, j]) for j in range(len(higher))], 2)
    all_of = signed.mean(0)
    so_far = np.cumsum(signed, 0) / np.arange(1, len(signed) + 1)[:, None, None]
    shared = np.minimum(seen[:, None], seen) - 1
    every = np.arange(signed.shape[1])
    told = np.stack(
        [so_far[shared[..., j], every, j] - so_far[shared[..., j], every[:, None], j] for j in range(len(higher))], 2
    )
    (told_first, told_last), (first, last) = (_places(lead, margin) for lead in (told, all_of - all_of[:, None]))
    return (settled > 0) & ((told_first > last) | (told_last < first))


def _places(
    lead: Float[np.ndarray, "methods methods metrics"], margin: Float[np.ndarray, "methods methods metrics"]
) -> tuple[np.ndarray, np.ndarray]:
    """The best and the worst place that each method may claim, by the leads of the others on it."""
    worst = (lead >= -margin).sum(1)  # itself counts, too
    return np.minimum(1 + (lead > margin).sum(1), TOP + 1), np.minimum(worst, TOP + 1)


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
    near = enough & (np.abs(lead) <= NEARLY * _larger(scores)).all(0)
    values = np.sort(scores, axis=0)
    distinct = ((values[1:] - values[:-1] > 0).sum(0) + 1) * 2 > len(scores)
    return np.where(enough, mean - half, -np.inf), near, distinct[:, None]


def _larger(scores: Float[np.ndarray, "n methods"]) -> Float[np.ndarray, "methods methods"]:
    """The largest absolute score of either method of a pair: one of another scale says nothing of what is near."""
    size = np.abs(np.nan_to_num(scores)).max(0, initial=0.0)
    return np.maximum(size[:, None], size)


def _closed(ahead: Bool[np.ndarray, "methods methods"]) -> Bool[np.ndarray, "methods methods"]:
    """Who is ahead of whom, also by way of others."""
    for via in range(len(ahead)):
        ahead = ahead | (ahead[:, via : via + 1] & ahead[via : via + 1])
    return ahead

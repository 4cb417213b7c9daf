"""Who is first: ranks per metric, per axis and overall, with what the bootstrap says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from vexbench.stats.bootstrap import FEWEST, Bootstrap, interval, means

TIE = 1e-4
"""Means that differ by less than this share are equal: CAM and Grad-CAM differ by rounding only on some networks."""


@final
@dataclass(frozen=True)
class Ranks:
    """Mean ranks of each method over some metrics; 1 is the best. Fewer than `FEWEST` images have NaN for draws."""

    mean: Float[np.ndarray, " methods"]
    draws: Float[np.ndarray, "draws methods"]

    @property
    def first(self) -> Float[np.ndarray, " methods"]:
        """The share of draws in which a method is first; a shared first place counts in parts."""
        best = np.isclose(self.draws, self.draws.min(1, keepdims=True), equal_nan=True)
        return np.where(np.isnan(self.draws), np.nan, best / best.sum(1, keepdims=True)).mean(0)

    @property
    def intervals(self) -> Float[np.ndarray, "methods 2"]:
        """The interval of each method's mean rank."""
        return np.array([interval(draws) for draws in self.draws.T])

    @property
    def order(self) -> list[int]:
        """Methods from the best to the worst."""
        return [int(i) for i in np.argsort(self.mean, kind="stable")]

    def leaders(self, among: Sequence[int]) -> list[int]:
        """Of these methods, the best, then those that the draws cannot tell from it, by rank.

        A method is told apart when the 95 % interval of its rank minus the best one's, draw by draw, is above 0.
        """
        ranked = [i for i in self.order if i in among]
        return [i for i in ranked if not interval(self.draws[:, i] - self.draws[:, ranked[0]])[0] > 0]


def rank(
    values: Float[np.ndarray, "*draws methods metrics"], higher: Bool[np.ndarray, " metrics"]
) -> Float[np.ndarray, "*draws methods metrics"]:
    """Rank the methods on each metric: 1 is the best, ties share the average, NaN takes the last place.

    rank_i = 1 + #(better than i) + #(equal to i)/2
    """
    signed = np.where(higher, values, -values)
    signed = np.where(np.isnan(signed), -np.inf, signed)
    ranks = np.ones(signed.shape)
    # one rival at a time: all pairs at once would be methods² × metrics × draws numbers
    for rival in range(signed.shape[-2]):
        ranks += _behind(signed, signed[..., rival : rival + 1, :])
    return ranks - 0.5


def rank_shared(
    values: Float[np.ndarray, "stages *draws methods"], stage: Int[np.ndarray, " methods"], higher: bool
) -> Float[np.ndarray, "*draws methods"]:
    """Rank on one metric where some methods were stopped: two are compared at the stage that both came to.

    `values` are the means at each stage, of which a method's own, in `stage`, is the last that it has.
    """
    signed = np.where(np.isnan(values), -np.inf, values if higher else -values)
    every = np.arange(len(stage))
    ranks = np.ones(signed.shape[1:])
    for rival in every:
        at = np.minimum(stage, stage[rival])
        # indices around a slice: numpy puts their axis first
        ranks += np.moveaxis(_behind(signed[at, ..., every], signed[at, ..., rival]), 0, -1)
    return ranks - 0.5


def _behind(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where the other is better, 1/2 where they are equal."""
    size = np.maximum(*(np.where(np.isfinite(side), np.abs(side), 0.0) for side in (one, other)))
    with np.errstate(invalid="ignore"):  # inf - inf: two undefined scores are equal
        ahead = other - one
    return np.where(np.isnan(ahead) | (np.abs(ahead) <= TIE * size), 0.5, ahead > 0)


@final
@dataclass(frozen=True)
class RankTable:
    """Ranks on each metric, of the means and of each draw."""

    mean: Float[np.ndarray, "methods metrics"]
    draws: Float[np.ndarray, "draws methods metrics"]

    def over(self, *groups: Sequence[int]) -> Ranks:
        """Average over the metrics of each group, then over the groups, so that each group weighs the same."""
        return Ranks(
            np.mean([self.mean[:, list(group)].mean(1) for group in groups], axis=0),
            np.mean([self.draws[:, :, list(group)].mean(2) for group in groups], axis=0),
        )


def rank_table(result: Bootstrap, higher: Bool[np.ndarray, " metrics"]) -> RankTable:
    """Rank the methods on each metric, once for the means and once for each draw of the images.

    A mean of fewer than `FEWEST` images takes the last place; where there are no more, the draws say nothing.
    """
    if result.total < FEWEST:
        return RankTable(rank(result.mean, higher), np.full_like(result.draws, np.nan))
    enough = result.defined >= FEWEST
    mean, draws = np.where(enough, result.mean, np.nan), np.where(enough, result.draws, np.nan)
    return RankTable(rank(mean, higher), rank(draws, higher))


def rank_raced(
    table: RankTable,
    scores: Float[np.ndarray, "images methods metrics"],
    seen: Int[np.ndarray, "methods metrics"],
    higher: Bool[np.ndarray, " metrics"],
    *,
    draws: Float[np.ndarray, "draws images"],
) -> RankTable:
    """The ranks again on the metrics on which a race stopped methods, each pair by the images that both have seen.

    Methods that saw more images than others have another mean for that alone: some images are harder for all. Those
    with a score of fewer than `FEWEST` images are the last here, too.
    """
    mean, drawn = table.mean.copy(), table.draws.copy()
    scores = np.where(np.isfinite(scores).sum(0) >= min(FEWEST, len(scores)), scores, np.nan)
    for j in np.flatnonzero((seen < len(scores)).any(0)):
        counts, stage = np.unique(seen[:, j], return_inverse=True)
        stages = [means(scores[:n, :, [j]], draws[:, :n]) for n in counts]
        mean[:, j] = rank_shared(np.stack([one.mean[:, 0] for one in stages]), stage, bool(higher[j]))
        drawn[:, :, j] = rank_shared(np.stack([one.draws[:, :, 0] for one in stages]), stage, bool(higher[j]))
    return RankTable(mean, drawn)


def better(
    scores: Float[np.ndarray, "images methods metrics"],
    rival: Float[np.ndarray, "images metrics"],
    higher: Bool[np.ndarray, " metrics"],
    *,
    draws: Float[np.ndarray, "draws images"],
) -> Float[np.ndarray, "methods metrics"]:
    """Compare with a rival image by image: 1 better, -1 worse, 0 not told apart, NaN too few images in common.

    Better: the 95 % interval of the mean difference, in the metric's direction, is above 0.
    """
    gain = np.where(higher, scores - rival[:, None, :], rival[:, None, :] - scores)
    images, methods, metrics = gain.shape
    mask = np.isfinite(gain).reshape(images, -1)
    flat = np.where(mask, gain.reshape(images, -1), 0.0)
    counts = draws @ mask.astype(float)
    means = np.divide(draws @ flat, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    bounds = np.array([interval(column) for column in means.T]).reshape(methods, metrics, 2)
    verdict = (bounds[..., 0] > 0).astype(float) - (bounds[..., 1] < 0)
    return np.where(np.isfinite(gain).sum(0) < FEWEST, np.nan, verdict)

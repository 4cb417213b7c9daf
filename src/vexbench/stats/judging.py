"""Judging the judges: which metrics can be trusted on a study's own results (Tomsett et al. 2020, arXiv:1912.01451).

Four questions to each metric: does it order the methods alike on every image, does it tell methods from a random map,
does it see that a map is spoilt, and does it agree with the other metrics? Methods are here those that a person may
choose; controls only serve as what they are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from vexbench.stats.bootstrap import FEWEST, interval
from vexbench.stats.ranking import TIE, better, rank
from vexbench.stats.summary import Summary

Fall = Literal["every step", "in the end", "no", "upside down"]
CONCLUSIVE = 2 / 3
"""Krippendorff 2004: below this alpha not even tentative conclusions can be drawn, here from a single image."""


@final
@dataclass(frozen=True)
class Reliability:
    """Krippendorff's alpha with the interval that the bootstrap over the images gives it.

    The interval is NaN where fewer than `FEWEST` images have scores to compare.
    """

    alpha: float
    low: float
    high: float


@final
@dataclass(frozen=True)
class Separation:
    """How many of the compared methods score better, and worse, than the random map, by the paired interval.

    `chance` is the probability that a method scores better than the random map on an image, ties counting half: 0.5
    where the metric does not tell them apart.
    """

    better: int
    worse: int
    compared: int
    chance: float


@final
@dataclass(frozen=True)
class Degradation:
    """What a metric makes of one method's map under more and more noise; `levels` begins with the clean map.

    `steps` of the steps between neighbouring levels lower the mean score. `chance` is the probability that of two
    levels the noisier scores worse on an image, ties counting half. `fall` says whether the clean map is told to be
    better than every level with every step a fall, than the noisiest only, or not; or is told to be worse.
    """

    of: int
    levels: tuple[float, ...]
    steps: int
    chance: float
    fall: Fall


@final
@dataclass(frozen=True)
class Judgement:
    """What is found about one metric; None where the study does not hold what it takes."""

    metric: int
    reliability: Reliability | None
    separation: Separation | None
    degradations: tuple[Degradation, ...]
    agreement: float

    @property
    def checks(self) -> dict[str, bool]:
        """The checks that this study allows, and whether the metric passes them."""
        found: dict[str, bool] = {}
        if self.reliability is not None and np.isfinite(self.reliability.low):
            found["reliability"] = self.reliability.low > 0
        if self.separation is not None:
            one = self.separation
            found["separation"] = 2 * one.better >= one.compared and one.better > one.worse
        if self.degradations:
            found["degradation"] = all(one.fall in ("every step", "in the end") for one in self.degradations)
        return found

    @property
    def passes(self) -> bool | None:
        """Whether it passes every check; None where there is none."""
        return all(self.checks.values()) if self.checks else None


@final
@dataclass(frozen=True)
class Judges:
    """The metrics of quality, and how they agree: mean Kendall correlation of the orders they give the methods."""

    summary: Summary

    @cached_property
    def metrics(self) -> tuple[int, ...]:
        """The metrics that are judged: not those of cost, which no image decides."""
        return tuple(j for j, metric in enumerate(self.summary.metrics) if metric.family != "cost")

    @cached_property
    def agreement(self) -> Float[np.ndarray, "metrics metrics"]:
        """Agreement of each metric with each, NaN where fewer than two methods, or no image, can tell."""
        return agreement(self._scores[:, self.summary.candidates], self._higher)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """What is found about each of the metrics."""
        found = list[Judgement]()
        for place, j in enumerate(self.metrics):
            others = np.delete(self.agreement[place], place)
            mean = float(others[np.isfinite(others)].mean()) if np.isfinite(others).any() else float("nan")
            found.append(Judgement(j, self._reliability(j), self._separation(j), tuple(self._degradations(j)), mean))
        return tuple(found)

    @property
    def _scores(self) -> Float[np.ndarray, "images methods metrics"]:
        return self.summary.scores[:, :, list(self.metrics)]

    @property
    def _higher(self) -> Bool[np.ndarray, " metrics"]:
        return self.summary.higher[list(self.metrics)]

    def _reliability(self, j: int) -> Reliability | None:
        scores = self.summary.scores[:, self.summary.candidates, j]
        comparing = int((np.isfinite(scores).sum(1) > 1).sum())
        if comparing < 2:
            return None
        values = _ordinal(_places(scores))
        alpha = float(_alpha(values, np.ones((1, len(values))))[0])
        if not np.isfinite(alpha):
            return None
        low, high = (np.nan, np.nan) if comparing < FEWEST else interval(_alpha(values, self.summary.draws))
        return Reliability(alpha, float(low), float(high))

    def _separation(self, j: int) -> Separation | None:
        verdicts, summary = self.summary.beats_random, self.summary
        if verdicts is None or not np.isfinite(verdicts[summary.candidates, j]).any():
            return None
        compared = [i for i in summary.candidates if np.isfinite(verdicts[i, j])]
        random = next(i for i, method in enumerate(summary.methods) if method.id == "random")
        scores = summary.scores[:, :, j] * (1 if summary.higher[j] else -1)
        told = verdicts[compared, j]
        chance = _chance(scores[:, compared], scores[:, [random]])
        return Separation(int((told > 0).sum()), int((told < 0).sum()), len(compared), chance)

    def _degradations(self, j: int) -> list[Degradation]:
        found = list[Degradation]()
        for clean, spoilt in self._spoilt:
            summary, levels = self.summary, [clean, *(i for _, i in spoilt)]
            scores = summary.scores[:, levels, j]
            one = better(scores[:, 1:, None], scores[:, :1], summary.higher[[j]], draws=summary.draws)[:, 0]
            if not np.isfinite(one).all():
                continue
            good = scores * (1 if summary.higher[j] else -1)
            known = np.isfinite(good).all(1)
            means = good[known].mean(0)
            size = TIE * np.maximum(np.abs(means[1:]), np.abs(means[:-1]))
            steps = int((means[1:] < means[:-1] - size).sum())
            pairs = [(a, b) for a in range(len(levels)) for b in range(a + 1, len(levels))]
            chance = _chance(good[:, [a for a, _ in pairs]], good[:, [b for _, b in pairs]])
            fall: Fall = "no"
            if (one < 0).all() and steps == len(spoilt):
                fall = "every step"
            elif one[-1] < 0:
                fall = "in the end"
            elif one[-1] > 0:
                fall = "upside down"
            found.append(Degradation(clean, (0.0, *(noise for noise, _ in spoilt)), steps, chance, fall))
        return found

    @cached_property
    def _spoilt(self) -> list[tuple[int, list[tuple[float, int]]]]:
        """Per method that the study degrades: the clean map, and its degraded ones by noise."""
        by_method: dict[str, list[tuple[float, int]]] = {}
        methods = self.summary.methods
        for i, method in enumerate(methods):
            if method.degraded:
                level = (float(method.params.get("noise", 0)), i)
                by_method.setdefault(str(method.params.get("of")), []).append(level)
        found: list[tuple[int, list[tuple[float, int]]]] = []
        for of, levels in by_method.items():
            clean = [i for noise, i in levels if noise == 0] or [i for i, one in enumerate(methods) if one.id == of]
            spoilt = sorted(level for level in levels if level[0] > 0)
            if clean and spoilt:
                found.append((clean[0], spoilt))
        return found


def krippendorff(
    ratings: Float[np.ndarray, "raters units"], level: Literal["ordinal", "interval"] = "ordinal"
) -> float:
    """Agreement of raters on units, 1 perfect and 0 as by chance; NaN is no rating (Krippendorff 2011).

    α = 1 − D_o / D_e, with D_o the mean squared distance of two ratings of one unit, and D_e that of any two ratings.
    The ordinal distance of two values is the number of ratings between them, each end counting half.

    >>> round(krippendorff(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])), 3)
    0.704
    """
    values = _ordinal(ratings) if level == "ordinal" else ratings
    return float(_alpha(values, np.ones((1, len(ratings))))[0])


def agreement(
    scores: Float[np.ndarray, "images methods metrics"], higher: Bool[np.ndarray, " metrics"]
) -> Float[np.ndarray, "metrics metrics"]:
    """Kendall's tau-b between the orders that two metrics give the methods on an image, averaged over the images.

    In each metric's direction: +1, the same methods are good. Only pairs of methods count that both metrics score;
    an image on which one of them scores all methods the same says nothing.
    """
    images, methods, metrics = scores.shape
    first, second = np.triu_indices(methods, 1)
    total, count = np.zeros((metrics, metrics)), np.zeros((metrics, metrics))
    signed = np.where(higher, scores, -scores)
    for image in range(images):
        sign = _sign(signed[image, first], signed[image, second])
        known = np.isfinite(sign).astype(float)
        sign = np.nan_to_num(sign)
        untied = np.abs(sign).T @ known
        size = np.sqrt(untied * untied.T)
        tau = np.divide(sign.T @ sign, size, out=np.zeros_like(size), where=size > 0)
        total, count = total + tau, count + (size > 0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _places(scores: Float[np.ndarray, "images methods"]) -> Float[np.ndarray, "images methods"]:
    """The place of each method on each image, as a share of the methods that have a score there."""
    ranks = rank(scores[..., None], np.array([True]))[..., 0]
    known = np.isfinite(scores)
    return np.where(known, (ranks - 0.5) / np.maximum(known.sum(1, keepdims=True), 1), np.nan)


def _ordinal(ratings: Float[np.ndarray, "raters units"]) -> Float[np.ndarray, "raters units"]:
    """Values whose differences are the ordinal distances: the ratings below, and half of those that are equal."""
    known = np.isfinite(ratings) & (np.isfinite(ratings).sum(0) > 1)
    values = np.full(ratings.shape, np.nan)
    values[known] = rankdata(ratings[known])
    return values


def _alpha(
    values: Float[np.ndarray, "raters units"], weights: Float[np.ndarray, "draws raters"]
) -> Float[np.ndarray, " draws"]:
    """Interval alpha where each rater counts as often as it is drawn; a rater is never paired with itself."""
    known = np.isfinite(values).astype(float)
    middle = np.nan_to_num(values).sum() / max(known.sum(), 1)
    filled = np.nan_to_num(values - middle)
    count, once = weights @ known, weights**2 @ known
    usable = count**2 - once > 0
    count, once = np.where(usable, count, 0), np.where(usable, once, 0)
    sums, squares = np.where(usable, weights @ filled, 0), np.where(usable, weights @ filled**2, 0)
    within = np.divide(2 * (count * squares - sums**2), count**2 - once, out=np.zeros_like(count), where=usable)
    total = count.sum(1)
    observed = np.divide((count * within).sum(1), total, out=np.full(total.shape, np.nan), where=total > 0)
    pairs = total**2 - once.sum(1)
    apart = 2 * (total * squares.sum(1) - sums.sum(1) ** 2)
    expected = np.divide(apart, pairs, out=np.full(total.shape, np.nan), where=pairs > 0)
    share = np.divide(
        observed, expected, out=np.full(total.shape, np.nan), where=apart > 1e-12 * total * squares.sum(1)
    )
    return 1 - share


def _sign(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sign of a difference, zero where it may be rounding; NaN where one is not defined."""
    gap = one - other
    return np.where(np.abs(gap) <= TIE * np.maximum(np.abs(one), np.abs(other)), 0.0, np.sign(gap))


def _chance(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pairs in which the first is higher, ties counting half; NaN where no pair is defined."""
    sign = _sign(one, other)
    known = sign[np.isfinite(sign)]
    return float((known.mean() + 1) / 2) if len(known) else float("nan")

"""Everything that is said of one model on one dataset, computed once for the page and for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from vexbench.results.frame import Group
from vexbench.results.record import APART, AXES, MethodRecord, MetricRecord
from vexbench.stats.bootstrap import FEWEST, Bootstrap, Estimate, bootstrap, weights
from vexbench.stats.ranking import Ranks, RankTable, better, rank_raced, rank_table
from vexbench.stats.tradeoff import front

COSTS = ("passes", "seconds_ratio")


NEARLY = 1e-3
"""Below this share two scores of an image are equal but for rounding: pixels that change places by rounding move the
areas of deletion and insertion by some ten-thousandths."""


@final
@dataclass(frozen=True)
class Summary:
    """Means, ranks and comparisons of the methods that have scores."""

    group: Group
    methods: tuple[MethodRecord, ...]
    metrics: tuple[MetricRecord, ...]
    scores: Float[np.ndarray, "images methods metrics"]
    result: Bootstrap
    ranked: tuple[int, ...]
    """The metrics that rank: a metric counts once every method has it, on `FEWEST` images or on all of fewer.

    One that was left out for a method to keep a budget does not: a method is not worse for being dear.
    """

    @property
    def higher(self) -> Bool[np.ndarray, " metrics"]:
        """Where higher is better."""
        return np.array([metric.direction == "higher" for metric in self.metrics], dtype=bool)

    @property
    def axes(self) -> dict[str, list[int]]:
        """The metrics that rank, by axis of quality; axioms and cost are apart."""
        by_axis = {axis: [j for j in self.ranked if self.metrics[j].family == axis] for axis in self._families}
        return {axis: metrics for axis, metrics in by_axis.items() if metrics and axis not in APART}

    @property
    def _families(self) -> list[str]:
        known = [metric.family for metric in self.metrics]
        return [*AXES, *dict.fromkeys(family for family in known if family not in AXES)]

    @property
    def too_few(self) -> bool:
        """Whether the images are too few to tell any methods apart."""
        return self.result.total < FEWEST

    @property
    def controls(self) -> list[int]:
        """The methods that know nothing of the network."""
        return [i for i, method in enumerate(self.methods) if method.control and not method.degraded]

    @property
    def degraded(self) -> list[int]:
        """The maps of other methods, spoilt on purpose."""
        return [i for i, method in enumerate(self.methods) if method.degraded]

    @property
    def candidates(self) -> list[int]:
        """The methods that a person may choose."""
        return [i for i, method in enumerate(self.methods) if not method.control]

    @cached_property
    def ranks(self) -> RankTable:
        """Ranks on each metric."""
        table = rank_table(self.result, self.higher)
        if not self.stopped.any():
            return table
        return rank_raced(table, self.scores, self.seen, self.higher, draws=self.draws)

    @cached_property
    def seen(self) -> Int[np.ndarray, "methods metrics"]:
        """How many images each method was asked of on each metric, the same ones first."""
        rows = [[self.group.seen(method, metric) for metric in self.metrics] for method in self.methods]
        return np.array(rows, dtype=int).reshape(len(self.methods), len(self.metrics))

    @property
    def stopped(self) -> Bool[np.ndarray, "methods metrics"]:
        """Where a race has stopped."""
        return self.seen < self.result.total

    @cached_property
    def overall(self) -> Ranks | None:
        """Mean rank over the axes of quality, each of equal weight; None while nothing can be ranked."""
        return self.ranks.over(*self.axes.values()) if self.axes else None

    @cached_property
    def by_axis(self) -> dict[str, Ranks]:
        """Mean rank over the metrics of each axis."""
        return {axis: self.ranks.over(metrics) for axis, metrics in self.axes.items()}

    @property
    def order(self) -> list[int]:
        """Methods from the best to the worst overall; as they come while nothing can be ranked."""
        return self.overall.order if self.overall else list(range(len(self.methods)))

    @cached_property
    def draws(self) -> Float[np.ndarray, "draws images"]:
        """How often each draw of the bootstrap holds each image."""
        return weights(self.result.total)

    def told_apart(self, method: int, metric: int) -> Float[np.ndarray, " methods"]:
        """Each method against this one on a metric: 1 better, -1 worse, 0 not told apart, NaN too few images."""
        one = self.scores[:, :, [metric]]
        return better(one, one[:, method], self.higher[[metric]], draws=self.draws)[:, 0]

    @cached_property
    def beats_random(self) -> Float[np.ndarray, "methods metrics"] | None:
        """Against the random control: 1 better, -1 worse, 0 not told apart, NaN too few images; None if not run."""
        places = [i for i, method in enumerate(self.methods) if method.id == "random"]
        if not places:
            return None
        return better(self.scores, self.scores[:, places[0]], self.higher, draws=self.draws)

    def one_method(self, which: Sequence[int]) -> bool:
        """Whether these methods have equal scores, but for rounding, on every image and every metric of quality."""
        quality = [j for j, metric in enumerate(self.metrics) if metric.family != "cost"]
        scores = self.scores[:, :, quality]
        size = np.abs(np.nan_to_num(scores[:, list(which)])).max((0, 1), initial=0)
        # the images that all of them have come to
        asked = np.arange(len(scores))[:, None] < self.seen[list(which)][:, quality].min(0)
        first = scores[:, which[0]]
        return all(
            (np.isclose(scores[:, i], first, NEARLY, NEARLY * size, equal_nan=True) | ~asked).all() for i in which[1:]
        )

    def estimate(self, method: int, metric: int) -> Estimate:
        """The mean of a method on a metric."""
        return self.result.estimate(method, metric)

    def best(self, metric: int) -> list[int]:
        """The methods with the best mean, ties included, of enough images; controls, being free, are no bargain."""
        ranks = self.ranks.mean[:, metric]
        among = self.candidates if self.metrics[metric].family == "cost" else range(len(self.methods))
        known = [i for i in among if metric in self.ranked and self.result.defined[i, metric] >= FEWEST]
        return [i for i in known if ranks[i] == min(ranks[known])]

    @property
    def cost_metric(self) -> int | None:
        """The metric that stands for cost: counted passes, or else measured time."""
        ids = [metric.id for metric in self.metrics]
        return next((ids.index(name) for name in COSTS if name in ids), None)

    def front(self, among: Sequence[int]) -> list[int]:
        """Of these methods, those that no other beats on both cost and overall rank, by cost; none if `too_few`."""
        if self.overall is None or self.cost_metric is None or self.too_few:
            return []
        costs = self.result.mean[:, self.cost_metric]
        on = front(costs[list(among)], self.overall.mean[list(among)])
        return sorted((i for i, is_on in zip(among, on) if is_on), key=lambda i: costs[i])


def summarise(group: Group) -> Summary:
    """Compute what the page and the terminal tell of a group; a method that has no score yet is left out."""
    present = [i for i, method in enumerate(group.methods) if any(key == method.key for key, _ in group.cells)]
    used = [
        j
        for j, metric in enumerate(group.metrics)
        if any((group.methods[i].key, metric.key) in group.cells for i in present)
    ]
    scores = group.scores[:, present][:, :, used]
    waiting = (group.waiting | group.over_budget)[present][:, used]
    result = bootstrap(scores)
    enough = result.defined.max(0, initial=0) >= max(1, min(FEWEST, result.total))
    ranked = tuple(j for j in range(len(used)) if not waiting[:, j].any() and enough[j])
    return Summary(
        group,
        tuple(group.methods[i] for i in present),
        tuple(group.metrics[j] for j in used),
        scores,
        result,
        ranked,
    )

"""The price of every cell of a study, and of the whole, before it is paid."""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from time import perf_counter
from typing import Final, final

from vexbench.bench.gauge import Gauge
from vexbench.bench.plan import Group, Place, Plan, Sitting
from vexbench.bench.price import Call, MethodPrice, MetricPrice, Price, in_company
from vexbench.memory import kept, set_aside

CHEAP: Final = 8
"""Passes per image up to which a result is never left out: it would save next to nothing."""


@final
@dataclass(frozen=True)
class Bill:
    """What one group costs: seconds of each part, for all of its images."""

    group: Group
    methods: tuple[MethodPrice, ...]
    metrics: tuple[MetricPrice, ...]
    fixed: float
    """Classifying the images, and what all methods share."""
    writing: float
    """One result of one chunk."""
    tidying: float
    """Behind one method in one chunk."""
    refilling: float
    """Behind one result of one chunk that takes passes."""
    scored: float
    """One pass of one image."""
    syntheses: tuple[float, ...] = ()
    asked: dict[tuple[int, Hashable], float] = field(default_factory=dict, compare=False)

    @cached_property
    def sizes(self) -> list[int]:
        """Images in each chunk."""
        count = len(self.group.dataset)
        return [min(self.group.chunk, count - start) for start in range(0, count, self.group.chunk)]

    def over(self, price: Price) -> float:
        """Seconds for all chunks."""
        return sum(price.seconds(size) for size in self.sizes)

    def maps(self, method: int) -> float:
        """Seconds of a method's maps, where any of its results is wanted."""
        return self.over(self.methods[method].maps) + len(self.sizes) * (self.writing + self.tidying)

    @cached_property
    def own(self) -> tuple[float, ...]:
        """Seconds of each metric beside the explanations that it asks for."""
        return tuple(
            self.over(price.own)
            + len(self.sizes)
            * (self.writing + (self.refilling if price.own.forward + price.own.backward > 0 or price.asks else 0.0))
            for price in self.metrics
        )

    def asks(self, method: int, key: Hashable, calls: Sequence[Call]) -> float:
        """Seconds of the explanations that metrics share by this key."""
        known = self.asked.get((method, key))
        if known is None:
            known = self.asked[method, key] = self.over(self.methods[method].asked(calls))
        return known

    def defined(self, method: int, metric: int) -> bool:
        """Whether there will be a result."""
        return not self.methods[method].reason and not self.metrics[metric].reason

    def cells(self, method: int, metrics: Iterable[int]) -> Iterator[tuple[int, float]]:
        """Seconds of each of a method's results; explanations are paid by the first that asks for them."""
        paid = set[Hashable]()
        for metric in metrics:
            if not self.defined(method, metric):
                yield metric, 0.0
                continue
            seconds = self.own[metric]
            for key, calls in (self.metrics[metric].asks or {}).items():
                if key not in paid:
                    seconds += self.asks(method, key, calls)
                    paid.add(key)
            yield metric, seconds

    def once(self, metrics: Iterable[int]) -> Iterator[tuple[int, float]]:
        """Seconds of what metrics ask once for all methods; paid by the first that asks for it."""
        paid = set[Hashable]()
        for metric in metrics:
            wanted = self.metrics[metric].once or {}
            yield metric, sum(self.over(price) for key, price in wanted.items() if key not in paid)
            paid.update(wanted)

    def passes(self, method: int, metric: int) -> float:
        """Passes forward and backward per image that the metric and the explanations it asks for take."""
        total = self.metrics[metric].own
        for calls in (self.metrics[metric].asks or {}).values():
            total = total.plus(self.methods[method].asked(calls))
        return total.forward + total.backward


@final
@dataclass(frozen=True)
class Estimate:
    """What a study costs."""

    study: Plan
    bills: tuple[Bill, ...]
    measured: float
    """Seconds that it took to find out."""

    def seconds(self, dropped: Iterable[Place] = ()) -> float:
        """The whole, without some of its cells; a method none of whose cells is left makes no maps."""
        return self._sum(self._rows(set(dropped)))

    def _rows(self, gone: Collection[Place]) -> list[list[tuple[float, set[int]]]]:
        return [
            [self._row(number, method, gone) for method in range(len(bill.methods))]
            for number, bill in enumerate(self.bills)
        ]

    def _row(self, number: int, method: int, gone: Collection[Place]) -> tuple[float, set[int]]:
        """Seconds of a method without what its metrics share with other methods, and which metrics it has."""
        bill = self.bills[number]
        kept = [place.metric for place in self._defined(number, method) if place not in gone]
        if bill.methods[method].reason or (not kept and self._defined(number, method)):
            return 0.0, set()
        return bill.maps(method) + sum(seconds for _, seconds in bill.cells(method, kept)), set(kept)

    def _defined(self, number: int, method: int) -> list[Place]:
        """Where a method of a group will have results."""
        bill = self.bills[number]
        return [Place(number, method, j) for j in range(len(bill.metrics)) if bill.defined(method, j)]

    def whole(self, dropped: Iterable[Place]) -> set[tuple[int, int]]:
        """Methods, by group, none of whose results is left."""
        gone = set(dropped)
        methods = {(place.group, place.method) for place in gone}
        return {method for method in methods if gone.issuperset(self._defined(*method))}

    def _sum(self, rows: Iterable[Iterable[tuple[float, set[int]]]]) -> float:
        """The whole, from the methods of each group."""
        total = 0.0
        for bill, row in zip(self.bills, rows, strict=True):
            used = set[int]()
            total += bill.fixed + sum(bill.syntheses)
            for seconds, metrics in row:
                total += seconds
                used |= metrics
            total += sum(seconds for _, seconds in bill.once(sorted(used)))
        return total

    def table(self, only: Bill | None = None) -> list[tuple[Place, float, float]]:
        """Every cell, or those of one group, with its seconds, and its passes per image."""
        return [
            (Place(number, method, metric), seconds, bill.passes(method, metric))
            for number, bill in enumerate(self.bills)
            if only is None or only is bill
            for method in range(len(bill.methods))
            for metric, seconds in bill.cells(method, range(len(bill.metrics)))
        ]

    def worth(self, dropped: Iterable[Place] = ()) -> dict[Place | Sitting, float]:
        """Seconds of every result that will be made, with its part of its method's maps, and of every synthesis."""
        gone, found = set(dropped), dict[Place | Sitting, float]()
        for number, bill in enumerate(self.bills):
            found |= {Sitting(number, index): seconds for index, seconds in enumerate(bill.syntheses)}
            for method in range(len(bill.methods)):
                kept = [place.metric for place in self._defined(number, method) if place not in gone]
                for metric, seconds in bill.cells(method, kept):
                    found[Place(number, method, metric)] = seconds + bill.maps(method) / len(kept)
        return found

    def fitted(self, budget: float, done: Iterable[Place] = ()) -> list[Place]:
        """What to leave out so that the rest fits the budget: the dearest first, as they are priced per result.

        Results that share explanations go together, since one of them alone would save nothing, and a method whose
        maps are dear goes as a whole. What is cheap stays, so that the rest may still be more than the budget.
        """
        dropped, kept_anyway = list[Place](), set(done)
        rows = self._rows(())
        offers = {
            (number, method): self._offer(number, method, set(), kept_anyway)
            for number, bill in enumerate(self.bills)
            for method in range(len(bill.methods))
        }
        while self._sum(rows) > budget:
            best = max((offer for offer in offers.values() if offer), key=itemgetter(0), default=None)
            if best is None:
                break
            dropped += best[1]
            number, method, _ = best[1][0]
            gone = set(dropped)
            rows[number][method] = self._row(number, method, gone)
            offers[number, method] = self._offer(number, method, gone, kept_anyway)
        return dropped

    def _offer(
        self, number: int, method: int, dropped: set[Place], done: set[Place]
    ) -> tuple[float, list[Place]] | None:
        """The cells of a method whose absence saves most per cell; None where all that are left are cheap."""
        bill = self.bills[number]
        if bill.methods[method].reason:
            return None
        left = [place for place in self._defined(number, method) if place not in dropped]
        free = [place for place in left if place not in done]
        units = [[place] for place in free] + list(self._sharing(bill, free))
        before = sum(seconds for _, seconds in bill.cells(method, [place.metric for place in left]))
        found = list[tuple[float, list[Place]]]()
        for unit in units:
            rest = [place.metric for place in left if place not in unit]
            found.append(((before - sum(seconds for _, seconds in bill.cells(method, rest))) / len(unit), unit))
        if free and len(free) == len(left):
            found.append(((before + bill.maps(method)) / len(left), free))
        least = CHEAP * bill.scored * len(bill.group.dataset)
        return max((offer for offer in found if offer[0] > least), key=itemgetter(0), default=None)

    @staticmethod
    def _sharing(bill: Bill, places: Sequence[Place]) -> Iterator[list[Place]]:
        """Cells that ask for the same explanations."""
        keyed = [(key, place) for place in places for key in (bill.metrics[place.metric].asks or {})]
        seen = set[tuple[Place, ...]]()
        for _, members in groupby(sorted(keyed, key=lambda pair: (repr(pair[0]), pair[1])), key=lambda pair: pair[0]):
            unit = tuple(place for _, place in members)
            if len(unit) > 1 and unit not in seen:
                seen.add(unit)
                yield list(unit)


@kept()
@set_aside()
def estimate(study: Plan, told: Callable[[str], None] = lambda _: None) -> Estimate:
    """Count and time for a few seconds what a study will take; `told` hears what is looked at."""
    start, bills = perf_counter(), list[Bill]()
    for group in study.groups:
        gauge = Gauge(study, group)
        methods, metrics = list[MethodPrice](), list[MetricPrice]()
        for choice in study.methods:
            told(choice.name)
            methods.append(gauge.method(choice))
        for choice in study.metrics:
            told(choice.name)
            metrics.append(gauge.metric(choice))
        pace, classes = gauge.pace, gauge.real.classes(gauge.images)
        fixed = len(group.dataset) * gauge.shared()
        aside = fixed, pace.writing(), pace.tidying(), pace.refilling()
        syntheses = tuple(classes * pace.synthesis(choice) for choice in study.syntheses)
        bills.append(Bill(group, in_company(methods), tuple(metrics), *aside, pace.units["scored"], syntheses))
    return Estimate(study, tuple(bills), perf_counter() - start)

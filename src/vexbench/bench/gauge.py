"""What a study will cost, found out in seconds: passes counted on a stand-in, and their time on this machine.

A method or metric costs what it costs on the stand-in (masks, superpixels, sorting), and the difference between the
network's passes and the stand-in's, as many as it asked for. What cannot be told so is timed on the network itself, on
four images: rules for another way back, windows, other networks (docs/decisions/0015-prices-from-a-stand-in.md).
"""

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar, final

import torch
from torch import Tensor

from vexbench.bench.material import ABSENT, ANY_SIZE, load_pixels
from vexbench.bench.pace import FEW, Pace
from vexbench.bench.plan import Group, Plan
from vexbench.bench.price import Call, MethodPrice, MetricPrice, Price
from vexbench.bench.records import as_images
from vexbench.bench.standin import Meter, Work, stand_in
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.explaining import maps_of, scores_of
from vexbench.models.base import Classifier
from vexbench.perturb import attacks
from vexbench.probe import Explain, Probe
from vexbench.registry import METHODS, METRICS, Choice
from vexbench.types import Maps, References

MORE: Final = 16
"""Images to time with what needs no passes."""
COUNTS: Final = ("masks", "samples", "steps")
"""Parameters that the work is proportional to, but for what is done once."""
SOON: Final = 0.1
"""Seconds that a method may take in full; else a few of its samples tell what all of them take."""
SEEN: Final = 4
"""How many times as long more samples must take than few, to tell what one of them takes."""
LATE: Final = 1.0
"""The same for metrics, which tell by what they ask for what they share with others."""

Read = TypeVar("Read")


class Reading(NamedTuple):
    """What one run of a metric showed."""

    own: Work
    once: dict[Hashable, Work]
    asks: dict[Hashable, list[Call]]
    elsewhere: bool
    """Whether it explains other networks, which a stand-in has none of."""


@final
class Ledger(dict[Hashable, Any]):
    """Answers by key, that notes what each of them took."""

    def __init__(self, start: Callable[[], Any], end: Callable[[Hashable, Any], None]) -> None:
        super().__init__()
        self._start, self._end, self._open = start, end, list[Any]()

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        self._open.append(self._start())
        return False

    def __setitem__(self, key: Hashable, value: Any) -> None:
        super().__setitem__(key, value)
        self._end(key, self._open.pop())


@final
class Gauge:
    """Counts and times on one group's network, with the first of its images."""

    def __init__(self, study: Plan, group: Group) -> None:
        self.group, self.real = group, group.classifier
        start = perf_counter()
        self.images = as_images(load_pixels(group, range(min(MORE, len(group.dataset)))), group)
        self._loading = (perf_counter() - start) / len(self.images)
        try:
            self.standin, self.meter = stand_in(self.real, self.images[:FEW])
        except NotApplicable:
            self.standin, self.meter = self.real, Meter()
        chunk = min(group.chunk, len(group.dataset))
        self.pace = Pace(study.config, self.images, self.real, self.standin, chunk)
        self._attacked = any("attack" in choice.params for choice in study.metrics)

    def shared(self) -> float:
        """Seconds per image of what comes first, whoever asks: reading, predictions, clean scores, the trace."""
        units = self.pace.units
        return self._loading + 2 * units["plain"] + units["scored"] + units.get("traced", 0.0)

    def method(self, choice: Choice) -> MethodPrice:
        """What a method costs."""
        if self.standin is not self.real:
            with suppress(Exception):  # a stand-in has not all that a network may have
                fresh, beside = self._sized(METHODS, choice, partial(self._explained, self.standin), slope_pairs, SOON)
                if not fresh.ruled:
                    return self._method_price(choice, fresh, beside)
        try:
            fresh, beside = self._sized(METHODS, choice, partial(self._explained, self.real), slope_pairs, SOON)
        except Exception as error:  # noqa: BLE001  as the study will record it
            return MethodPrice(reason=" ".join(str(error).split()) or type(error).__name__)
        return self._method_price(choice, without_rows(fresh), without_rows(beside))

    def _method_price(self, choice: Choice, fresh: Work, beside: Work) -> MethodPrice:
        maps, again = (self.pace.price(work, FEW) for work in (beside, fresh))
        graph = None
        if again.forward + again.partial <= attacks.GRAPH and fresh.passes and self._attacked:
            graph = self._connected(choice, second=fresh.graded > 0 or not fresh.scored)
        return MethodPrice(maps, again, graph)

    def _explained(self, network: Classifier, choice: Choice) -> tuple[Work, Work]:
        """A method on a fresh probe, and again beside what is known by then."""
        probe, extra = self.pace.probe(network), list[float]()
        if network is self.standin:
            vars(probe)["scores_patched"] = partial(self.pace.patched, probe, extra)
        ask = partial(maps_of, probe, choice)
        fresh = self._run(probe, ask)
        fresh = replace(fresh, seconds=fresh.seconds + sum(extra))
        if fresh.seconds > SOON or not (fresh.traced or fresh.plain or network is self.real):
            return fresh, fresh
        extra.clear()
        beside = self._run(probe, ask)
        return fresh, replace(beside, seconds=beside.seconds + sum(extra))

    def _connected(self, choice: Choice, *, second: bool) -> Price | None:
        """An explanation with a graph; None where no gradient comes back."""
        count = 2
        probe, maps, before = self.pace.probe(self.standin, count), self.pace.maps(count), sum(self.meter.rows.values())
        ask = partial(
            attacks.slope, probe, lambda asked: maps_of(asked, choice), probe.images, maps, epsilon=0.03, beta=10.0
        )
        try:
            work = self._run(probe, ask)
            found = ask()
        except Exception:  # noqa: BLE001  as the attack itself goes on without
            return None
        if not bool((found != 0).any()):
            return None
        rows = (sum(self.meter.rows.values()) - before) / 2
        seconds = work.seconds + rows * self.pace.slopes[second]
        return Price(0.0, seconds / count, work.forward / count, work.backward / count, work.partial / count)

    def metric(self, choice: Choice) -> MetricPrice:
        """What a metric costs, for any method."""
        lacking = [need for need in METRICS[choice.name].needs if need in ABSENT and not self._has(need)]
        if lacking:
            return MetricPrice(reason=f"the data set {ABSENT[lacking[0]]}")
        if self.standin is not self.real:
            with suppress(Exception):  # a stand-in has not all that a network may have
                reading = self._sized(METRICS, choice, partial(self._scored, self.standin, FEW), slope_readings, LATE)
                if not reading.elsewhere:
                    return self._metric_price(choice, reading, self.standin)
        try:
            reading = self._sized(METRICS, choice, partial(self._scored, self.real, FEW), slope_readings, LATE)
        except Exception as error:  # noqa: BLE001  as the study will record it
            return MetricPrice(reason=" ".join(str(error).split()) or type(error).__name__)
        own, once = without_rows(reading.own), {key: without_rows(work) for key, work in reading.once.items()}
        return self._metric_price(choice, reading._replace(own=own, once=once), self.real)

    def _metric_price(self, choice: Choice, reading: Reading, network: Classifier) -> MetricPrice:
        own, *once = (self.pace.price(work, FEW) for work in (reading.own, *reading.once.values()))
        # what takes no passes, or copies a network, hardly hangs on the number of images
        other = MORE if network is self.standin else 1
        if not reading.own.rows and reading.own.seconds < SOON:
            second = self._scored(network, other, choice).own.seconds
            slope = min(max(0.0, (second - reading.own.seconds) / (other - FEW)), own.each)
            own = own._replace(fixed=max(0.0, reading.own.seconds - slope * FEW), each=slope)
        asks = {key: tuple(calls) for key, calls in reading.asks.items()}
        return MetricPrice(own, dict(zip(reading.once, once, strict=True)), asks)

    def _scored(self, network: Classifier, count: int, choice: Choice) -> Reading:
        """Run a metric of a method that costs nothing, on a probe that knows what all have asked before."""
        once, asks = dict[Hashable, Work](), dict[Hashable, list[Call]]()
        calls, elsewhere = list[Call](), list[bool]()

        def start() -> tuple[float, Work, Work]:
            return perf_counter(), self._now(probe), sum(once.values(), Work())

        def end(key: Hashable, begun: tuple[float, Work, Work]) -> None:
            spent = replace(self._now(probe) - begun[1], seconds=perf_counter() - begun[0])
            once[key] = spent - (sum(once.values(), Work()) - begun[2])  # without what was asked on the way

        def fake(asked: Probe) -> Maps:
            size = len(asked.images)
            area = asked.images[0, 0].numel() / self.images[0, 0].numel()
            others = probe._known.get("others", {}).values()
            shared = any(asked._known is known for known in others)
            calls.append(Call(size / count, area, asked.connected, size == 1, shared))
            elsewhere.append(asked.classifier.module is not network.module)
            if area != 1 and network is self.standin:
                with torch.no_grad():
                    self.real.logits(asked.images[:1])  # it may not take them
            return asked.images.mean(1)

        def named(key: Hashable, begun: int) -> None:
            asks[key] = calls[begun:]

        probe = self.pace.probe(network, count, Ledger(start, end))
        _ = probe.logits, probe.trace, probe.clean("probability"), probe.clean()
        once.clear()
        explain = Explain(fake)
        explain._variants = Ledger(lambda: len(calls), named)
        given: dict[str, Any] = {"regions": self._regions(count), "cues": self._regions(count)}
        given["references"] = self._references
        work = self._run(probe, lambda: scores_of(choice, self.pace.maps(count), probe, explain=explain, **given))
        keyed = sum(map(len, asks.values()))
        if keyed < len(calls):  # asked afresh for each metric
            asks[choice, "afresh"] = [call for call in calls if not any(call in known for known in asks.values())] or (
                calls[: len(calls) - keyed]
            )
        return Reading(work - sum(once.values(), Work()), once, asks, any(elsewhere))

    def _sized(
        self,
        registry: Any,
        choice: Choice,
        measure: Callable[[Choice], Read],
        slope: Callable[[Read, Read, float], Read],
        soon: float,
    ) -> Read:
        """What a choice takes: in full where that is soon done, else from some of its samples."""
        name = next((name for name in COUNTS if type(choice.params.get(name)) is int), None)
        full = choice.params[name] if name else 1
        size = 1
        while name and size < full:
            some = registry[choice.name].bind(**{**choice.params, name: size})
            try:
                measure(some)  # to warm up
            except NotApplicable:
                raise
            except VexbenchError:  # too few for it
                size *= 2
                continue
            taken, first = self._timed(partial(measure, some))
            if taken * full / size <= soon:
                break
            large = 2 * size
            while large < full and 2 * large * taken / size <= soon:
                large *= 2
            while large < full:
                more, second = self._timed(
                    partial(measure, registry[choice.name].bind(**{**choice.params, name: large}))
                )
                if more >= SEEN * taken:  # else most of both is what is done once, and the line is noise
                    return slope(first, second, (full - size) / (large - size))
                large *= 2
            break
        if name is None or size >= full:
            measure(choice)
        return measure(choice)

    @staticmethod
    def _timed(ask: Callable[[], Read]) -> tuple[float, Read]:
        start = perf_counter()
        found = ask()
        return perf_counter() - start, found

    def _run(self, probe: Probe, ask: Callable[[], object]) -> Work:
        before, start = self._now(probe), perf_counter()
        ask()
        return replace(self._now(probe) - before, seconds=perf_counter() - start)

    def _now(self, probe: Probe) -> Work:
        rows = {kind: float(count) for kind, count in self.meter.rows.items()}
        counted = probe.passes
        behind = max(0.0, counted.partial - rows["traced"] - rows["ruled"])
        forward, backward, short = (float(n) for n in (counted.forward, counted.backward, counted.partial))
        return Work(**rows, forward=forward, backward=backward, partial=short, behind=behind)

    def _regions(self, count: int) -> Tensor:
        regions = torch.zeros(count, *self.images.shape[2:], dtype=torch.bool, device=self.images.device)
        height, width = regions.shape[1:]
        regions[:, height // 4 : height // 2, width // 4 : width // 2] = True
        return regions

    @cached_property
    def _references(self) -> References:
        classes = self.real.classes(self.images)
        rows = torch.arange(2 * classes)
        return References(self.images[rows % len(self.images)], rows % classes)

    def _has(self, need: str) -> bool:
        dataset = self.group.dataset
        if need == "references":
            return len(dataset.class_names) > 1
        found = dataset.region(0, 0, ANY_SIZE) if need == "regions" else dataset.cue(0, ANY_SIZE)
        return found is not None


def without_rows(work: Work) -> Work:
    """Work that was timed on the network itself: its passes are in its time."""
    return Work(work.seconds, forward=work.forward, backward=work.backward, partial=work.partial)


def slope_pairs(first: tuple[Work, Work], second: tuple[Work, Work], times: float) -> tuple[Work, Work]:
    """Two points on a line as a third one."""
    one, other = (a + (b - a).times(times) for a, b in zip(first, second, strict=True))
    return one, other


def slope_readings(first: Reading, second: Reading, times: float) -> Reading:
    """Two points on a line as a third one; what is asked of methods as often."""
    own = first.own + (second.own - first.own).times(times)
    before, after = (sum(reading.once.values(), Work()) for reading in (first, second))
    once: dict[Hashable, Work] = (
        {("sampled", *second.once): before + (after - before).times(times)} if second.once else {}
    )
    fewer, more = (list(chain.from_iterable(reading.asks.values())) for reading in (first, second))
    lacking = round((len(more) - len(fewer)) * (times - 1))
    rest = {("sampled", *second.asks): [more[k % len(more)] for k in range(lacking)]} if lacking > 0 else {}
    return Reading(own, once, {**second.asks, **rest}, second.elsewhere)

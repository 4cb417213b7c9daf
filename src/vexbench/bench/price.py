"""What a study will cost, found out in seconds: passes counted on a stand-in, and their time on this machine.

A method or metric costs what it costs on the stand-in (masks, superpixels, sorting), and the difference between the
network's passes and the stand-in's, as many as it asked for. What cannot be told so is timed on the network itself, on
four images: rules for another way back, windows, other networks (docs/decisions/0015-prices-from-a-stand-in.md).
"""

import tempfile
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar, final

import polars as pl
import torch
from torch import Tensor

from vexbench.bench.material import ABSENT, ANY_SIZE, load_pixels
from vexbench.bench.plan import Group, Plan
from vexbench.bench.records import as_images
from vexbench.bench.standin import Meter, Work, stand_in
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.explaining import maps_of, scores_of
from vexbench.models.base import Classifier
from vexbench.perturb import attacks
from vexbench.probe import ALIGNED, Explain, Probe
from vexbench.registry import METHODS, METRICS, SYNTHESES, Choice
from vexbench.results import store as files
from vexbench.synthesising import images_of, soft_noise
from vexbench.types import Curves, Images, Maps, References

FEW: Final = ALIGNED
"""Images to count and to time with: the fewest in a pass."""
MORE: Final = 16
"""Images to time passes, and what needs none, with."""
COUNTS: Final = ("masks", "samples", "steps")
"""Parameters that the work is proportional to, but for what is done once."""
SOON: Final = 0.1
"""Seconds that a method or a metric may take in full; else a few of its samples tell what all of them take."""
ROUNDS: Final = 5
"""How often a pass is timed."""
LATE: Final = 1.0
"""The same for metrics, which tell by what they ask for what they share with others."""
CERTAIN: Final = 8
"""Passes per image up to which one image is in a pass with copies of itself."""

Read = TypeVar("Read")


class Price(NamedTuple):
    """Seconds for a chunk whatever it holds, and seconds and passes for each image of it."""

    fixed: float = 0.0
    each: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    partial: float = 0.0

    def seconds(self, images: int) -> float:
        """For a chunk of so many images."""
        return self.fixed + self.each * images

    def plus(self, other: "Price", times: float = 1.0) -> "Price":
        """This, and the other so many times."""
        return Price(*(a + times * b for a, b in zip(self, other, strict=True)))


NOTHING: Final = Price()


class Call(NamedTuple):
    """One explanation that a metric asks for: the share of the images, their size over the study's, how it is asked."""

    share: float
    area: float
    connected: bool
    alone: bool


@final
@dataclass(frozen=True)
class MethodPrice:
    """A method: its maps beside those of others, and an explanation afresh; `reason` says why there are none."""

    maps: Price = NOTHING
    again: Price = NOTHING
    graph: Price | None = None
    """An explanation whose own gradient is asked for; None where it has none."""
    reason: str = ""

    @property
    def held(self) -> float:
        """Passes of one image that a graph would hold."""
        return self.again.forward + self.again.partial

    def asked(self, calls: Sequence[Call]) -> Price:
        """Explanations for a metric."""
        total, tried = Price(), 0
        for call in calls:
            price = self.again
            if call.connected:
                tried += 1
                if self.held > attacks.GRAPH or (self.graph is None and tried > 1):
                    continue  # as the attack does without a gradient
                price = self.graph or self.again
            share = call.share * call.area
            if call.alone and self.again.forward <= CERTAIN:
                share = call.area * ALIGNED * call.share
            total = total.plus(price, share)
        return total


@final
@dataclass(frozen=True)
class MetricPrice:
    """A metric: its own work per method, what is done once for all methods, and the explanations it asks for."""

    own: Price = NOTHING
    once: dict[Hashable, Price] | None = None
    asks: dict[Hashable, tuple[Call, ...]] | None = None
    reason: str = ""


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
    """Counts and times on one group's network; `count` of its images are looked at."""

    def __init__(self, study: Plan, group: Group) -> None:
        self.study, self.group, self.real = study, group, group.classifier
        self.images = as_images(load_pixels(group, range(min(MORE, len(group.dataset)))), group)
        try:
            self.standin, self.meter = stand_in(self.real, self.images[:FEW])
        except NotApplicable:
            self.standin, self.meter = self.real, Meter()

    def method(self, choice: Choice) -> MethodPrice:
        """What a method costs."""
        if self.standin is not self.real:
            try:
                fresh, beside = self._sized(METHODS, choice, partial(self._explained, self.standin), slope_pairs)
            except Exception:  # noqa: BLE001  a stand-in has not all that a network may have
                pass
            else:
                if not fresh.ruled:
                    return self._priced(choice, fresh, beside)
        try:
            fresh, beside = self._sized(METHODS, choice, partial(self._explained, self.real), slope_pairs)
        except Exception as error:  # noqa: BLE001  as the study will record it
            return MethodPrice(reason=" ".join(str(error).split()) or type(error).__name__)
        return self._priced(choice, replace_rows(fresh), replace_rows(beside))

    def _priced(self, choice: Choice, fresh: Work, beside: Work) -> MethodPrice:
        count = min(FEW, len(self.images))
        maps, again = (self._price(work, count) for work in (beside, fresh))
        graph = None
        if again.forward + again.partial <= attacks.GRAPH and fresh.passes and self._attacked:
            graph = self._connected(choice, second=fresh.graded > 0 or not fresh.scored)
        return MethodPrice(maps, again, graph)

    def _explained(self, network: Classifier, choice: Choice) -> tuple[Work, Work]:
        """A method on a fresh probe, and again beside what is known by then."""
        probe, extra = self._probe(network), list[float]()
        if network is self.standin:
            vars(probe)["scores_patched"] = partial(self._patched, probe, extra)
        ask = partial(maps_of, probe, choice)
        fresh = self._run(probe, ask)
        fresh = replace(fresh, seconds=fresh.seconds + sum(extra))
        if fresh.seconds > SOON or not (fresh.traced or fresh.plain or network is self.real):
            return fresh, fresh
        extra.clear()
        beside = self._run(probe, ask)
        return fresh, replace(beside, seconds=beside.seconds + sum(extra))

    def _patched(
        self,
        probe: Probe,
        extra: list[float],
        places: Sequence[tuple[int, int]],
        patch: int,
        hidden: Images,
        output: Any = "logit",
    ) -> Curves:
        """Stands in for `Probe.scores_patched`: timed on the network, at some of the places."""
        start = perf_counter()
        real, group = self._probe(self.real), max(1, probe.batch_size // ALIGNED)
        real.scores_patched(places[:1], patch, hidden, output)
        few, more = (places[:: max(1, len(places) // count)][:count] for count in (group, 3 * group))
        one, other = (self._seconds(partial(real.scores_patched, some, patch, hidden, output)) for some in (few, more))
        slope = max(0.0, other - one) / max(1, len(more) - len(few)) if len(more) > len(few) else one / len(few)
        # in place of the time that this has taken
        extra.append(max(0.0, one - slope * len(few)) + slope * len(places) - (perf_counter() - start))
        # beside the places, what makes sure that windows score as whole images do
        checks = real.passes.forward - len(probe.images) * (1 + len(few) + len(more))
        probe.passes.forward += len(probe.images) * len(places) + checks // 3
        return torch.zeros(len(probe.images), len(places), device=probe.images.device)

    def _connected(self, choice: Choice, *, second: bool) -> Price | None:
        """An explanation with a graph; None where no gradient comes back."""
        count = 2
        network = self.standin
        probe = self._probe(network, count)
        before = sum(self.meter.rows.values())
        maps = self._maps(count)

        def ask() -> Tensor:
            return attacks.slope(
                probe, lambda asked: maps_of(asked, choice), probe.images, maps, epsilon=0.03, beta=10.0
            )

        try:
            work = self._run(probe, ask)
            found = ask()
        except Exception:  # noqa: BLE001  as the attack itself goes on without
            return None
        if not bool((found != 0).any()):
            return None
        rows = (sum(self.meter.rows.values()) - before) / 2
        seconds = work.seconds + rows * self._slopes[second]
        return Price(0.0, seconds / count, work.forward / count, work.backward / count, work.partial / count)

    @cached_property
    def _slopes(self) -> tuple[float, float]:
        """Seconds per image of a graph that is differentiated once, and twice."""
        found: list[float] = []
        for explained in (scored_map, graded_map):
            probe = self._probe(self.real)
            maps = self._maps(len(probe.images))
            ask = partial(attacks.slope, probe, explained, probe.images, maps, epsilon=0.03, beta=10.0)
            ask()
            found.append(self._seconds(ask) / ALIGNED)
        return found[0], found[1]

    @cached_property
    def _attacked(self) -> bool:
        return any("attack" in choice.params for choice in self.study.metrics)

    def metric(self, choice: Choice) -> MetricPrice:
        """What a metric costs, for any method."""
        lacking = [need for need in METRICS[choice.name].needs if need in ABSENT and not self._has(need)]
        if lacking:
            return MetricPrice(reason=f"the data set {ABSENT[lacking[0]]}")
        try:
            if self.standin is not self.real:
                reading = self._sized(METRICS, choice, partial(self._scored, self.standin, FEW), slope_readings, LATE)
                if not reading.elsewhere:
                    return self._metric_price(choice, reading, self.standin)
        except Exception:  # noqa: BLE001  a stand-in has not all that a network may have
            pass
        try:
            reading = self._sized(METRICS, choice, partial(self._scored, self.real, FEW), slope_readings, LATE)
        except Exception as error:  # noqa: BLE001  as the study will record it
            return MetricPrice(reason=" ".join(str(error).split()) or type(error).__name__)
        return self._metric_price(choice, reading, self.real)

    def _metric_price(self, choice: Choice, reading: Reading, network: Classifier) -> MetricPrice:
        count = min(FEW, len(self.images))
        works = [reading.own, *reading.once.values()]
        if network is self.real:
            works = [replace_rows(work) for work in works]
        own, *once = (self._price(work, count) for work in works)
        # what takes no passes, or copies a network, hardly hangs on the number of images
        other = len(self.images) if network is self.standin else 1
        if (own.forward + own.backward == 0 or network is self.real) and other != count and reading.own.seconds < SOON:
            second = self._scored(network, other, choice).own.seconds
            slope = min(max(0.0, (second - reading.own.seconds) / (other - count)), own.each)
            own = own._replace(fixed=max(0.0, reading.own.seconds - slope * count), each=slope)
        asks = {key: tuple(calls) for key, calls in reading.asks.items()}
        return MetricPrice(own, dict(zip(reading.once, once, strict=True)), asks)

    def _scored(self, network: Classifier, count: int, choice: Choice) -> Reading:
        """Run a metric of a method that costs nothing, on a probe that knows what all have asked before."""
        count = min(count, len(self.images))
        once, asks = dict[Hashable, Work](), dict[Hashable, list[Call]]()
        calls, elsewhere = list[Call](), list[bool]()
        inner = list[Work]()

        def start() -> tuple[float, Work, Work]:
            return perf_counter(), self._now(probe), sum(inner, Work())

        def end(key: Hashable, begun: tuple[float, Work, Work]) -> None:
            spent = replace(self._now(probe) - begun[1], seconds=perf_counter() - begun[0])
            once[key] = spent - (sum(inner, Work()) - begun[2])
            inner.append(once[key])

        def fake(asked: Probe) -> Maps:
            size = len(asked.images)
            area = asked.images[0, 0].numel() / self.images[0, 0].numel()
            calls.append(Call(size / count, area, asked.connected, size == 1 < count))
            elsewhere.append(asked.classifier.module is not network.module)
            if area != 1 and network is self.standin:
                with torch.no_grad():
                    self.real.logits(asked.images[:1])  # it may not take them
            return asked.images.mean(1)

        def named(key: Hashable, begun: int) -> None:
            asks[key] = calls[begun:]

        probe = self._probe(network, count, Ledger(start, end))
        probe.logits, probe.trace, probe.clean("probability"), probe.clean()
        once.clear(), inner.clear()
        explain = Explain(fake)
        explain._variants = Ledger(lambda: len(calls), named)
        given: dict[str, Any] = {"regions": self._regions(count), "cues": self._regions(count)}
        given["references"] = self._references
        work = self._run(probe, lambda: scores_of(choice, self._maps(count), probe, explain=explain, **given))
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
        soon: float = SOON,
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
            start = perf_counter()
            first = measure(some)
            taken = perf_counter() - start
            if taken * full / size <= soon:
                break
            large = 2 * size
            while large < full and 2 * large * taken / size <= soon:
                large *= 2
            if large >= full:
                break
            second = measure(registry[choice.name].bind(**{**choice.params, name: large}))
            return slope(first, second, (full - size) / (large - size))
        if name is None or size >= full:
            measure(choice)
        return measure(choice)

    def shared(self) -> Price:
        """What the first to ask pays, whoever it is: logits, clean scores, and the trace of the target layer."""
        each = self._units["plain"] + self._units["scored"]
        if self.standin is not self.real:
            each += self._units["traced"]
        return Price(0.0, each)

    @property
    def plain(self) -> float:
        """Seconds of one pass of one image through the network as it is."""
        return self._units["plain"]

    @property
    def scored(self) -> float:
        """Seconds of one pass of one image by the faster way."""
        return self._units["scored"]

    def synthesis(self, choice: Choice) -> Price:
        """What the images of one class cost, and looking at them."""
        count = min(FEW, self.real.classes(self.images))
        targets = torch.arange(count)
        start = soft_noise(targets, self.images.shape[2], self.study.config.seed)

        def ask(steps: int) -> float:
            some = SYNTHESES[choice.name].bind(**{**choice.params, "steps": steps})
            probe = Probe(self.real, start, targets, batch_size=self.study.config.batch_size)
            return self._seconds(partial(images_of, probe, some))

        full = choice.params["steps"]
        ask(1)
        one, three = ask(1), ask(3)
        return Price(0.0, max(one, one + (three - one) / 2 * (full - 1)) / count)

    def cell(self) -> float:
        """Seconds to write down one result."""
        rows = self.group.chunk
        table = pl.DataFrame({"image": [f"image {row}" for row in range(rows)], "score": [0.0] * rows})
        with tempfile.TemporaryDirectory() as folder:
            taken = [
                self._seconds(partial(files.write_part, Path(folder) / "one.parquet", part, table)) for part in range(4)
            ]
        return 3 * median(taken)  # a part, its merge, and the record of the choice

    def _price(self, work: Work, images: int) -> Price:
        """What work on so many images costs on the network."""
        seconds = work.seconds
        for kind, network in self._units.items():
            seconds += getattr(work, kind) * (network - self._standin_units.get(kind, 0.0))
        if work.behind > 0:
            seconds += work.behind * self._behind
        each = max(0.0, seconds) / images
        return Price(0.0, each, work.forward / images, work.backward / images, work.partial / images)

    @cached_property
    def _units(self) -> dict[str, float]:
        return self._unit_times(self.real)

    @cached_property
    def _standin_units(self) -> dict[str, float]:
        return {} if self.standin is self.real else self._unit_times(self.standin)

    def _unit_times(self, network: Classifier) -> dict[str, float]:
        """Seconds per image of each kind of pass."""
        rows = min(MORE, self.study.config.batch_size)
        images = self.images[torch.arange(rows) % len(self.images)]
        targets = torch.zeros(rows, dtype=torch.int64)
        probe = Probe(network, images, targets, batch_size=self.study.config.batch_size)
        asks: dict[str, Callable[[], object]] = {
            "scored": lambda: probe.scores([images]),
            "plain": lambda: probe.of(images=images).logits,
            "graded": lambda: list(probe.input_gradients([images])),
        }
        if self.standin is not self.real:
            asks["traced"] = lambda: list(probe.traces([images]))
        for ask in asks.values():
            ask()
        # in turns, so that a moment in which the machine is busy meets them all
        rounds = [{kind: self._seconds(ask) for kind, ask in asks.items()} for _ in range(ROUNDS)]
        return {kind: median(taken[kind] for taken in rounds) / rows for kind in asks}

    @cached_property
    def _behind(self) -> float:
        """Seconds per image that begins at the target layer, more than the stand-in's."""
        taken: list[float] = []
        for network in (self.real, self.standin):
            probe = self._probe(network)
            features = [probe.trace.activations] * MORE
            probe.scores_from(features)
            taken.append(self._seconds(partial(probe.scores_from, features)) / MORE / len(probe.images))
        return max(0.0, taken[0] - taken[1])

    def _run(self, probe: Probe, ask: Callable[[], object]) -> Work:
        before, start = self._now(probe), perf_counter()
        ask()
        return replace(self._now(probe) - before, seconds=perf_counter() - start)

    def _now(self, probe: Probe) -> Work:
        rows = {kind: float(count) for kind, count in self.meter.rows.items()}
        counted = probe.passes
        traced = rows["traced"] + rows["ruled"]
        behind = max(0.0, counted.partial - traced)
        forward, backward, short = (float(n) for n in (counted.forward, counted.backward, counted.partial))
        return Work(**rows, forward=forward, backward=backward, partial=short, behind=behind)

    def _seconds(self, ask: Callable[[], object]) -> float:
        start = perf_counter()
        ask()
        if self.images.device.type != "cpu":
            torch.accelerator.synchronize(self.images.device)
        return perf_counter() - start

    def _probe(self, network: Classifier, count: int = FEW, known: dict[Hashable, Any] | None = None) -> Probe:
        images = self.images[:count]
        targets = torch.zeros(len(images), dtype=torch.int64)
        config = self.study.config
        return Probe(network, images, targets, seed=config.seed, batch_size=config.batch_size, known=known)

    def _maps(self, count: int) -> Maps:
        """Maps of either kind: half of them coarse, half of them grainy."""
        height, width = self.images.shape[2:]
        source = torch.Generator().manual_seed(0)
        coarse = torch.rand((count, 1, 7, 7), generator=source)
        grainy = torch.rand((count, height, width), generator=source)
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[:, 0]
        rows = torch.arange(count)[:, None, None] % 2 == 0
        return torch.where(rows, smooth, grainy).to(self.images.device)

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


def replace_rows(work: Work) -> Work:
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
    once: dict[Hashable, Work] = {"sampled": before + (after - before).times(times)} if second.once else {}
    fewer, more = (list(chain.from_iterable(reading.asks.values())) for reading in (first, second))
    lacking = round((len(more) - len(fewer)) * (times - 1))
    rest = {"sampled": [more[k % len(more)] for k in range(lacking)]} if lacking > 0 else {}
    return Reading(own, once, {**second.asks, **rest}, second.elsewhere)


def scored_map(probe: Probe) -> Maps:
    """A map that hangs on a score."""
    return probe.scores([probe.images])[:, :, None] * probe.images.mean(1)


def graded_map(probe: Probe) -> Maps:
    """A map that hangs on a gradient."""
    (gradients,) = probe.input_gradients([probe.images])
    return (gradients * probe.images).sum(1)

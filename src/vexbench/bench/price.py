"""Prices: what a method's maps, a metric, and the explanations that it asks for cost."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, NamedTuple, final

from vexbench.perturb import attacks
from vexbench.probe import ALIGNED


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
    shared: bool = False
    """Whether all methods share what their probe learns."""


@final
@dataclass(frozen=True)
class MethodPrice:
    """A method: its maps beside those of others, and an explanation afresh; `reason` says why there are none."""

    maps: Price = NOTHING
    again: Price = NOTHING
    graph: Price | None = None
    """An explanation whose own gradient is asked for; None where it has none."""
    reason: str = ""
    sharing: Price | None = None
    """An explanation whose trace of the target layer others pay a part of; None where it takes more than a trace."""

    @property
    def held(self) -> float:
        """Passes of one image that a graph would hold."""
        return self.again.forward + self.again.partial

    def asked(self, calls: Sequence[Call]) -> Price:
        """Explanations for a metric."""
        total, tried = Price(), 0
        for call in calls:
            price = self.sharing if call.shared and self.sharing else self.again
            if call.connected:
                tried += 1
                if self.held > attacks.GRAPH or (self.graph is None and tried > 1):
                    continue  # as the attack does without a gradient
                price = self.graph or self.again
            price = price._replace(each=price.each * call.area)
            if call.alone:
                # one image of a chunk, whatever there is beside it, in passes of four
                passes = max(1.0, price.forward)
                total = total.plus(Price(price.each * ALIGNED * ceil(passes / ALIGNED) / passes))
            else:
                total = total.plus(price, call.share)
        return total


@final
@dataclass(frozen=True)
class MetricPrice:
    """A metric: its own work per method, what is done once for all methods, and the explanations it asks for."""

    own: Price = NOTHING
    once: dict[Hashable, Price] | None = None
    asks: dict[Hashable, tuple[Call, ...]] | None = None
    reason: str = ""


def in_company(methods: Sequence[MethodPrice]) -> tuple[MethodPrice, ...]:
    """Methods, those that take no more than a trace of the target layer with their part of one that all ask for."""
    alike = [method for method in methods if method.again.forward and not method.maps.forward + method.maps.backward]
    return tuple(
        replace(method, sharing=method.maps.plus(method.again.plus(method.maps, -1.0), 1 / len(alike)))
        if method in alike
        else method
        for method in methods
    )

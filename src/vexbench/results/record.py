"""What a study says of a method, a metric or a failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import polars as pl

FAMILIES = (
    "gradient",
    "path",
    "cam",
    "perturbation",
    "synthesis",
    "attention",
    "propagation",
    "shapley",
    "control",
)
"""Families of methods, in the order of the taxonomy."""

AXES = ("faithfulness", "localisation", "robustness", "complexity", "randomisation", "axiomatic", "cost")
APART = ("axiomatic", "cost")
"""Axes that do not enter the rank: laws that bind some methods and networks only, and what a map costs."""
"""What is asked of an explanation; cost is reported apart."""


OVER_BUDGET = "OverBudget"
"""The kind of failure that is none: the result was left out to keep the study's budget."""


def place(name: str, order: Sequence[str]) -> int:
    """Where a name stands in an order; at the end if it is not in it."""
    return order.index(name) if name in order else len(order)


@dataclass(frozen=True)
class Record:
    """A method or a metric as it was run; `key` names its files, `name` is unique in its group, for people."""

    id: str
    key: str
    name: str
    title: str
    family: str
    paper: str
    summary: str
    version: int
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The parameters as a person writes them: ``patch=15, stride=8``."""
        return ", ".join(f"{name}={value}" for name, value in sorted(self.params.items()))


@final
@dataclass(frozen=True)
class MethodRecord(Record):
    """A method as it was run."""

    signed: bool

    @property
    def control(self) -> bool:
        """Whether it is a control: it looks like an explanation but knows nothing of the network, or is spoilt."""
        return self.family == "control"

    @property
    def degraded(self) -> bool:
        """Whether it is another method's map, spoilt on purpose: a control of metrics, not of methods."""
        return self.id == "degraded"


@final
@dataclass(frozen=True)
class MetricRecord(Record):
    """A metric as it was run; its family is its axis."""

    direction: Literal["higher", "lower"]

    @property
    def unique_id(self) -> str:
        """The id, with the parameters that tell it from another choice of the same metric."""
        return self.id + self.name.removeprefix(self.title)

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return "↑" if self.direction == "higher" else "↓"


@final
@dataclass(frozen=True)
class SynthesisRecord(Record):
    """A synthesis as it was run; `judge` names the other network that was asked about its images, if there was one.

    `scores` has a row per image: target, passes, probability, activation_gain, transfer, naturalness, and `real`, the
    id of the image of the study that activates the class most. None while the images are being made.
    """

    judge: str
    scores: pl.DataFrame | None


@final
@dataclass(frozen=True)
class Failure:
    """A method, or a metric on a method, that gave no result; `metric` is empty when the method itself failed.

    `file`, below the study's folder, is the record of it: without it, the next run tries again.
    """

    method: str
    metric: str
    error: str
    reason: str
    file: str

    @property
    def over_budget(self) -> bool:
        """Whether it was left out to keep the study's budget."""
        return self.error == OVER_BUDGET

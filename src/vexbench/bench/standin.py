"""A network that gives features and logits of another's shapes in next to no time, and notes how it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from vexbench.errors import NotApplicable
from vexbench.models.base import Classifier, head_weights
from vexbench.models.graph import Folded
from vexbench.probe import Probe
from vexbench.types import Images, Logits

HIDDEN: Final = 16
"""Width of the layer that keeps a head from being linear, where the network's is not."""


@final
@dataclass(frozen=True)
class Work:
    """What was done: seconds, images passed through the stand-in by kind of pass, and passes as a probe counts them.

    scored: by the graph; plain: the network as it is, without gradients; traced: with gradients from the target layer
    on; graded: down to the image; ruled: as those two, with rules in place of operations; behind: what began at the
    target layer.
    """

    seconds: float = 0.0
    scored: float = 0.0
    plain: float = 0.0
    traced: float = 0.0
    graded: float = 0.0
    ruled: float = 0.0
    behind: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    partial: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: "Work") -> "Work":
        return self + other.times(-1.0)

    def times(self, factor: float) -> "Work":
        """So much of it."""
        return Work(*(factor * part for part in self.parts))

    @property
    def parts(self) -> Sequence[float]:
        """All its numbers."""
        return [getattr(self, field.name) for field in fields(self)]

    @property
    def rows(self) -> float:
        """Images that the stand-in has seen, by any kind of pass."""
        return self.scored + self.plain + self.traced + self.graded + self.ruled + self.behind

    @property
    def passes(self) -> float:
        """Whole passes forward and backward."""
        return self.forward + self.backward


@final
class Meter:
    """How many images the stand-in has seen, by kind of pass; the same one for all copies of the network."""

    def __init__(self) -> None:
        self.rows = dict.fromkeys(("scored", "plain", "traced", "graded", "ruled"), 0)

    def __deepcopy__(self, memo: Any) -> "Meter":
        return self

    def note(self, images: Images) -> None:
        """One pass, of the kind that the moment tells."""
        if not torch.is_grad_enabled():
            kind = "plain"
        elif torch._C._len_torch_function_stack() > 0:  # rules for operations are modes of torch functions
            kind = "ruled"
        else:
            kind = "graded" if images.requires_grad else "traced"
        self.rows[kind] += len(images)


@final
class StandIn(nn.Module):
    """Average pooling to the features' size, a pointwise expansion to their channels, ReLU, pooling, a head."""

    def __init__(self, features: tuple[int, int, int], side: int, classes: int, linear: bool, meter: Meter) -> None:
        super().__init__()
        channels, height, width = features
        self.size, self.side, self.meter = (height, width), side, meter
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers are none of its business
            torch.manual_seed(0)
            self.expand, self.features = nn.Conv2d(3, channels, 1), nn.ReLU()
            body = [] if linear else [nn.Linear(channels, HIDDEN), nn.ReLU()]
            self.head = nn.Sequential(*body, nn.Linear(channels if linear else HIDDEN, classes))

    def forward(self, images: Images) -> Logits:
        """(N, classes)."""
        self.meter.note(images)
        return self.run(images)

    def run(self, images: Images) -> Logits:
        """The logits, unnoticed."""
        scale = images.shape[2] / self.side
        height, width = (max(1, round(length * scale)) for length in self.size)
        features = self.features(self.expand(functional.adaptive_avg_pool2d(images, (height, width))))
        return self.head(functional.adaptive_avg_pool2d(features, 1).flatten(1))


@final
class Scoring(nn.Module):
    """The stand-in as the graph that scores come from."""

    def __init__(self, network: StandIn) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Images) -> Tensor:
        """(N, classes)."""
        self.network.meter.rows["scored"] += len(images)
        return self.network.run(images)


def stand_in(classifier: Classifier, images: Images) -> tuple[Classifier, Meter]:
    """A stand-in for a classifier that explains images like these, and its meter.

    Raises
    ------
    NotApplicable
        The classifier has no spatial features.
    """
    probe, meter = Probe(classifier, images), Meter()
    features, logits = probe.trace.activations, probe.logits
    try:
        head_weights(classifier, features, logits)
        linear = True
    except NotApplicable:
        linear = False
    _, channels, height, width = features.shape
    network = StandIn((channels, height, width), images.shape[2], logits.shape[1], linear, meter)
    other = Classifier(
        network.to(images.device),
        mean=classifier.mean,
        std=classifier.std,
        target_layer="features",
        class_names=classifier.class_names,
        input_size=classifier.input_size,
        name=classifier.name,
    )
    if classifier.graph(images) is not None:
        graph = fx.Graph()
        graph.output(graph.call_module("folded", (graph.placeholder("images"),)))
        folded = fx.GraphModule({"folded": Scoring(network)}, graph)
        vars(other)["graph"] = lambda _: Folded(folded, torch.float32)  # torch.fx would not follow the meter
    return other, meter

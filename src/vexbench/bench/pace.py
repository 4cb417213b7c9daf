"""Seconds of a network's passes on this machine, measured by the calls of the probe itself."""

import gc
import tempfile
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, final

import polars as pl
import torch
from torch import Tensor

from vexbench.bench.config import StudyConfig
from vexbench.bench.price import Price
from vexbench.bench.standin import Work
from vexbench.memory import AT_HAND, give_back
from vexbench.models.base import Classifier
from vexbench.perturb import attacks
from vexbench.probe import ALIGNED, GRADIENTS, Probe
from vexbench.registry import SYNTHESES, Choice
from vexbench.results import store as files
from vexbench.synthesising import images_of, soft_noise
from vexbench.types import Curves, Images, Maps

FEW: Final = ALIGNED
"""Images to count and to time with: the fewest in a pass."""
MANY: Final = 16
"""Variants of each image behind the target layer."""
ROUNDS: Final = 9
"""How often a pass is timed at most."""
LONG: Final = 5.0
"""Seconds after which it has been timed often enough."""


@final
class Pace:
    """What passes of a network take in a study, and those of its stand-in, which may be the network itself."""

    def __init__(self, config: StudyConfig, images: Images, real: Classifier, standin: Classifier, chunk: int) -> None:
        self.config, self.images, self.real, self.standin, self.chunk = config, images, real, standin, chunk

    def probe(self, network: Classifier, count: int = FEW, known: dict[Hashable, Any] | None = None) -> Probe:
        """A question about some of the images."""
        images, config = self.images[torch.arange(count) % len(self.images)], self.config
        targets = torch.zeros(count, dtype=torch.int64)
        return Probe(network, images, targets, seed=config.seed, batch_size=config.batch_size, known=known)

    def seconds(self, ask: Callable[[], object]) -> float:
        """How long a call takes."""
        start = perf_counter()
        ask()
        if self.images.device.type != "cpu":
            torch.accelerator.synchronize(self.images.device)
        return perf_counter() - start

    def price(self, work: Work, images: int) -> Price:
        """What work on so many images costs on the network: its passes take the network's time, not the stand-in's."""
        seconds = work.seconds
        if self.standin is not self.real:
            for kind, network in self.units.items():
                seconds += getattr(work, kind) * (network - self._standin_units[kind])
            if work.behind > 0:
                seconds += work.behind * self._behind
        each = max(0.0, seconds) / images
        return Price(0.0, each, work.forward / images, work.backward / images, work.partial / images)

    @cached_property
    def units(self) -> dict[str, float]:
        """Seconds per image of each kind of pass; see `Work`."""
        return self._timed(self.real)

    @cached_property
    def _standin_units(self) -> dict[str, float]:
        return self._timed(self.standin)

    def _timed(self, network: Classifier) -> dict[str, float]:
        # variants come in whole batches, the images themselves as many as there are in a chunk
        batch, chunk, part = (self.probe(network, n) for n in (self.config.batch_size, self.chunk, GRADIENTS))
        asks: dict[str, tuple[Probe, Callable[[], object]]] = {
            "scored": (batch, lambda: batch.scores([batch.images])),
            "graded": (part, lambda: list(part.input_gradients([part.images]))),
            "plain": (chunk, lambda: chunk.of(images=chunk.images).logits),
        }
        if self.standin is not self.real:  # there is a target layer
            asks["traced"] = chunk, lambda: list(chunk.traces([chunk.images]))
        for _, ask in asks.values():
            ask()
        start, rounds = perf_counter(), list[dict[str, float]]()
        while len(rounds) < 2 or (len(rounds) < ROUNDS and perf_counter() - start < LONG):
            # in turns, so that a moment in which the machine is busy meets them all
            rounds.append({kind: self.seconds(ask) / len(probe.images) for kind, (probe, ask) in asks.items()})
        return {kind: median(taken[kind] for taken in rounds) for kind in asks}

    @cached_property
    def _behind(self) -> float:
        """Seconds per image that begins at the target layer, more than the stand-in's."""
        taken: list[float] = []
        for network in (self.real, self.standin):
            probe = self.probe(network)
            features = [probe.trace.activations] * MANY
            probe.scores_from(features)
            taken.append(self.seconds(partial(probe.scores_from, features)) / MANY / FEW)
        return max(0.0, taken[0] - taken[1])

    @cached_property
    def slopes(self) -> tuple[float, float]:
        """Seconds per pass of an image in a map's graph that is differentiated once, and twice."""
        found: list[float] = []
        for explained in (scored_map, graded_map):
            probe = self.probe(self.real)
            ask = partial(attacks.slope, probe, explained, probe.images, self.maps(FEW), epsilon=0.03, beta=10.0)
            ask()
            passes = probe.passes.forward
            found.append(self.seconds(ask) / passes)
        return found[0], found[1]

    def patched(
        self,
        probe: Probe,
        extra: list[float],
        places: Sequence[tuple[int, int]],
        patch: int,
        hidden: Images,
        output: Any = "logit",
    ) -> Curves:
        """Stands in for `Probe.scores_patched`: timed on the network, at some of the places; `extra` hears the rest."""
        start = perf_counter()
        real, group = self.probe(self.real, len(probe.images)), max(1, probe.batch_size // ALIGNED)
        real.scores_patched(places[:1], patch, hidden, output)
        few, more = (places[:: max(1, len(places) // count)][:count] for count in (group, 3 * group))
        one = self.seconds(partial(real.scores_patched, few, patch, hidden, output))
        before = real.passes.forward
        other = self.seconds(partial(real.scores_patched, more, patch, hidden, output))
        slope = max(0.0, other - one) / max(1, len(more) - len(few)) if len(more) > len(few) else one / len(few)
        # in place of the time that this has taken
        extra.append(max(0.0, one - slope * len(few)) + slope * len(places) - (perf_counter() - start))
        # beside the places, what makes sure that windows score as whole images do
        checks = real.passes.forward - before - len(probe.images) * len(more)
        probe.passes.forward += len(probe.images) * len(places) + checks
        return torch.zeros(len(probe.images), len(places), device=probe.images.device)

    def synthesis(self, choice: Choice) -> float:
        """Seconds of the image of one class."""
        count = min(FEW, self.real.classes(self.images))
        targets = torch.arange(count)
        start = soft_noise(targets, self.images.shape[2], self.config.seed)

        def ask(steps: int) -> float:
            some = SYNTHESES[choice.name].bind(**{**choice.params, "steps": steps})
            probe = Probe(self.real, start, targets, batch_size=self.config.batch_size)
            return self.seconds(partial(images_of, probe, some))

        ask(1)
        one, three = ask(1), ask(3)
        return max(one, one + (three - one) / 2 * (choice.params["steps"] - 1)) / count

    def writing(self) -> float:
        """Seconds to write down one result of one chunk."""
        table = pl.DataFrame({"image": [f"image {row}" for row in range(self.chunk)], "score": [0.0] * self.chunk})
        with tempfile.TemporaryDirectory() as folder:
            taken = [
                self.seconds(partial(files.write_part, Path(folder) / "one.parquet", part, table)) for part in range(4)
            ]
        return 3 * median(taken)  # a part, its merge, and the record of the choice

    def refilling(self) -> float:
        """Seconds that memory takes to go back to the system and come again, behind a result that takes passes."""
        probe = self.probe(self.real, self.config.batch_size)
        ask = partial(probe.scores, [probe.images])
        give_back()
        ask()
        rounds = [self.seconds(lambda: (give_back(beyond=AT_HAND), ask())) - self.seconds(ask) for _ in range(3)]
        return max(0.0, median(rounds))

    def tidying(self) -> float:
        """Seconds to collect what a method has left behind."""
        return self.seconds(gc.collect)

    def maps(self, count: int) -> Maps:
        """Maps of either kind: half of them coarse, half of them grainy."""
        height, width = self.images.shape[2:]
        source = torch.Generator().manual_seed(0)
        coarse, grainy = (torch.rand((count, *size), generator=source) for size in ((7, 7), (height, width)))
        smooth = torch.nn.functional.interpolate(coarse[:, None], (height, width), mode="bilinear")[:, 0]
        rows = torch.arange(count)[:, None, None] % 2 == 0
        return smooth.where(rows, grainy).to(self.images.device)


def scored_map(probe: Probe) -> Maps:
    """A map that hangs on a score."""
    return probe.scores([probe.images])[:, :, None] * probe.images.mean(1)


def graded_map(probe: Probe) -> Tensor:
    """A map that hangs on a gradient."""
    (gradients,) = probe.input_gradients([probe.images])
    return (gradients * probe.images).sum(1)

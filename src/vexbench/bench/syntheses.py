"""Images of what each network of a study looks for, part by part like everything else, and what is said of them.

In the group's folder, beside the methods: ``<synthesis>-<digest>/images.zarr`` with an image per class,
``made.parquet`` with the classes and the passes, ``scores-<digest of the judge>.parquet``, and ``synthesis.json``.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, final

import polars as pl
import torch
from torch import Tensor

from vexbench.bench.plan import CHUNK, Group, Plan, Sitting
from vexbench.bench.records import as_images, noted, record_failure
from vexbench.metrics.cost import short_backward
from vexbench.metrics.synthesis import Reality, activation_gain, naturalness, real, transfer
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier
from vexbench.probe import Probe
from vexbench.registry import SYNTHESES, Choice
from vexbench.results import store as files
from vexbench.synthesising import images_of, soft_noise

ALONE = "none"
"""Stands for the judge where there is none."""


class Judge(NamedTuple):
    """A network that is asked what it makes of another's images."""

    network: Classifier
    digest: str


@final
class Studio:
    """Makes the images that a plan asks for; `home` is a group's folder."""

    def __init__(self, study: Plan, home: Callable[[Group], Path]) -> None:
        self.study, self._home = study, home
        self._judges: dict[int, Judge | None] = {}
        self._real: dict[int, Reality] = {}

    def missing(self) -> Iterator[Sitting]:
        """What is neither finished nor failed."""
        for number, group in enumerate(self.study.groups):
            for index, choice in enumerate(self.study.syntheses):
                place = self.study.store.method(self._home(group), choice)
                made = [place / name for name in ("synthesis.json", "images.zarr", "made.parquet")]
                if (place / "failed.json").exists():
                    continue
                if not all(path.exists() for path in [*made, self._scores(number, place)]) or self._stale(
                    number, place
                ):
                    yield Sitting(number, index)

    def work(self, sitting: Sitting, progress: Callable[[float], None]) -> None:
        """Make the images that are missing, or read them, and score them."""
        group, choice = self.study.groups[sitting.group], self.study.syntheses[sitting.synthesis]
        place = self.study.store.method(self._home(group), choice)
        try:
            self._make(group, choice, place, progress)
            self._score(sitting.group, place)
        except Exception as error:  # noqa: BLE001  a synthesis that fails must not end the study; the reason is recorded
            record_failure(place / "failed.json", error)
        self._describe(sitting.group, choice, place)

    def _make(self, group: Group, choice: Choice, place: Path, progress: Callable[[float], None]) -> None:
        images, made = place / "images.zarr", place / "made.parquet"
        parts = self._targets(group).split(CHUNK)
        for number, targets in enumerate(parts):
            if all(path.exists() or number in files.parts(path) for path in (images, made)):
                continue
            seed = self.study.config.seed
            start = soft_noise(targets, self._side(group), seed)
            probe = Probe(group.classifier, start, targets, seed=seed, batch_size=self.study.config.batch_size)

            def told(share: float, number: int = number) -> None:
                progress((number + share) / len(parts))

            drawn = images_of(probe, choice, told)
            pixels = (drawn * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            count = probe.passes
            short = count.partial * short_backward(probe) if count.partial else 0.0
            passes = (count.forward + count.backward + short) / len(targets)
            table = pl.DataFrame({"target": targets.numpy(), "passes": [float(passes)] * len(targets)})
            files.write_part(made, number, table)
            files.write_part(images, number, pixels)
        for path in (made, images):
            files.finish(path, len(parts))

    def _score(self, index: int, place: Path) -> None:
        path = self._scores(index, place)
        if path.exists():
            return
        group, judge = self.study.groups[index], self._judge(index)
        made = files.read_frame(place / "made.parquet")
        reality, rows = self._reality(index), list[pl.DataFrame]()
        names = files.read_frame(self._home(group) / "predictions.parquet")["image"]
        for first in range(0, len(made), CHUNK):
            window = slice(first, first + CHUNK)
            images = as_images(files.read_array(place / "images.zarr", window), group)
            targets = made["target"][window].to_torch()
            probe = self._probe(group, images, targets)
            sure = probe.logits.softmax(1).gather(1, probe.targets[:, None])[:, 0]
            ask = partial(transfer, images, targets, batch_size=self.study.config.batch_size)
            nearest = reality.logits.argmax(0).cpu()[targets]
            columns = {
                "probability": sure,
                "activation_gain": activation_gain(probe, reality),
                "transfer": torch.full_like(sure, float("nan")) if judge is None else ask(judge.network),
                "naturalness": naturalness(probe, reality),
            }
            scores = {name: values.double().cpu().numpy() for name, values in columns.items()}
            rows.append(pl.DataFrame({**scores, "real": [names[int(row)] for row in nearest]}))
        files.write_frame(path, made.hstack(pl.concat(rows)) if rows else made)

    def _describe(self, index: int, choice: Choice, place: Path) -> None:
        judge = self._judge(index)
        name = None if judge is None else judge.network.card.get("title") or judge.network.name
        described = {
            **noted(SYNTHESES[choice.name], choice),
            "judge": None if judge is None else {"name": name, "digest": judge.digest},
            "scores": self._scores(index, place).name,
        }
        files.write_json(place / "synthesis.json", described)

    def _stale(self, index: int, place: Path) -> bool:
        """Whether it was judged by another network: models may join a study."""
        return files.read_json(place / "synthesis.json")["scores"] != self._scores(index, place).name

    def _scores(self, index: int, place: Path) -> Path:
        judge = self._judge(index)
        return place / f"scores-{ALONE if judge is None else judge.digest}.parquet"

    def _judge(self, index: int) -> Judge | None:
        """Another network that knows the same classes: of the study, or else the embedded one."""
        if index not in self._judges:
            group = self.study.groups[index]
            others = (Judge(other.classifier, other.digest) for other in self.study.groups)
            self._judges[index] = next((other for other in (*others, self._demo) if _fits(other, group)), None)
        return self._judges[index]

    @cached_property
    def _demo(self) -> Judge:
        demo = demo_classifier()
        return Judge(demo, demo.digest)

    def _reality(self, index: int) -> Reality:
        if index not in self._real:
            group = self.study.groups[index]
            home, count = self._home(group), len(group.dataset)
            predictions = files.read_frame(home / "predictions.parquet")

            def probes() -> Iterator[Probe]:
                for first in range(0, count, CHUNK):
                    window = slice(first, min(first + CHUNK, count))
                    images = as_images(files.read_array(home / "images.zarr", window), group)
                    yield self._probe(group, images, predictions["target"][window].to_torch())

            self._real[index] = real(probes, count, seed=self.study.config.seed)
        return self._real[index]

    def _probe(self, group: Group, images: Tensor, targets: Tensor) -> Probe:
        config = self.study.config
        return Probe(group.classifier, images, targets, seed=config.seed, batch_size=config.batch_size)

    def _targets(self, group: Group) -> Tensor:
        """The classes that the study's images show, or are explained as."""
        predictions = files.read_frame(self._home(group) / "predictions.parquet")
        seen = {*predictions["target"].to_list(), *predictions["label"].to_list()}
        return torch.tensor(sorted(target for target in seen if target >= 0), dtype=torch.int64)

    def _side(self, group: Group) -> int:
        return group.classifier.input_size or min(files.read_array(self._home(group) / "images.zarr", [0]).shape[1:3])


def _fits(judge: Judge, group: Group) -> bool:
    """Whether it is another network, and knows the same classes."""
    ours, theirs = (other.class_names or group.dataset.class_names for other in (group.classifier, judge.network))
    return judge.digest != group.digest and ours == theirs

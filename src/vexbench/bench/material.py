"""What a group's methods and metrics work on: its images, predictions, evidence, and images to compare with."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from vexbench.bench.plan import Group, Plan
from vexbench.bench.records import as_images
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.probe import Probe
from vexbench.registry import DATASETS, METRICS, Choice
from vexbench.results import store as files
from vexbench.types import References

ANY_SIZE = 8
"""To ask whether a dataset knows where the evidence is, at no cost."""
REFERENCES = 3
"""Images per class to compare with: those that the network is surest of."""
COMPANY = 60
"""Images to compare with in all, where there are many classes."""
ABSENT = {
    "regions": "does not say where the evidence is",
    "cues": 'plants no shortcut: use scenes with variant="shortcut"',
    "references": "has no two classes that the network recognises",
}


def home_of(study: Plan, group: Group) -> Path:
    """The group's folder."""
    dataset = study.store.dataset(group.dataset.name, group.dataset.revision)
    return study.store.model(dataset, group.classifier.name, group.digest)


def prepare(study: Plan, group: Group) -> None:
    """Describe the group's data and model, store its images, predictions, and where the evidence is."""
    home, dataset = home_of(study, group), group.dataset
    described = {
        "name": dataset.name,
        "title": dataset.title,
        "revision": dataset.revision,
        "class_names": dataset.class_names,
        "counts": dataset.counts,
        "images": len(dataset),
        "skipped": [asdict(skipped) for skipped in dataset.skipped],
        "params": group.dataset_choice.params,
        "paper": DATASETS[dataset.name].paper if dataset.name in DATASETS else "",
    }
    if not (home.parent / "dataset.json").exists():
        files.write_json(home.parent / "dataset.json", described)
    if not (home / "card.json").exists():
        files.write_json(home / "card.json", card(group))
    names = ["images.zarr", "predictions.parquet"]
    if dataset.region(0, 0, ANY_SIZE) is not None:
        names.append("regions.zarr")
    if dataset.cue(0, ANY_SIZE) is not None:
        names.append("cues.zarr")
    lacking = [home / name for name in names if not (home / name).exists()]
    for chunk in range(group.chunks):
        if all(chunk in files.parts(path) for path in lacking):
            continue
        rows = rows_of(group, chunk)
        pixels = load_pixels(group, rows)
        images = as_images(pixels, group)
        logits = Probe(group.classifier, images, [0] * len(images), batch_size=study.config.batch_size).logits
        if max(dataset.labels) >= 0 and logits.shape[1] != len(dataset.class_names):
            raise VexbenchError(
                f"the model '{group.classifier.name}' tells {logits.shape[1]} classes apart, but dataset "
                f"'{dataset.name}' has {len(dataset.class_names)}; use a model trained on these classes."
            )
        probabilities = logits.softmax(1).cpu()
        predicted = probabilities.argmax(1)
        labels = torch.tensor([dataset.labels[row] for row in rows])
        targets = labels.where(labels >= 0, predicted) if study.config.target == "label" else predicted
        table = pl.DataFrame(
            {
                "image": [dataset.ids[row] for row in rows],
                "target": targets.numpy(),
                "label": labels.numpy(),
                "predicted": predicted.numpy(),
                "probability": probabilities.gather(1, targets[:, None])[:, 0].numpy(),
                "correct": [bool(p == t) if t >= 0 else None for p, t in zip(predicted, labels, strict=True)],
            },
            schema_overrides={"correct": pl.Boolean},
        )
        made: dict[str, pl.DataFrame | np.ndarray] = {"images.zarr": pixels, "predictions.parquet": table}
        regions = [dataset.region(row, int(target), pixels.shape[1]) for row, target in zip(rows, targets)]
        if known := [region for region in regions if region is not None]:
            made["regions.zarr"] = np.stack(known)
        if planted := [cue for row in rows if (cue := dataset.cue(row, pixels.shape[1])) is not None]:
            made["cues.zarr"] = np.stack(planted)
        for path in lacking:
            files.write_part(path, chunk, made[path.name])
    for path in lacking:
        files.finish(path, group.chunks)


@final
@dataclass(frozen=True)
class Material:
    """One chunk of a group's images, as all its methods and metrics meet them.

    They ask one probe, so that what is the same for all is computed once.
    """

    study: Plan
    group: Group
    chunk: int
    references: References | None

    @cached_property
    def predictions(self) -> pl.DataFrame:
        """Targets, labels and what was predicted."""
        return files.read_frame(self._home / "predictions.parquet")[self._rows]

    @cached_property
    def probe(self) -> Probe:
        """The question of all methods and metrics."""
        images = as_images(files.read_array(self._home / "images.zarr", self._rows), self.group)
        config, targets = self.study.config, self.predictions["target"].to_torch()
        probe = Probe(self.group.classifier, images, targets, seed=config.seed, batch_size=config.batch_size)
        probe.logits  # noqa: B018  first of all, so that they do not hang on who asks first
        return probe

    def given(self, metric: Choice) -> dict[str, Any]:
        """What a metric may ask for beside maps and probe.

        Raises
        ------
        NotApplicable
            What it needs is not there.
        """
        given: dict[str, Any] = {"regions": self._where("regions"), "cues": self._where("cues")}
        given["references"] = self.references
        for need in METRICS[metric.name].needs:
            if need in ABSENT and given[need] is None:
                raise NotApplicable(f"dataset '{self.group.dataset.name}' {ABSENT[need]}.")
        return given

    def check(self, method: Choice) -> None:
        """Refuse a method that changed the images, which the next ones would meet.

        Raises
        ------
        VexbenchError
            It did; the material is as new then.
        """
        images = self.probe.images
        if images._version or images.requires_grad:
            del self.__dict__["probe"]
            raise VexbenchError(f"method '{method.name}' changed the probe's images; let it work on a copy.")

    def _where(self, name: str) -> Tensor | None:
        path = self._home / f"{name}.zarr"
        if not path.exists():
            return None
        return torch.from_numpy(files.read_array(path, self._rows)).to(self.group.classifier.device)

    @property
    def _rows(self) -> slice:
        rows = rows_of(self.group, self.chunk)
        return slice(rows.start, rows.stop)

    @property
    def _home(self) -> Path:
        return home_of(self.study, self.group)


def references_of(study: Plan, group: Group) -> References | None:
    """The images of each class that the network is surest of, and right about; None where one class is all."""
    home = home_of(study, group)
    right = pl.col("correct").fill_null(True) & (pl.col("target") == pl.col("predicted"))
    sure = (
        files.read_frame(home / "predictions.parquet")
        .with_row_index("row")
        .filter(right)
        .sort("probability", "image", descending=[True, False])
        .group_by("predicted", maintain_order=True)
        .head(REFERENCES)
        .sort("probability", "image", descending=[True, False])
        .head(COMPANY)
        .sort("row")
    )
    pixels = files.read_array(home / "images.zarr", sure["row"].to_list())
    found = References(as_images(pixels, group), sure["predicted"].to_torch().long())
    return found if sure["predicted"].n_unique() > 1 else None


def card(group: Group) -> dict[str, Any]:
    """The model's card, with at least what the classifier knows."""
    classifier = group.classifier
    known = {
        "architecture": classifier.name,
        "class_names": classifier.class_names or group.dataset.class_names,
        "mean": classifier.mean,
        "std": classifier.std,
        "input_size": classifier.input_size,
        "target_layer": classifier.target_layer,
        "digest": group.digest,
    }
    return {**classifier.card, **known}


def load_pixels(group: Group, rows: range) -> np.ndarray:
    """Images at the size that the classifier takes: (N, size, size, 3), 8 bits.

    Raises
    ------
    VexbenchError
        An image cannot be read, or they differ in size and the classifier does not say what it takes.
    """
    pixels = [group.dataset.image(row, group.classifier.input_size) for row in rows]
    if len({image.shape for image in pixels}) > 1:
        raise VexbenchError(
            "the images differ in size, and the model does not say what it takes; give the Classifier an input_size=."
        )
    return np.stack(pixels)


def rows_of(group: Group, chunk: int) -> range:
    """The images of one part of a result."""
    return range(chunk * group.chunk, min((chunk + 1) * group.chunk, len(group.dataset)))

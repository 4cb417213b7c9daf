"""Run a plan into a store, part by part; what is there already is never computed again."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from vexbench.bench.config import StudyConfig
from vexbench.bench.local import local
from vexbench.bench.plan import CHUNK, Group, Plan, plan, shown
from vexbench.bench.records import as_images, noted, record_failure
from vexbench.bench.result import Result
from vexbench.bench.syntheses import Sitting, Studio
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.explaining import maps_of, reexplain, scores_of
from vexbench.probe import Probe
from vexbench.registry import DATASETS, METHODS, METRICS, SYNTHESES, Choice, Entry
from vexbench.results import store as files
from vexbench.results.provenance import provenance
from vexbench.types import References

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many parts are done, and how many there are."""


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


@final
@dataclass(frozen=True)
class Task:
    """One method on one chunk of images: explain, then score by every metric."""

    group: int
    method: int
    chunk: int


def run(config: StudyConfig, *, progress: Progress = lambda *_: None) -> Result:
    """Run a study, or what is missing of it, into `config.out`.

    A method or metric that fails is recorded with its reason, and the rest goes on. Interrupted at any point, the same
    call goes on where it was, to the same result; finished, it does nothing, but for another try at what failed for
    another reason than that it is not defined.

    Raises
    ------
    VexbenchError
        The study names what does not exist, or the folder holds another study or cannot be written.
    """
    study = plan(config)
    _claim(study)
    for path in files.mendable(config.out):
        path.unlink()
    runner = Runner(study, progress)
    for group in range(len(study.groups)):
        runner.prepare(group)
    tasks, sittings = list(runner.missing()), list(runner.unmade())
    if tasks or sittings:
        runner.note_start()
    for _ in local(runner.work, tasks):
        pass
    for _ in local(runner.synthesise, sittings):
        pass
    runner.finish()
    return Result(config.out)


def _claim(study: Plan) -> None:
    store = study.store
    store.claim()
    config = study.config.model_dump(mode="json", exclude={"out", "models"})
    config["models"] = list(study.models)
    config["datasets"] = [
        {key: shown(value) if key == "root" else value for key, value in dataset.items()}
        for dataset in config["datasets"]
    ]
    if store.study.exists():
        described = files.read_json(store.study)
        before = described["config"]
        # more datasets, models, methods or metrics may join a study; what decides its numbers may not change
        changed = [key for key in ("seed", "target") if before.get(key) != config[key]]
        if changed:
            raise VexbenchError(
                f"{store.root} holds a study with another {' and '.join(changed)} "
                f"({', '.join(f'{key} {before.get(key)}' for key in changed)}); choose another --out."
            )
        # an empty list of methods or metrics means all there are, one of syntheses none
        asked = {key: before[key] or ["all"] for key in ("datasets", "models", "methods", "metrics") if config[key]}
        asked["syntheses"] = before.get("syntheses", [])
        lost = [
            f"{key} {', '.join(_name(item) for item in gone)}"
            for key, items in asked.items()
            if (gone := [item for item in items if item not in config[key]])
        ]
        if lost:
            raise VexbenchError(
                f"{store.root} holds a study that has also {'; '.join(lost)}; choose another --out, or name them too."
            )
        if before != config:
            files.write_json(store.study, {**described, "config": config, "title": study.config.title})
        return
    made_with = provenance(study.device)
    files.write_json(store.study, {"title": study.config.title, "config": config, "provenance": made_with})


def _name(item: str | dict[str, Any]) -> str:
    if isinstance(item, str):
        return item
    params = ", ".join(f"{key}={value}" for key, value in item.items() if key != "name")
    return f"{item['name']}({params})" if params else item["name"]


@final
class Runner:
    """A plan at work; tasks are independent of each other."""

    def __init__(self, study: Plan, progress: Progress) -> None:
        self.study, self._progress = study, progress
        self._done = 0
        self._known: dict[tuple[int, int], dict[Hashable, Tensor]] = {}
        self._company: dict[int, References | None] = {}
        self._studio = Studio(study, self._home)
        self._total = len(study.metrics) * len(study.methods) * sum(group.chunks for group in study.groups)
        self._total += len(study.syntheses) * len(study.groups)

    def prepare(self, index: int) -> None:
        """Describe the group's data and model, store its images, predictions, and where the evidence is."""
        group = self.study.groups[index]
        home = self._home(group)
        dataset = group.dataset
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
            rows = _rows(group, chunk)
            pixels = load_pixels(group, rows)
            images = as_images(pixels, group)
            logits = Probe(group.classifier, images, [0] * len(images), batch_size=self.study.config.batch_size).logits
            if max(dataset.labels) >= 0 and logits.shape[1] != len(dataset.class_names):
                raise VexbenchError(
                    f"the model '{group.classifier.name}' tells {logits.shape[1]} classes apart, but dataset "
                    f"'{dataset.name}' has {len(dataset.class_names)}; use a model trained on these classes."
                )
            probabilities = logits.softmax(1).cpu()
            predicted = probabilities.argmax(1)
            labels = torch.tensor([dataset.labels[row] for row in rows])
            targets = labels.where(labels >= 0, predicted) if self.study.config.target == "label" else predicted
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

    def note_start(self) -> None:
        """Note what a resumed or extended study goes on with: packages may have changed in between."""
        study = self.study.store.study
        described = files.read_json(study)
        if any(self.study.store.root.rglob("maps.*")):
            described["provenance"].setdefault("resumed", []).append(provenance(self.study.device))
            files.write_json(study, described)

    def missing(self) -> Iterator[Task]:
        """Tasks of which a part is still to be made; finished cells are counted as done."""
        for number, group in enumerate(self.study.groups):
            for index, method in enumerate(self.study.methods):
                for chunk in range(group.chunks):
                    if self._has_maps(group, method, chunk) and not [*self._lacking(group, method, chunk)]:
                        self._done += len(self.study.metrics)
                    else:
                        yield Task(number, index, chunk)

    def work(self, task: Task) -> None:
        """Explain a chunk of images, or read its maps, and score it by every metric that lacks it."""
        group, method = self.study.groups[task.group], self.study.methods[task.method]
        home = self._home(group)
        place = self.study.store.method(home, method)
        lacking = list(self._lacking(group, method, task.chunk))
        self._done += len(self.study.metrics) - len(lacking)
        if (place / "failed.json").exists():
            return
        self._describe(group, method)
        rows = _rows(group, task.chunk)
        predictions = files.read_frame(home / "predictions.parquet")[rows.start : rows.stop]
        images = as_images(files.read_array(home / "images.zarr", slice(rows.start, rows.stop)), group)
        targets = predictions["target"].to_torch()

        def probe(known: dict[Hashable, Tensor] | None = None) -> Probe:
            config = self.study.config
            return Probe(group.classifier, images, targets, seed=config.seed, batch_size=config.batch_size, known=known)

        maps = self._maps(group, method, task.chunk, probe)
        if maps is None:
            self._done += len(lacking)
            return
        given: dict[str, Any] = {"references": self._references(task.group)}
        for name in ("regions", "cues"):
            given[name] = None
            if (home / f"{name}.zarr").exists():
                where = torch.from_numpy(files.read_array(home / f"{name}.zarr", slice(rows.start, rows.stop)))
                given[name] = where.to(group.classifier.device)
        known, explain = self._known.setdefault((task.group, task.chunk), {}), reexplain(method)
        for metric in lacking:
            self._progress(f"{METHODS[method.name].title} · {METRICS[metric.name].title}", self._done, self._total)
            path = self.study.store.metric(place, metric)
            try:
                for need in METRICS[metric.name].needs:
                    if need in ABSENT and given[need] is None:
                        raise NotApplicable(f"dataset '{group.dataset.name}' {ABSENT[need]}.")
                scores = scores_of(metric, maps, probe(known), explain=explain, **given)
            except Exception as error:  # noqa: BLE001  a metric that fails must not end the study; the reason is recorded
                record_failure(path.with_suffix(".failed.json"), error)
            else:
                table = pl.DataFrame({"image": predictions["image"], "score": scores.double().cpu().numpy()})
                files.write_part(path, task.chunk, table)
            self._done += 1
        self._progress(METHODS[method.name].title, self._done, self._total)
        if task.chunk == group.chunks - 1:
            self._merge(group, method)

    def unmade(self) -> list[Sitting]:
        """Syntheses that are still to be made; finished ones are counted as done."""
        found = list(self._studio.missing())
        self._done += len(self.study.syntheses) * len(self.study.groups) - len(found)
        return found

    def synthesise(self, sitting: Sitting) -> None:
        """Make the images of one synthesis, and score them."""
        title = SYNTHESES[self.study.syntheses[sitting.synthesis].name].title
        self._studio.work(sitting, lambda _: self._progress(title, self._done, self._total))
        self._done += 1
        self._progress(title, self._done, self._total)

    def finish(self) -> None:
        """Merge what a kill between the last part and its merge left apart; note the end of the study once."""
        for group in self.study.groups:
            for method in self.study.methods:
                self._describe(group, method)
                self._merge(group, method)
        described = files.read_json(self.study.store.study)
        last = (described["provenance"].get("resumed") or [described["provenance"]])[-1]
        if "finished" not in last:
            last["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
            files.write_json(self.study.store.study, described)
        self._progress("done", self._total, self._total)

    def _describe(self, group: Group, method: Choice) -> None:
        """Write down what was run, for those who read the store."""
        place = self.study.store.method(self._home(group), method)
        described: dict[Path, tuple[Entry, Choice]] = {place / "choice.json": (METHODS[method.name], method)}
        for metric in self.study.metrics:
            described[self.study.store.metric(place, metric).with_suffix(".json")] = (METRICS[metric.name], metric)
        for path, (entry, choice) in described.items():
            if not path.exists():
                files.write_json(path, noted(entry, choice))

    def _merge(self, group: Group, method: Choice) -> None:
        place = self.study.store.method(self._home(group), method)
        everything = range(group.chunks)
        paths = [place / "maps.zarr", *(self.study.store.metric(place, metric) for metric in self.study.metrics)]
        for path in paths:
            if files.parts(path) >= set(everything):
                files.finish(path, group.chunks)

    def _maps(self, group: Group, method: Choice, chunk: int, probe: Callable[[], Probe]) -> Tensor | None:
        place = self.study.store.method(self._home(group), method)
        path = place / "maps.zarr"
        rows = _rows(group, chunk)
        device = group.classifier.device
        if path.exists():
            return torch.from_numpy(files.read_array(path, slice(rows.start, rows.stop))).to(device)
        if chunk in files.parts(path):
            return torch.from_numpy(files.read_part(path, chunk)).to(device)
        self._progress(METHODS[method.name].title, self._done, self._total)
        try:
            maps = maps_of(probe(), method)
        except Exception as error:  # noqa: BLE001  a method that fails must not end the study; the reason is recorded
            record_failure(place / "failed.json", error)
            return None
        files.write_part(path, chunk, maps.cpu().numpy())
        return maps

    def _references(self, index: int) -> References | None:
        """The images of each class that the network is surest of, and right about; None where one class is all."""
        if index not in self._company:
            group = self.study.groups[index]
            home = self._home(group)
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
            self._company[index] = found if sure["predicted"].n_unique() > 1 else None
        return self._company[index]

    def _has_maps(self, group: Group, method: Choice, chunk: int) -> bool:
        """Whether the maps are there, or will never be."""
        place = self.study.store.method(self._home(group), method)
        path = place / "maps.zarr"
        return path.exists() or chunk in files.parts(path) or (place / "failed.json").exists()

    def _lacking(self, group: Group, method: Choice, chunk: int) -> Iterator[Choice]:
        """Metrics of this method that have no result for this chunk, and have not failed."""
        place = self.study.store.method(self._home(group), method)
        if (place / "failed.json").exists():
            return
        for metric in self.study.metrics:
            path = self.study.store.metric(place, metric)
            if not (path.exists() or path.with_suffix(".failed.json").exists() or chunk in files.parts(path)):
                yield metric

    def _home(self, group: Group) -> Path:
        store = self.study.store
        dataset = store.dataset(group.dataset.name, group.dataset.revision)
        return store.model(dataset, group.classifier.name, group.digest)


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


def _rows(group: Group, chunk: int) -> range:
    return range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(group.dataset)))

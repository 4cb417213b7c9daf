"""A study read back from its folder, finished or not: what was asked, what came out, what failed, what is missing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
from jaxtyping import Float, Num, UInt8

from vexbench.results.record import AXES, FAMILIES, Failure, MethodRecord, MetricRecord, Record, SynthesisRecord, place
from vexbench.results.store import Store, array_length, parts, read_array, read_frame, read_json

COLUMNS = {
    "dataset": pl.String,
    "model": pl.String,
    "method": pl.String,
    "params": pl.String,
    "metric": pl.String,
    "image": pl.String,
    "target": pl.Int64,
    "predicted": pl.Int64,
    "correct": pl.Boolean,
    "score": pl.Float64,
    "note": pl.String,
}


@final
@dataclass(frozen=True)
class Group:
    """One model that saw one dataset, and all methods that explained it; `dataset` and `card` are as stored."""

    directory: Path
    dataset_name: str
    model_name: str
    dataset: Mapping[str, Any]
    card: Mapping[str, Any]
    predictions: pl.DataFrame
    methods: tuple[MethodRecord, ...]
    metrics: tuple[MetricRecord, ...]
    cells: Mapping[tuple[str, str], pl.DataFrame] = field(repr=False)
    failures: tuple[Failure, ...]
    pending: tuple[str, ...]
    syntheses: tuple[SynthesisRecord, ...] = ()
    race: float | None = None
    """The confidence of the race, where it was one."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that the model tells apart."""
        return tuple(self.card.get("class_names") or self.dataset.get("class_names") or ())

    @property
    def title(self) -> str:
        """The model and the dataset, for people."""
        return f"{self.model_title} on {self.dataset_title}"

    @property
    def model_title(self) -> str:
        """The model's name, for people."""
        return str(self.card.get("title") or self.model_name)

    @property
    def dataset_title(self) -> str:
        """The dataset's name, for people."""
        return str(self.dataset.get("title") or self.dataset_name)

    def class_name(self, index: int) -> str:
        """The name of a class; a number where the model has no names."""
        return self.class_names[index] if 0 <= index < len(self.class_names) else f"class {index}"

    @cached_property
    def scores(self) -> Float[np.ndarray, "images methods metrics"]:
        """All scores; NaN where a score is not defined, or not there."""
        table = np.full((len(self.predictions), len(self.methods), len(self.metrics)), np.nan)
        for i, method in enumerate(self.methods):
            for j, metric in enumerate(self.metrics):
                if (cell := self.cells.get((method.key, metric.key))) is not None:
                    table[:, i, j] = _aligned(self.predictions, cell)["score"].fill_null(float("nan")).to_numpy()
        return table

    @property
    def waiting(self) -> np.ndarray:
        """Which methods × metrics are neither computed nor failed yet."""
        there = [[(method.key, metric.key) in self.cells for metric in self.metrics] for method in self.methods]
        return ~np.array(there, dtype=bool).reshape(self._shape) & ~self._noted(self.failures)

    @property
    def over_budget(self) -> np.ndarray:
        """Which methods × metrics were left out to keep a budget."""
        return self._noted(failure for failure in self.failures if failure.over_budget)

    def _noted(self, failures: Iterable[Failure]) -> np.ndarray:
        """The methods × metrics that these failures are of."""
        noted = {(failure.method, failure.metric) for failure in failures}
        return np.array(
            [
                [bool(noted & {(method.name, metric.name), (method.name, "")}) for metric in self.metrics]
                for method in self.methods
            ],
            dtype=bool,
        ).reshape(self._shape)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.methods), len(self.metrics)

    def seen(self, method: MethodRecord, metric: MetricRecord) -> int:
        """How many images have been asked, the first ones of `predictions`: fewer than all where a race has stopped."""
        cell = self.cells.get((method.key, metric.key))
        return len(self.predictions) if cell is None else len(cell)

    def images(self, rows: Sequence[int]) -> UInt8[np.ndarray, "N H W 3"]:
        """The images in these rows of `predictions`, as the model saw them."""
        return read_array(self.directory / "images.zarr", list(rows))

    def maps(self, method: MethodRecord, rows: Sequence[int]) -> Num[np.ndarray, "N H W"]:
        """A method's maps of the images in these rows of `predictions`."""
        return read_array(self.directory / method.key / "maps.zarr", list(rows))

    def synthesised(self, synthesis: SynthesisRecord, rows: Sequence[int]) -> UInt8[np.ndarray, "N H W 3"]:
        """The synthesised images in these rows of its `scores`."""
        return read_array(self.directory / synthesis.key / "images.zarr", list(rows))

    def mapped(self, method: MethodRecord) -> int:
        """How many images, the first ones of `predictions`, the method has explained."""
        path = self.directory / method.key / "maps.zarr"
        return array_length(path) if path.is_dir() else 0

    def has_maps(self, method: MethodRecord) -> bool:
        """Whether the method's maps are there already."""
        return (self.directory / method.key / "maps.zarr").is_dir()

    def frame(self) -> pl.DataFrame:
        """One row per score, with the columns of `COLUMNS`; none of images that a race did not come to.

        What was left out to keep a budget has a row per image without a score, and says so in `note`.
        """
        tables = [
            table.select(
                dataset=pl.lit(self.dataset_name),
                model=pl.lit(self.model_name),
                method=pl.lit(method.id),
                params=pl.lit(method.label),
                metric=pl.lit(metric.unique_id),
                image="image",
                target=pl.col("target").cast(pl.Int64),
                predicted=pl.col("predicted").cast(pl.Int64),
                correct=pl.col("correct").cast(pl.Boolean),
                score=pl.col("score").cast(pl.Float64).fill_nan(None),
                note=pl.lit("over budget" if cell is None else None, dtype=pl.String),
            )
            for method, left_out in zip(self.methods, self.over_budget)
            for metric, over in zip(self.metrics, left_out)
            if (cell := self.cells.get((method.key, metric.key))) is not None or over
            for table in [
                self.predictions.with_columns(score=None)
                if cell is None
                else self.predictions.join(cell.select("image", "score"), on="image", maintain_order="left")
            ]
        ]
        return pl.concat(tables) if tables else pl.DataFrame(schema=COLUMNS)


@final
@dataclass(frozen=True)
class Study:
    """A study as its folder tells it."""

    directory: Path
    title: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    groups: tuple[Group, ...]

    @property
    def pending(self) -> tuple[str, ...]:
        """What a run has still to do; empty for a finished study."""
        return tuple(item for group in self.groups for item in group.pending) or (
            () if self.groups else ("everything: no image has been classified yet",)
        )

    def frame(self) -> pl.DataFrame:
        """One row per score, with the columns of `COLUMNS`; a score that is not defined is null."""
        tables = [group.frame() for group in self.groups]
        return pl.concat(tables) if tables else pl.DataFrame(schema=COLUMNS)


def load(directory: Path) -> Study:
    """Read a study, finished or not.

    Raises
    ------
    VexbenchError
        The folder holds no study, or one of its files is damaged.
    """
    store = Store(directory)
    store.require()
    study = read_json(store.study)
    found = [(path.parent, path.parent.parent) for path in sorted(directory.glob("*/*/predictions.parquet"))]
    datasets = {folder: read_json(folder / "dataset.json") for _, folder in found}
    cards = {folder: read_json(folder / "card.json") for folder, _ in found}
    names = _unique(list(datasets))
    models = _unique(list(cards))
    config = study.get("config") or {}
    return Study(
        directory,
        str(study.get("title") or ""),
        config,
        study.get("provenance") or {},
        tuple(
            _group(folder, config, names[parent], models[folder], datasets[parent], cards[folder])
            for folder, parent in found
        ),
    )


def frame(directory: Path) -> pl.DataFrame:
    """Read all scores of a study: one row per score, with the columns of `COLUMNS`."""
    return load(directory).frame()


def _group(
    folder: Path,
    config: Mapping[str, Any],
    dataset_name: str,
    model_name: str,
    dataset: Mapping[str, Any],
    card: Mapping[str, Any],
) -> Group:
    folders = sorted(path.parent for path in folder.glob("*/choice.json"))
    methods = _methods({path.name: read_json(path / "choice.json") for path in folders})
    described = sorted(path for place in folders for path in place.glob("*-*.json") if ".failed." not in path.name)
    metrics = _metrics({path.stem: read_json(path) for path in described})
    cells = {
        (method.key, metric.key): read_frame(path)
        for method in methods
        for metric in metrics
        if (path := folder / method.key / f"{metric.key}.parquet").exists()
    }
    syntheses = _syntheses(folder)
    failures = tuple(_failures(folder, (*methods, *syntheses), metrics))
    group = Group(
        folder,
        dataset_name,
        model_name,
        dataset,
        card,
        read_frame(folder / "predictions.parquet"),
        methods,
        metrics,
        cells,
        failures,
        (),
        syntheses,
        config.get("race"),
    )
    return replace(group, pending=tuple(_pending(group, config)))


def _methods(choices: Mapping[str, Mapping[str, Any]]) -> tuple[MethodRecord, ...]:
    names = _names(choices)
    records = [
        MethodRecord(**_common(key, names, choice), signed=bool(choice.get("signed")))
        for key, choice in choices.items()
    ]
    return tuple(sorted(records, key=lambda record: (place(record.family, FAMILIES), record.name)))


def _syntheses(folder: Path) -> tuple[SynthesisRecord, ...]:
    told = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/synthesis.json"))}
    names, found = _names(told), list[SynthesisRecord]()
    for key, choice in told.items():
        path = folder / key / str(choice.get("scores"))
        scores = read_frame(path) if path.exists() else None
        judge = str((choice.get("judge") or {}).get("name") or "")
        found.append(SynthesisRecord(**_common(key, names, choice), judge=judge, scores=scores))
    return tuple(sorted(found, key=lambda record: record.name))


def _metrics(choices: Mapping[str, Mapping[str, Any]]) -> tuple[MetricRecord, ...]:
    names = _names(choices)
    records = [
        MetricRecord(**_common(key, names, choice), direction=choice.get("direction", "higher"))
        for key, choice in choices.items()
    ]
    return tuple(sorted(records, key=lambda record: (place(record.family, AXES), record.name)))


def _common(key: str, names: Mapping[str, str], choice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(choice["name"]),
        "key": key,
        "name": names[key],
        "title": str(choice.get("title") or choice["name"]),
        "family": str(choice.get("family") or "other"),
        "paper": str(choice.get("paper") or ""),
        "summary": str(choice.get("summary") or ""),
        "version": int(choice.get("version") or 1),
        "params": choice.get("params") or {},
    }


def _names(choices: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A name per key; where two share one, the parameters in which they differ are added."""
    plain = {key: str(choice.get("title") or choice["name"]) for key, choice in choices.items()}
    result = dict[str, str]()
    for key, choice in choices.items():
        rivals = [choices[other] for other in choices if plain[other] == plain[key]]
        differing = [
            f"{name}={value}"
            for name, value in sorted((choice.get("params") or {}).items())
            if any((rival.get("params") or {}).get(name) != value for rival in rivals)
        ]
        extra = ", ".join(differing) if differing else key.rpartition("-")[2]
        result[key] = f"{plain[key]} ({extra})" if len(rivals) > 1 else plain[key]
    return result


def _unique(folders: Sequence[Path]) -> dict[Path, str]:
    """The part before the @, unless another folder shares it."""
    short = {folder: folder.name.rpartition("@")[0] or folder.name for folder in folders}
    taken = Counter({(name, folder.name) for folder, name in short.items()})
    times = Counter(name for name, _ in taken)
    return {folder: name if times[name] == 1 else folder.name for folder, name in short.items()}


def _failures(folder: Path, methods: Sequence[Record], metrics: Sequence[MetricRecord]) -> Iterator[Failure]:
    for method in methods:
        if (path := folder / method.key / "failed.json").exists():
            yield _failure(path, method.name, "")
    names = {metric.key: metric.name for metric in metrics}
    for method in methods:
        for path in sorted((folder / method.key).glob("*.failed.json")):
            key = path.name.removesuffix(".failed.json")
            if not path.with_name(f"{key}.parquet").exists():
                yield _failure(path, method.name, names.get(key, key.rpartition("-")[0]))


def _failure(path: Path, method: str, metric: str) -> Failure:
    record, study = read_json(path), path.parents[3]
    reason = str(record.get("reason") or "no reason was given")
    return Failure(method, metric, str(record.get("error") or ""), reason, path.relative_to(study).as_posix())


def _pending(group: Group, config: Mapping[str, Any]) -> Iterator[str]:
    where = f"{group.model_name} on {group.dataset_name}: "
    started = {method.id for method in group.methods}
    for name in _asked(config, "methods"):
        if name not in started:
            yield f"{where}{name} (not started)"
    known = {metric.id for metric in group.metrics}
    for name in _asked(config, "metrics"):
        if group.methods and name not in known:
            yield f"{where}{name} (not started)"
    made = {synthesis.id for synthesis in group.syntheses}
    failed = {failure.method for failure in group.failures}
    for name in _asked(config, "syntheses"):
        if name not in made:
            yield f"{where}{name} (not started)"
    for synthesis in group.syntheses:
        if synthesis.scores is None and synthesis.name not in failed:
            yield f"{where}{synthesis.name}"
    for method, row in zip(group.methods, group.waiting):
        for metric, waits in zip(group.metrics, row):
            if waits:
                done = len(parts(group.directory / method.key / f"{metric.key}.parquet"))
                yield f"{where}{method.name}, {metric.name}" + (f" ({done} parts done)" if done else "")


def _asked(config: Mapping[str, Any], what: str) -> list[str]:
    """The names that the configuration asks for, be they plain or with parameters."""
    items = config.get(what)
    items = items if isinstance(items, list) else []
    return [item if isinstance(item, str) else str(item.get("name", "")) for item in items]


def _aligned(predictions: pl.DataFrame, cell: pl.DataFrame) -> pl.DataFrame:
    """Scores beside the predictions of the same images; null where a score is missing."""
    return predictions.join(cell.select("image", "score"), on="image", how="left", maintain_order="left")

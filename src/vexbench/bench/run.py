"""Run a plan into a store, part by part; what is there already is never computed again."""

import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import polars as pl
import torch
from torch import Tensor

from vexbench.bench import budget
from vexbench.bench.config import StudyConfig
from vexbench.bench.local import local
from vexbench.bench.material import Material, home_of, prepare, references_of, rows_of
from vexbench.bench.plan import Group, Plan, Sitting, plan, shown
from vexbench.bench.racing import Race
from vexbench.bench.records import noted, record_failure
from vexbench.bench.result import Result
from vexbench.bench.syntheses import Studio
from vexbench.bench.tally import Tally
from vexbench.errors import VexbenchError
from vexbench.explaining import maps_of, reexplain, scores_of
from vexbench.memory import AT_HAND, give_back, kept, set_aside
from vexbench.registry import METHODS, METRICS, SYNTHESES, Choice, Entry
from vexbench.results import store as files
from vexbench.results.provenance import provenance

Progress = Callable[[str, int, int, float], None]
"""Told what is being done, how many parts are done, how many there are, and the share of the work that is done.

Parts differ in what they cost by a factor of thousands; where a study was priced (a long one, or one with a budget),
the share, from 0 to 1, is of its price.
"""


@final
@dataclass(frozen=True)
class Task:
    """One method on one chunk of images: explain, then score by every metric."""

    group: int
    method: int
    chunk: int


@kept()
@set_aside()
def run(
    config: StudyConfig, *, progress: Progress = lambda *_: None, told: Callable[[str], None] = lambda _: None
) -> Result:
    """Run a study, or what is missing of it, into `config.out`.

    A method or metric that fails is recorded with its reason, and the rest goes on. Interrupted at any point, the same
    call goes on where it was, to the same result; finished, it does nothing, but for another try at what failed for
    another reason than that it is not defined. `told` hears, in a line, what a long study will take, and what is left
    out to keep a budget.

    Raises
    ------
    VexbenchError
        The study names what does not exist, or the folder holds another study or cannot be written.
    """
    study = plan(config)
    _claim(study)
    for path in files.mendable(config.out):
        path.unlink()
    for group in study.groups:
        prepare(study, group)
    worth = budget.keep(study, told)
    if line := budget.slower(study):
        told(line)
    runner = Runner(study, progress, worth or budget.warned(study, told))
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
        before = {"reference": False, "precision": "fp32", **described["config"]}  # what studies meant unsaid
        # more datasets, models, methods or metrics may join a study; what decides its numbers
        # may not change; nor, where one stops for the sake of another, who takes part in a race
        fixed = (
            *("seed", "target", "preset", "race", "reference", "precision"),
            *(("methods", "metrics") if config["race"] else ()),
        )
        changed = [key for key in fixed if before.get(key) != config[key]]
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

    def __init__(self, study: Plan, progress: Progress, worth: budget.Worth | None) -> None:
        self.study, self._progress = study, progress
        self._tally = Tally(study, worth)
        self._material: Material | None = None
        self._race = Race(study) if study.config.race else None
        self._studio = Studio(study, self._home)

    def note_start(self) -> None:
        """Note what a resumed or extended study goes on with: packages may have changed in between."""
        study = self.study.store.study
        described = files.read_json(study)
        if any(self.study.store.root.rglob("maps.*")):
            described["provenance"].setdefault("resumed", []).append(provenance(self.study.device))
            files.write_json(study, described)

    def missing(self) -> Iterator[Task]:
        """Tasks of which a part is still to be made; finished cells are counted as done.

        Chunk by chunk, so that all methods meet the same probe while it is there.
        """
        for number, group in enumerate(self.study.groups):
            for chunk in range(group.chunks):
                for index, method in enumerate(self.study.methods):
                    if self._has_maps(group, method, chunk) and not [*self._lacking(group, method, chunk)]:
                        self._tally.results(number, index, self.study.metrics)
                    else:
                        yield Task(number, index, chunk)

    def work(self, task: Task) -> None:
        """Explain a chunk of images, or read its maps, and score it by every metric that lacks it."""
        group, method = self.study.groups[task.group], self.study.methods[task.method]
        place = self.study.store.method(self._home(group), method)
        lacking = list(self._lacking(group, method, task.chunk))
        self._settled(task, self.study.metrics, but=lacking)
        if (place / "failed.json").exists():
            return
        self._describe(group, method)
        if self._race:
            lacking, before = self._race.going(group, method, task.chunk, lacking), lacking
            self._settled(task, before, but=lacking)
            if not lacking:
                return
        material = self._material_of(group, task.chunk)
        maps = self._maps(method, material)
        if maps is None:
            self._settled(task, lacking)
            return
        explain = reexplain(method)
        for metric in lacking:
            self._tell(f"{METHODS[method.name].title} · {METRICS[metric.name].title}")
            path = self.study.store.metric(place, metric)
            try:
                scores = scores_of(metric, maps, material.probe, explain=explain, **material.given(metric))
            except Exception as error:  # noqa: BLE001  a metric that fails must not end the study; the reason is recorded
                record_failure(path.with_suffix(".failed.json"), error)
            else:
                table = pl.DataFrame({"image": material.predictions["image"], "score": scores.double().cpu().numpy()})
                files.write_part(path, task.chunk, table)
            give_back(beyond=AT_HAND)
            self._settled(task, [metric])
        gc.collect()
        give_back()
        self._tell(METHODS[method.name].title)
        if task.chunk == group.chunks - 1:
            self._merge(group, method)

    def unmade(self) -> list[Sitting]:
        """Syntheses that are still to be made; finished ones are counted as done."""
        found = list(self._studio.missing())
        for number in range(len(self.study.groups)):
            for index in range(len(self.study.syntheses)):
                if (sitting := Sitting(number, index)) not in found:
                    self._tally.synthesis(sitting)
        return found

    def synthesise(self, sitting: Sitting) -> None:
        """Make the images of one synthesis, and score them."""
        title = SYNTHESES[self.study.syntheses[sitting.synthesis].name].title
        self._studio.work(sitting, lambda _: self._tell(title))
        self._tally.synthesis(sitting)
        self._tell(title)

    def finish(self) -> None:
        """Merge what a kill between the last part and its merge left apart; note the end of the study once."""
        for group in self.study.groups:
            for method in self.study.methods:
                self._describe(group, method)
                self._merge(group, method)
                if self._race:
                    self._merge_stopped(group, method)
        described = files.read_json(self.study.store.study)
        last = (described["provenance"].get("resumed") or [described["provenance"]])[-1]
        if "finished" not in last:
            last["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
            files.write_json(self.study.store.study, described)
        self._progress("done", self._tally.total, self._tally.total, 1.0)

    def _tell(self, doing: str) -> None:
        self._progress(doing, self._tally.done, self._tally.total, self._tally.share)

    def _settled(self, task: Task, metrics: Iterable[Choice], but: Collection[Choice] = ()) -> None:
        self._tally.results(task.group, task.method, (metric for metric in metrics if metric not in but))

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

    def _merge_stopped(self, group: Group, method: Choice) -> None:
        """Merge what a race has settled: at its end, all that has not failed and is not whole."""
        place = self.study.store.method(self._home(group), method)
        paths = [place / "maps.zarr", *(self.study.store.metric(place, metric) for metric in self.study.metrics)]
        for path in paths:
            failed = (place / "failed.json").exists() or path.with_suffix(".failed.json").exists()
            if not failed and (n := len(files.parts(path))):
                files.finish(path, n)

    def _material_of(self, group: Group, chunk: int) -> Material:
        before = self._material
        if before is None or before.group is not group or before.chunk != chunk:
            company = before.references if before and before.group is group else references_of(self.study, group)
            self._material = before = Material(self.study, group, chunk, company)
        return before

    def _maps(self, method: Choice, material: Material) -> Tensor | None:
        group, chunk = material.group, material.chunk
        place = self.study.store.method(self._home(group), method)
        path = place / "maps.zarr"
        rows = rows_of(group, chunk)
        device = group.classifier.device
        if path.exists():
            there = files.read_array(path, slice(rows.start, rows.stop))
            if len(there) == len(rows):
                return torch.from_numpy(there).to(device)
            # a race stopped here; what is taken up again behind it explains again
            return maps_of(material.probe, method)
        if chunk in files.parts(path):
            return torch.from_numpy(files.read_part(path, chunk)).to(device)
        self._tell(METHODS[method.name].title)
        try:
            maps = maps_of(material.probe, method)
            material.check(method)
        except Exception as error:  # noqa: BLE001  a method that fails must not end the study; the reason is recorded
            record_failure(place / "failed.json", error)
            return None
        files.write_part(path, chunk, maps.cpu().numpy())
        return maps

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
        return home_of(self.study, group)

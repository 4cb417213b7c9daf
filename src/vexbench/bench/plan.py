"""A plan: a study with its names looked up, its data opened and its networks loaded, before anything is paid."""

import os
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, final

from vexbench.bench.config import Pick, StudyConfig
from vexbench.bench.presets import PRESETS
from vexbench.datasets.base import Dataset
from vexbench.datasets.shuffled import shuffled
from vexbench.errors import SHOWN, VexbenchError, some
from vexbench.inputs import usable_device
from vexbench.models import EMBEDDED
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier
from vexbench.registry import DATASETS, METHODS, METRICS, SYNTHESES, Choice, Entry, Registry
from vexbench.results.store import Store

CHUNK = 32
"""Images in one part of a result: what a kill can cost, and what a method holds in memory at once."""
STEP = 16
"""The same in a race, which is judged after each part."""


@final
@dataclass(frozen=True)
class Group:
    """One dataset seen by one model."""

    dataset: Dataset
    dataset_choice: Choice
    classifier: Classifier
    digest: str
    """The classifier's when the study was planned."""
    chunk: int = CHUNK
    """Images in one part of a result."""

    @property
    def chunks(self) -> int:
        """How many parts a result has."""
        return -(-len(self.dataset) // self.chunk)


class Place(NamedTuple):
    """A cell of the study by its numbers."""

    group: int
    method: int
    metric: int


@final
@dataclass(frozen=True)
class Sitting:
    """One synthesis for one group."""

    group: int
    synthesis: int


@final
@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know; a cell is (group, method, metric), a part of it a chunk of images."""

    config: StudyConfig
    store: Store
    models: tuple[str, ...]
    """As the configuration names them; NAME@DIGEST for a network that came as an object."""
    groups: tuple[Group, ...]
    methods: tuple[Choice, ...]
    metrics: tuple[Choice, ...]
    syntheses: tuple[Choice, ...] = ()

    @property
    def device(self) -> str:
        """Where the networks are."""
        return ", ".join(sorted({str(group.classifier.device) for group in self.groups}))


def plan(config: StudyConfig) -> Plan:
    """Look up, open and load all that a study names.

    Raises
    ------
    VexbenchError
        A name, parameter, file or device that does not exist; nothing has been run or written then.
    """
    methods, metrics = (
        _choices(registry, picks, config.preset)
        for registry, picks in ((METHODS, config.methods), (METRICS, config.metrics))
    )
    syntheses = _choices(SYNTHESES, config.syntheses, config.preset) if config.syntheses else ()
    datasets = [
        (choice, DATASETS[choice.name].function(**choice.params)) for choice in _choices(DATASETS, config.datasets)
    ]
    step = CHUNK
    if config.race is not None:
        # what comes first must be a fair sample of all: most datasets are sorted by class
        step, datasets = STEP, [(choice, shuffled(dataset, config.seed)) for choice, dataset in datasets]
    classifiers = [_classifier(model, config) for model in config.models]
    for (_, dataset), classifier in product(datasets, classifiers):
        _check_fit(dataset, classifier)
        if config.target == "label" and any(label < 0 for label in dataset.labels):
            raise VexbenchError(
                f"target = \"label\", but dataset '{dataset.name}' holds images without a label; "
                'use target = "predicted", or another split.'
            )
    models = [(classifier, classifier.digest) for classifier in classifiers]
    groups = {  # the same images seen by the same network are one group, however often they are named
        (dataset.name, dataset.revision, model.name, digest): Group(dataset, choice, model, digest, step)
        for (choice, dataset), (model, digest) in product(datasets, models)
    }
    named = tuple(
        f"{classifier.name}@{digest}"
        if isinstance(model, Classifier)
        else str(model)
        if model in EMBEDDED
        else shown(model)
        for model, (classifier, digest) in zip(config.models, models, strict=True)
    )
    return Plan(config, Store(config.out), named, tuple(groups.values()), methods, metrics, syntheses)


def shown(path: object) -> str:
    """A path as anyone may see it, from wherever it is read: absolute, with ``~`` for the home folder."""
    text, home = str(Path(str(path)).absolute()), str(Path.home())
    return f"~{text.removeprefix(home)}" if text.startswith(f"{home}{os.sep}") else text


def _choices(registry: Registry[Any], picks: Iterable[Pick], preset: str | None = None) -> tuple[Choice, ...]:
    entries: list[tuple[Entry, dict[str, Any]]] = [(registry[pick.name], pick.params) for pick in picks]
    settings = PRESETS[preset] if preset else {}
    chosen = [
        entry.bind(**{**settings.get(entry.id, {}), **params})
        for entry, params in entries or [(entry, {}) for entry in registry.values()]
    ]
    return tuple(dict.fromkeys(chosen))


def _classifier(model: object, config: StudyConfig) -> Classifier:
    where = usable_device(config.device)
    if isinstance(model, Classifier):
        if model.precision != config.precision == "fp32" and not config.reference:
            raise VexbenchError(
                f"the classifier '{model.name}' scores in {model.precision}, and the study in fp32; "
                f'give the study precision = "{model.precision}".'
            )
        classifier = copy(model)  # the study's settings are not the caller's
    else:
        classifier = demo_classifier(str(model)) if model in EMBEDDED else load_classifier(Path(str(model)))
        classifier.module.to(where)
    if config.reference:
        classifier.folding, classifier.precision = False, "fp32"
    if config.precision != "fp32":
        classifier.precision = config.precision
    return classifier


def _check_fit(dataset: Dataset, classifier: Classifier) -> None:
    names = classifier.class_names
    if names is not None and any(label >= 0 for label in dataset.labels) and names != dataset.class_names:
        there = dataset.class_names
        first = next((k for k, (one, other) in enumerate(zip(names, there, strict=False)) if one != other), -1)
        where = f" (class {first} is '{names[first]}' and '{there[first]}')" if first >= SHOWN else ""
        raise VexbenchError(
            f"the model '{classifier.name}' knows the classes {some(names)}, but dataset '{dataset.name}' has "
            f"{some(there)}{where}; use a model trained on these classes."
        )

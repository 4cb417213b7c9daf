"""A plan: a study with its names looked up, its data opened and its networks loaded, before anything is paid."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import torch

from vexbench.bench.config import Pick, StudyConfig
from vexbench.datasets.base import Dataset
from vexbench.errors import VexbenchError
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier
from vexbench.registry import DATASETS, METHODS, METRICS, Choice, Entry, Registry
from vexbench.results.store import Store

CHUNK = 32
"""Images in one part of a result: what a kill can cost, and what a method holds in memory at once."""


@final
@dataclass(frozen=True)
class Group:
    """One dataset seen by one model."""

    dataset: Dataset
    dataset_choice: Choice
    classifier: Classifier

    @property
    def chunks(self) -> int:
        """How many parts a result has."""
        return -(-len(self.dataset) // CHUNK)


@final
@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know; a cell is (group, method, metric), a part of it a chunk of images."""

    config: StudyConfig
    store: Store
    groups: tuple[Group, ...]
    methods: tuple[Choice, ...]
    metrics: tuple[Choice, ...]


def plan(config: StudyConfig) -> Plan:
    """Look up, open and load all that a study names.

    Raises
    ------
    VexbenchError
        A name, parameter, file or device that does not exist; nothing has been run or written then.
    """
    methods, metrics = _choices(METHODS, config.methods), _choices(METRICS, config.metrics)
    datasets = [
        (choice, DATASETS[choice.name].function(**choice.params)) for choice in _choices(DATASETS, config.datasets)
    ]
    classifiers = [_classifier(model, config.device) for model in config.models]
    for (_, dataset), classifier in product(datasets, classifiers):
        _check_fit(dataset, classifier)
    groups = tuple(Group(dataset, choice, model) for (choice, dataset), model in product(datasets, classifiers))
    return Plan(config, Store(config.out), groups, methods, metrics)


def _choices(registry: Registry[Any], picks: Iterable[Pick]) -> tuple[Choice, ...]:
    entries: list[tuple[Entry, dict[str, Any]]] = [(registry[pick.name], pick.params) for pick in picks]
    return tuple(entry.bind(**params) for entry, params in entries or [(entry, {}) for entry in registry.values()])


def _classifier(model: object, device: str) -> Classifier:
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise VexbenchError(f"device '{device}' cannot be used here: {str(error).partition(chr(10))[0]}") from error
    if isinstance(model, Classifier):
        return model
    classifier = demo_classifier() if model == "demo" else load_classifier(Path(str(model)))
    classifier.module.to(where)
    return classifier


def _check_fit(dataset: Dataset, classifier: Classifier) -> None:
    names = classifier.class_names
    if names is not None and any(label >= 0 for label in dataset.labels) and names != dataset.class_names:
        raise VexbenchError(
            f"the model '{classifier.name}' knows the classes {', '.join(names)}, but dataset '{dataset.name}' has "
            f"{', '.join(dataset.class_names)}; use a model trained on these classes."
        )

"""A budget kept: what costs most is left out, and noted as over budget, until a larger budget takes it up again."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import torch

from vexbench.bench.estimate import Estimate, estimate
from vexbench.bench.material import home_of, load_pixels
from vexbench.bench.plan import Group, Place, Plan, Sitting
from vexbench.bench.presets import seconds_of, span_of
from vexbench.bench.records import as_images
from vexbench.errors import VexbenchError
from vexbench.probe import Probe
from vexbench.registry import METHODS, METRICS, Choice
from vexbench.results import store as files
from vexbench.results.record import OVER_BUDGET
from vexbench.types import Images

Worth = dict[Place | Sitting, float]
"""Seconds of what will be made."""

LONG: Final = 3600.0
"""Seconds that a study may take without a word."""


def keep(study: Plan, told: Callable[[str], None]) -> Worth | None:
    """Leave out what is over the study's budget, as notes beside its results; `told` hears what.

    Returns what the rest is worth, where it had to be priced. Notes of another budget, or of another study in the same
    folder, are forgotten. Results that are there count at their price, and stay.

    Raises
    ------
    VexbenchError
        What is cheap alone is more than the budget.
    """
    mark = _mark(study)
    notes = list(files.over_budget(study.store.root))
    # as many as there were: a kill may come in between
    if (
        study.config.budget
        and notes
        and all(files.read_json(path).get("study") == [mark, len(notes)] for path in notes)
    ):
        return None
    missing = set(_missing(study, forgotten=notes))
    if study.config.budget is None or not missing:
        _forget(notes)
        return None
    budget = seconds_of(study.config.budget)
    found = estimate(study)
    everything = [place for place, _, _ in found.table() if found.bills[place.group].defined(*place[1:])]
    dropped = found.fitted(budget, done=[place for place in everything if place not in missing])
    rest = found.seconds(dropped)
    if rest > budget or len(dropped) == len(everything) > 0:
        raise VexbenchError(
            f"the study takes about {span_of(rest)} without its {len(dropped)} dearest results, more than the budget "
            f'of {study.config.budget}; give a larger one, fewer images or methods, or preset = "quick".'
        )
    if dropped:
        told(
            f"about {span_of(found.seconds())}, and the budget is {study.config.budget}: {len(dropped)} of "
            f"{len(everything)} results are left out, about {span_of(rest)} remain. Over budget: "
            f"{', '.join(named(found, dropped))}."
        )
    _forget(notes)
    _note(found, dropped, mark)
    return found.worth(dropped)


def warned(study: Plan, told: Callable[[str], None]) -> Worth | None:
    """Tell what a long study takes and what dominates it; nothing of a short one, at next to no cost.

    Returns what it is worth, where it had to be priced.
    """
    # what keeps a budget has been told already
    missing = set[Place]() if study.config.budget else set(_missing(study))
    if not missing or _bound(study) < LONG:
        return None
    found = estimate(study)
    rows = sorted((row for row in found.table() if row[0] in missing), key=lambda row: -row[1])
    total = found.seconds(place for place, _, _ in found.table() if place not in missing)
    if total >= LONG:
        dear = ", ".join(
            f"{study.methods[place.method].name} × {study.metrics[place.metric].name} {span_of(seconds)}"
            for place, seconds, _ in rows[:3]
        )
        told(
            f"this will take about {span_of(total)} on this machine, most of it {dear}; --budget leaves out what "
            "costs most, --preset quick samples less, and `vexbench plan` tells all."
        )
    return found.worth()


def slower(study: Plan) -> str:
    """One line where bf16 takes more time than fp32 on this machine; else empty."""
    if study.config.precision == "fp32":
        return ""
    group = study.groups[0]
    images = _few(group)
    single = group.classifier.around(group.classifier.module)
    single.precision = "fp32"
    bf16, fp32 = (_quickest(partial(Probe(network, images).scores, [images])) for network in (group.classifier, single))
    if bf16 < fp32:
        return ""
    return (
        f"scores in bf16 take {bf16 / fp32:.1f} times as long as in fp32 on this machine: only a processor that "
        "calculates in bf16 gains by it; leave out --precision."
    )


def _few(group: Group) -> Images:
    return as_images(load_pixels(group, range(min(4, len(group.dataset)))), group)


def _quickest(ask: Callable[[], object]) -> float:
    """Seconds of a call; the first of a process may take many times what the next ones do."""
    taken = list[float]()
    for _ in range(3):
        start = perf_counter()
        ask()
        taken.append(perf_counter() - start)
    return min(taken)


def _bound(study: Plan) -> float:
    """More seconds than the study takes, by a guess at the passes of everything and the time of one."""
    total = 0.0
    for group in study.groups:
        images = _few(group)
        with torch.no_grad():
            each = _quickest(partial(group.classifier.logits, images)) / len(images)
        maps = sum(_guess(choice.params, _many(choice)) for choice in study.methods)
        asked = sum(
            _guess(choice.params, "stages" in choice.params)
            for choice in study.metrics
            if "explain" in METRICS[choice.name].needs
        )
        own = sum(_guess(choice.params, False) for choice in study.metrics)
        total += each * len(group.dataset) * (4 * maps * (1 + asked) + own * len(study.methods))
    return total


def _many(method: Choice) -> bool:
    """Whether it may take more passes than it tells: one per channel, say; noisy copies of the image are counted."""
    return METHODS[method.name].family == "perturbation" and ("_cam" in method.name or "noise" not in method.params)


def _guess(params: dict[str, Any], many: bool) -> int:
    """Passes that a choice may take: the product of what it counts, and of what it does not tell."""
    product = 1
    for name in ("masks", "samples", "steps", "stages", "sizes"):
        product *= max(1, params[name]) if type(params.get(name)) is int else 1
    return product * (64 if many and product < 64 else 8 if product == 1 else 1)


def _missing(study: Plan, forgotten: Collection[Path] = ()) -> Iterator[Place]:
    """Results that are not there, nor known not to be; some notes of failures do not count."""
    for number, group in enumerate(study.groups):
        for i, method in enumerate(study.methods):
            place = study.store.method(home_of(study, group), method)
            for j, metric in enumerate(study.metrics):
                path = study.store.metric(place, metric)
                settled = path, path.with_suffix(".failed.json"), place / "failed.json"
                if not any(p.exists() and p not in forgotten for p in settled):
                    yield Place(number, i, j)


def _forget(notes: Iterable[Path]) -> None:
    for path in notes:
        path.unlink()


def named(found: Estimate, dropped: list[Place]) -> list[str]:
    """What was left out: methods as a whole, and metrics of some."""
    study, whole = found.study, found.whole(dropped)
    rest = Counter(study.metrics[p.metric].name for p in dropped if (p.group, p.method) not in whole)
    methods = dict.fromkeys(study.methods[method].name for _, method in sorted(whole))
    return [*methods, *(f"{name} ({count} method{'s' * (count > 1)})" for name, count in rest.items())]


def _note(found: Estimate, dropped: list[Place], mark: str) -> None:
    study, whole, paths = found.study, found.whole(dropped), set[Path]()
    for number, method, metric in dropped:
        place = study.store.method(home_of(study, study.groups[number]), study.methods[method])
        path = study.store.metric(place, study.metrics[metric]).with_suffix(".failed.json")
        paths.add(place / "failed.json" if (number, method) in whole else path)
    note = {"reason": f"over budget ({study.config.budget})", "error": OVER_BUDGET, "study": [mark, len(paths)]}
    for path in paths:
        files.write_json(path, note)


def _mark(study: Plan) -> str:
    """Changes with the budget, and with what the study asks for."""
    groups = [(group.dataset.name, group.dataset.revision, group.digest) for group in study.groups]
    asked = [choice.digest for choices in (study.methods, study.metrics) for choice in choices]
    return blake2b(repr((study.config.budget, groups, asked)).encode(), digest_size=8).hexdigest()

"""``vexbench plan``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vexbench.cli import asked

if TYPE_CHECKING:
    from vexbench.bench.estimate import Estimate

TOP = 8
"""Cells, methods and metrics that are told of: those that cost most."""


def plan(
    study: asked.File = None,
    out: asked.Out = None,
    data: asked.Data = None,
    root: asked.Root = None,
    per_class: asked.PerClass = None,
    variant: asked.Variant = None,
    model: asked.Models = None,
    methods: asked.Methods = None,
    metrics: asked.Metrics = None,
    preset: asked.Preset = None,
    budget: asked.Budget = None,
    seed: asked.Seed = None,
    device: asked.Device = None,
    batch_size: asked.BatchSize = None,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a study will cost on this machine, and what dominates; nothing is written.

    [bold]Examples[/bold]

      vexbench plan study.toml

      vexbench plan study.toml --preset quick --budget 2h

      vexbench plan --data intel --root intel --model runs/plain --json
    """
    from json import dumps

    from vexbench.bench.estimate import estimate
    from vexbench.bench.plan import plan as planned

    config = asked.configured(
        study,
        data=data,
        root=root,
        per_class=per_class,
        variant=variant,
        model=model,
        methods=methods,
        metrics=metrics,
        preset=preset,
        budget=budget,
        seed=seed,
        device=device,
        batch_size=batch_size,
        out=out,
    )
    found = estimate(planned(config))
    told = _plain(found)
    if json:
        typer.echo(dumps(told, indent=2))
    else:
        _print(told)


def _plain(found: "Estimate") -> dict[str, Any]:
    """The estimate in numbers and names."""
    from collections import defaultdict

    from vexbench.bench.presets import seconds_of

    study = found.study
    cells = list[dict[str, Any]]()
    by_method, by_metric = (defaultdict[str, float](float) for _ in range(2))
    names = [_names(choices) for choices in (study.methods, study.metrics)]
    for place, seconds, passes in found.table():
        bill = found.bills[place.group]
        method, metric = names[0][place.method], names[1][place.metric]
        reason = bill.methods[place.method].reason or bill.metrics[place.metric].reason
        cell: dict[str, Any] = {
            "dataset": bill.group.dataset.name,
            "model": bill.group.classifier.name,
            "method": method,
            "metric": metric,
            "passes": round(passes, 2),
            "seconds": round(seconds, 3),
        }
        cells.append(cell | ({"reason": reason} if reason else {}))
        by_method[method] += seconds
        by_metric[metric] += seconds
    maps = list[dict[str, Any]]()
    for bill in found.bills:
        for number, price in enumerate(bill.methods):
            seconds = 0.0 if price.reason else bill.maps(number)
            by_method[names[0][number]] += seconds
            again = price.again
            entry = {"method": names[0][number], "passes": round(again.forward + again.backward, 2)}
            maps.append({**entry, "partial": round(again.partial, 2), "seconds": round(seconds, 3)})
    total = found.seconds()
    answer: dict[str, Any] = {
        "title": study.config.title,
        "images": sum(len(bill.group.dataset) for bill in found.bills),
        "seconds": round(total, 1),
        "measured_in": round(found.measured, 1),
        "methods": _sorted(by_method),
        "metrics": _sorted(by_metric),
        "maps": maps,
        "cells": cells,
    }
    if study.config.budget:
        limit = seconds_of(study.config.budget)
        dropped = found.fitted(limit)
        answer["budget"] = {
            "seconds": limit,
            "left": round(found.seconds(dropped), 1),
            "over_budget": [[names[0][place.method], names[1][place.metric]] for place in dropped],
        }
    return answer


def _sorted(seconds: dict[str, float]) -> dict[str, float]:
    """The dearest first."""
    return {name: round(seconds[name], 2) for name in sorted(seconds, key=lambda name: -seconds[name])}


def _names(choices: Any) -> list[str]:
    """Ids, with parameters where one id is there more than once."""
    ids = [choice.name for choice in choices]
    return [f"{choice.name}({choice.label})" if ids.count(choice.name) > 1 else choice.name for choice in choices]


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from vexbench.bench.presets import span_of

    console = Console(highlight=False, markup=False, emoji=False)
    console = console if console.is_terminal else Console(width=100, highlight=False, markup=False, emoji=False)
    total = told["seconds"] or 1.0
    console.print(
        f"{told['title']}\n{told['images']} images: about {span_of(told['seconds'])} on this machine "
        f"(measured in {span_of(told['measured_in'])})",
    )

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 1))
        for number, column in enumerate(columns):
            made.add_column(column, justify="right" if column in ("passes", "time", "share") else "left")
            made.columns[number].no_wrap = True
        return made

    for what in ("methods", "metrics"):
        shown = table(f"\nDearest {what}", what[:-1], "time", "share")
        for name, seconds in list(told[what].items())[:TOP]:
            shown.add_row(name, span_of(seconds), f"{seconds / total:.0%}")
        console.print(shown)
    shown = table("\nMaps", "method", "passes", "time")
    for entry in told["maps"]:
        shown.add_row(entry["method"], f"{entry['passes']:.0f}", span_of(entry["seconds"]))
    console.print(shown)
    shown = table("\nResults, passes per image", "method", "metric", "passes", "time", "share")
    for cell in sorted(told["cells"], key=lambda cell: -cell["seconds"]):
        if "reason" not in cell:
            row = (f"{cell['passes']:.0f}", span_of(cell["seconds"]), f"{cell['seconds'] / total:.0%}")
            shown.add_row(cell["method"], cell["metric"], *row)
    console.print(shown)
    reasons = {cell["reason"] for cell in told["cells"] if "reason" in cell}
    for reason in sorted(reasons):
        count = sum(cell.get("reason") == reason for cell in told["cells"])
        console.print(f"not computed ({count}): {reason}")
    if budget := told.get("budget"):
        console.print(f"\nover budget, with about {span_of(budget['left'])} left:")
        for method, metric in budget["over_budget"]:
            console.print(f"  {method}, {metric}")

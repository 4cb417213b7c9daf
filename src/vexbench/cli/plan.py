"""``vexbench plan``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vexbench.cli import asked

if TYPE_CHECKING:
    from vexbench.bench.estimate import Estimate
    from vexbench.registry import Choice

TOP = 8
"""Methods and metrics that are told of: those that cost most."""
CELLS = 12
"""The same of results."""


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
    reference: asked.Reference = False,
    precision: asked.Precision = None,
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
        reference=reference or None,
        precision=precision,
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

    from vexbench.bench.budget import named
    from vexbench.bench.presets import seconds_of

    study, cells, maps = found.study, list[dict[str, Any]](), list[dict[str, Any]]()
    by_method, by_metric = (defaultdict[str, float](float) for _ in range(2))
    methods, metrics = (_names(choices) for choices in (study.methods, study.metrics))
    for bill in found.bills:
        where = {"dataset": bill.group.dataset.name, "model": bill.group.classifier.name}
        for name, (number, price) in zip(methods, enumerate(bill.methods), strict=True):
            seconds = 0.0 if price.reason else bill.maps(number)
            passes = {"passes": round(price.again.forward + price.again.backward, 2), "partial": price.again.partial}
            maps.append({**where, "method": name, **passes, "seconds": round(seconds, 3)})
            by_method[name] += seconds
        for number, seconds in bill.once(range(len(metrics))):
            by_metric[metrics[number]] += seconds
        for place, seconds, passes in found.table(bill):
            method, metric = methods[place.method], metrics[place.metric]
            by_method[method] += seconds
            by_metric[metric] += seconds
            cell = {
                **where,
                "method": method,
                "metric": metric,
                "passes": round(passes, 2),
                "seconds": round(seconds, 3),
            }
            reason = bill.methods[place.method].reason or bill.metrics[place.metric].reason
            cells.append(cell | ({"reason": reason} if reason else {}))
    answer: dict[str, Any] = {
        "title": study.config.title,
        "images": sum(len(bill.group.dataset) for bill in found.bills),
        "seconds": round(found.seconds(), 1),
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
            "named": named(found, dropped),
            "over_budget": [[methods[place.method], metrics[place.metric]] for place in dropped],
        }
    return answer


def _sorted(seconds: dict[str, float]) -> dict[str, float]:
    """The dearest first."""
    return {name: round(seconds[name], 2) for name in sorted(seconds, key=lambda name: -seconds[name])}


def _names(choices: "tuple[Choice, ...]") -> list[str]:
    """Ids, with parameters where one id is there more than once."""
    ids = [choice.name for choice in choices]
    return [f"{choice.name}({choice.label})" if ids.count(choice.name) > 1 else choice.name for choice in choices]


def _print(told: dict[str, Any]) -> None:
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    from vexbench.bench.presets import span_of

    console = Console(highlight=False, markup=False, emoji=False)
    console = console if console.is_terminal else Console(width=100, highlight=False, markup=False, emoji=False)
    total, maps = told["seconds"] or 1.0, {entry["method"]: entry for entry in told["maps"]}
    console.print(
        f"{told['title']}\n{told['images']} images: about {span_of(told['seconds'])} on this machine "
        f"(measured in {span_of(told['measured_in'])})",
    )

    def show(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
        for column in columns:
            left = column in ("method", "metric")
            made.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
        for row in rows:
            made.add_row(*row)
        console.print(f"\n{title}")
        console.print(made)

    def price(seconds: float) -> tuple[str, str]:
        return span_of(seconds), f"{seconds / total:.0%}"

    show(
        "Dearest methods: passes and time of the maps, and time with all results",
        ("method", "passes", "maps", "time", "share"),
        [
            (name, f"{maps[name]['passes']:.0f}", span_of(maps[name]["seconds"]), *price(seconds))
            for name, seconds in list(told["methods"].items())[:TOP]
        ],
    )
    rows = [(name, *price(seconds)) for name, seconds in list(told["metrics"].items())[:TOP]]
    show("Dearest metrics", ("metric", "time", "share"), rows)
    cells = sorted((cell for cell in told["cells"] if "reason" not in cell), key=lambda cell: -cell["seconds"])
    show(
        "Dearest results: passes per image, and time",
        ("method", "metric", "passes", "time", "share"),
        [(cell["method"], cell["metric"], f"{cell['passes']:.0f}", *price(cell["seconds"])) for cell in cells[:CELLS]],
    )
    if rest := cells[CELLS:]:
        seconds = sum(cell["seconds"] for cell in rest)
        console.print(f"and {len(rest)} others, {span_of(seconds)} ({seconds / total:.0%}); --json tells all")
    for reason, count in Counter(cell["reason"] for cell in told["cells"] if "reason" in cell).items():
        console.print(f"not computed ({count}): {reason}", style="dim")
    if budget := told.get("budget"):
        over = len(budget["over_budget"])
        fits = (
            "within the budget" if over < len(cells) and budget["left"] <= budget["seconds"] else "more than the budget"
        )
        console.print(f"\n{fits}: about {span_of(budget['left'])}, without {over} results over budget")
        console.print(", ".join(budget["named"]))

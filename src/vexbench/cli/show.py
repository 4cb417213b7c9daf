"""``vexbench show``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from vexbench.stats.summary import Summary

COLUMNS, METRICS = 100, 6
"""The width of a table when it is not written to a terminal, and the metrics side by side in it."""


def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print who ranks where, and the mean scores.

    [bold]Examples[/bold]

      vexbench show demo

      vexbench show demo --json
    """
    from json import dumps

    from rich.console import Console

    from vexbench.report.answer import headline, support
    from vexbench.report.words import plural
    from vexbench.results.frame import load
    from vexbench.stats.summary import summarise

    study = load(directory)
    summaries = [summarise(group) for group in study.groups]
    if json:
        typer.echo(dumps({"title": study.title, "groups": [_plain(summary) for summary in summaries]}, indent=2))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console = console if console.is_terminal else Console(width=COLUMNS, highlight=False, markup=False, emoji=False)
    for summary in summaries:
        console.print(f"\n{summary.group.title}, {plural(summary.result.total, 'image')}", style="bold")
        console.print(headline(summary))
        for line in support(summary):
            console.print(f"- {line}")
        for table in _tables(summary):
            console.print()
            console.print(table)
        console.print("\n* best   ° control: knows nothing of the network", style="dim")
        for failure in summary.group.failures:
            console.print(
                f"{'left out' if failure.over_budget else 'not computed'}: {failure.method}"
                f"{f', {failure.metric}' if failure.metric else ''}: {failure.reason}"
            )
    if study.pending:
        console.print(f"\nunfinished: {len(study.pending)} results missing; run the study again.")


def _tables(summary: "Summary") -> "Iterator[Table]":
    from vexbench.report.palette import axis_title
    from vexbench.report.tables import rows
    from vexbench.report.words import number, share, span

    ranks, order = summary.overall, summary.order
    if ranks is not None:
        axes = [short if len(short := axis_title(axis)) < 8 else f"{short[:6]}." for axis in summary.by_axis]
        table = _table("method", "rank", "95 %", "first in", *axes)
        for i in order:
            low, high = ranks.intervals[i]
            of_axes = [f"{of_axis.mean[i]:.1f}" for of_axis in summary.by_axis.values()]
            first = share(float(ranks.first[i]))
            table.add_row(_name(summary, i), number(float(ranks.mean[i])), span(low, high), first, *of_axes)
        yield table
    listed = rows(summary)
    for start in range(0, len(summary.metrics), METRICS):
        places = range(start, min(start + METRICS, len(summary.metrics)))
        table = _table("method", *(f"{summary.metrics[j].name} {summary.metrics[j].arrow}" for j in places))
        for i, row in zip(order, listed):
            cells = [row.cells[j] for j in places]
            table.add_row(_name(summary, i), *(f"{cell.text}{'*' if cell.mark == 'best' else ' '}" for cell in cells))
        yield table


def _table(first: str, *others: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    table.add_column(first, overflow="ellipsis", no_wrap=True, max_width=26)
    for name in others:
        table.add_column(name, justify="right", min_width=5)
    return table


def _name(summary: "Summary", i: int) -> str:
    method = summary.methods[i]
    return f"{method.name} °" if method.control else method.name


def _plain(summary: "Summary") -> dict[str, Any]:
    from vexbench.report.tables import ranking_frame, scores_frame

    return {
        "dataset": summary.group.dataset_name,
        "model": summary.group.model_name,
        "images": summary.result.total,
        "ranking": ranking_frame(summary).to_dicts(),
        "scores": scores_frame(summary).to_dicts(),
        "failures": [vars(failure) for failure in summary.group.failures],
        "pending": list(summary.group.pending),
    }

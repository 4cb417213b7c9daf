"""``vexbench list``."""

from enum import StrEnum
from math import isfinite
from typing import Annotated, Any

import typer


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    metrics = "metrics"
    datasets = "datasets"
    models = "models"


def list_entries(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the methods, metrics, datasets or models there are.

    [bold]Examples[/bold]

      vexbench list methods

      vexbench list metrics --json
    """
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    rows = _models() if kind is Kind.models else [_entry(entry) for entry in _registered(kind).values()]
    if json:
        typer.echo(dumps(rows, indent=2, ensure_ascii=False))
        return
    columns = {
        Kind.methods: ("id", "family", "title", "paper"),
        Kind.metrics: ("id", "family", "better", "title", "needs"),
        Kind.datasets: ("id", "family", "title", "parameters"),
        Kind.models: ("id", "source", "title"),
    }[kind]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column("axis" if kind is Kind.metrics and column == "family" else column, overflow="fold")
    for row in rows:
        cells = {**row, "better": {"higher": "↑", "lower": "↓"}.get(row.get("direction", ""), "")}
        table.add_row(
            *(
                ", ".join(map(str, cells[name])) if isinstance(cells[name], list | dict) else str(cells[name])
                for name in columns
            )
        )
    Console(width=None if Console().is_terminal else 100).print(table)


def _registered(kind: Kind) -> dict[str, Any]:
    import vexbench as vb

    return {Kind.methods: vb.methods, Kind.metrics: vb.metrics, Kind.datasets: vb.datasets}[kind]()


def _entry(entry: Any) -> dict[str, Any]:
    names = (
        "id",
        "title",
        "family",
        "paper",
        "version",
        "signed",
        "direction",
        "range",
        "needs",
        "parameters",
        "summary",
    )
    return {name: _plain(getattr(entry, name)) for name in names}


def _plain(value: Any) -> Any:
    """JSON has neither tuples nor a number that is infinite: null is no bound."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _models() -> list[dict[str, Any]]:
    from vexbench.models.zoo import TITLES, architectures

    return [
        {"id": name, "source": source, "title": TITLES.get(name, "")}
        for source, names in architectures().items()
        for name in names
    ] + [{"id": "any timm name", "source": "timm", "title": "timm/NAME where torchvision has the name, too"}]

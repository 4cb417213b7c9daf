"""``vexbench report``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The page; DIR/report.html by default.", show_default=False)] = None,
    files: Annotated[bool, typer.Option("--files", help="Charts as PNG and SVG, tables as CSV, in DIR too.")] = False,
) -> None:
    """Render a study, finished or not, as one page that opens from disk.

    [bold]Examples[/bold]

      vexbench report demo

      vexbench report study --out page.html --files
    """
    from vexbench.report import report as render
    from vexbench.report import write_files

    page = render(directory, out)
    if files:
        written = write_files(directory)
        typer.echo(f"{len(written)} files in {directory / 'figures'} and {directory / 'tables'}", err=True)
    typer.echo(page)

"""The command line: one thin module per command over the public interface."""

import errno
import os
import sys
from typing import Annotated

import typer

from vexbench.cli.data import data
from vexbench.cli.explain import explain
from vexbench.cli.list import list_entries
from vexbench.cli.plan import plan
from vexbench.cli.report import report
from vexbench.cli.run import run
from vexbench.cli.show import show
from vexbench.cli.synthesise import synthesise
from vexbench.cli.train import train
from vexbench.errors import VexbenchError

INTERRUPTED = 130
"""The exit code that typer gives when Ctrl-C was pressed."""

app = typer.Typer(
    help="Which visual explanation of a convolutional network can be trusted? Measure it.",
    epilog="Start with: vexbench run  (drawn scenes, a small network that ships with the package, a report)",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for command in (run, plan, report, show, explain, synthesise, train, data):
    app.command()(command)
app.command("list")(list_entries)


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("vexbench"))
        raise typer.Exit
    return wanted


@app.callback()
def _vexbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _told(error: OSError) -> str:
    """What the system says, of which file, and how to go on when the disk is full."""
    told = ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{told}; make room and run the same command again: a study goes on where it was." if full else told


def main() -> None:
    """Run the command line: 0 is success, 1 a mistake that a message explains, 2 wrong usage, 130 an interruption."""
    # threads that wait without spinning cost nothing on an idle machine, and save a multiple on a busy one
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except (VexbenchError, OSError) as error:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        typer.echo(_told(error) if isinstance(error, OSError) else str(error), err=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            typer.echo("interrupted", err=True)
        raise

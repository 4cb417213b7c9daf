"""``vexbench run``."""

from pathlib import Path
from typing import Annotated

import typer

from vexbench.errors import VexbenchError

QUIET = 15.0
"""Seconds between two lines of progress where there is no terminal."""
RACE = 0.95
"""The confidence of --race; a study file may ask for another."""


def run(
    study: Annotated[
        Path | None, typer.Argument(help="A study file (TOML); without one, the embedded default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; a run that was killed goes on there.",
            show_default="what the study file says, or vexbench-study",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Dataset: scenes, intel, folder or annotated.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the dataset lies.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Images per class.", min=1)] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the drawn scenes: plain, shortcut or decoy.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A checkpoint, or an embedded network: 'demo', 'shortcut'; may be repeated.", metavar="PATH"),
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Ids, joined by commas; all by default.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Ids, joined by commas; all by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps, …")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per pass through the network.", min=1)] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Run the network as it was written, without any faster way.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="Of scores: fp32, or bf16 for half the time and 3 digits.", metavar="fp32|bf16")
    ] = None,
    race: Annotated[
        bool, typer.Option("--race", help="Stop a method on a metric once its place is settled, at 95 % confidence.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Render the report at the end.")] = True,
) -> None:
    """Explain, score and report: every dataset × model × method × metric of a study.

    Kill it at any point and run it again: it goes on where it was, to the same result.

    [bold]Examples[/bold]

      vexbench run --out demo

      vexbench run study.toml --out study

      vexbench run --data intel --root intel --per-class 16 --model runs/plain --methods grad_cam,occlusion,random
    """
    from collections import Counter
    from importlib.resources import as_file, files
    from time import monotonic

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    import vexbench as vb
    from vexbench.bench.seal import is_sealed, seal

    settings = {
        "models": tuple(model) if model else None,
        "methods": tuple(name.strip() for name in methods.split(",")) if methods else None,
        "metrics": tuple(name.strip() for name in metrics.split(",")) if metrics else None,
        "seed": seed,
        "device": device,
        "batch_size": batch_size,
        "reference": reference or None,
        "precision": precision,
        "race": RACE if race else None,
        "out": out,
    }
    dataset = {"root": None if root is None else str(root), "per_class": per_class, "variant": variant}
    given = {key: value for key, value in dataset.items() if value is not None}
    if data is not None:
        settings["datasets"] = ({"name": data, **given},)
    elif given:
        raise VexbenchError("--root, --per-class and --variant belong to a dataset; name it with --data.")
    chosen = {key: value for key, value in settings.items() if value is not None}
    if study is None and not (data or model):
        with as_file(files("vexbench.bench") / "demo.toml") as embedded:
            config = vb.StudyConfig.read(embedded, **chosen)
    else:
        config = vb.StudyConfig(**chosen) if study is None else vb.StudyConfig.read(study, **chosen)

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task, silent_since = bar.add_task("opening", total=None), monotonic()

        def progress(doing: str, done: int, total: int) -> None:
            bar.update(task, description=f"{doing:<42.42}", completed=done, total=total)
            # without a terminal the bar is not drawn before the end
            nonlocal silent_since
            if not console.is_terminal and (now := monotonic()) > silent_since + QUIET:
                silent_since, left = now, bar.tasks[0].time_remaining
                rest = f", about {left:.0f} s left" if left else ""
                console.print(f"{done}/{total}{rest}: {doing}", highlight=False, markup=False, soft_wrap=True)

        if is_sealed(config):
            bar.update(task, description="finished before; nothing to do", completed=1, total=1)
            result = vb.Result(config.out)
        else:
            try:
                result = vb.run(config, progress=progress)
            except KeyboardInterrupt:
                console.print("what was finished is kept: the same command goes on from there.")
                raise
            seal(config)
    for reason, cells in result.failures().items():
        by_metric = Counter(metric for cell in cells if (metric := cell.partition(" ")[2]))
        told = [cell for cell in cells if " " not in cell] + [
            f"{metric} ({count} method{'s' * (count > 1)})" for metric, count in by_metric.items()
        ]
        console.print(f"not computed: {', '.join(told)}\n  {reason}", highlight=False, markup=False)
    if report:
        typer.echo(result.report())
    else:
        typer.echo(result.out)

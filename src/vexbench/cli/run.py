"""``vexbench run``."""

from typing import Annotated

import typer

from vexbench.cli import asked

QUIET = 15.0
"""Seconds between two lines of progress where there is no terminal."""
PACE = 1800.0
"""Seconds over which the pace is measured that tells the time left: results cost from milliseconds to minutes."""
RACE = 0.95
"""The confidence of --race; a study file may ask for another."""


def run(
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
    from time import monotonic

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    import vexbench as vb
    from vexbench.bench.presets import span_of
    from vexbench.bench.seal import is_sealed, seal

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
        race=RACE if race else None,
        out=out,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[parts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=PACE,
    )
    with bar:
        task, silent_since = bar.add_task("opening", total=None, parts=""), monotonic()

        def progress(doing: str, done: int, total: int, share: float) -> None:
            bar.update(task, description=f"{doing:<42.42}", completed=share, total=1.0, parts=f"{done}/{total}")
            # without a terminal the bar is not drawn before the end
            nonlocal silent_since
            if not console.is_terminal and (now := monotonic()) > silent_since + QUIET:
                silent_since, left = now, bar.tasks[0].time_remaining
                rest = f", about {span_of(left)} left" if left else ""
                console.print(f"{done}/{total}{rest}: {doing}", highlight=False, markup=False, soft_wrap=True)

        def told(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        if is_sealed(config):
            bar.update(task, description="finished before; nothing to do", completed=1.0, total=1.0)
            result = vb.Result(config.out)
        else:
            try:
                result = vb.run(config, progress=progress, told=told)
            except KeyboardInterrupt:
                console.print("what was finished is kept: the same command goes on from there.")
                raise
            seal(config)
    for reason, cells in result.failures().items():
        by_metric = Counter(metric for cell in cells if (metric := cell.partition(" ")[2]))
        listed = [cell for cell in cells if " " not in cell] + [
            f"{metric} ({count} method{'s' * (count > 1)})" for metric, count in by_metric.items()
        ]
        kind = "left out" if reason.startswith("over budget") else "not computed"
        console.print(f"{kind}: {', '.join(listed)}\n  {reason}", highlight=False, markup=False)
    if report:
        typer.echo(result.report())
    else:
        typer.echo(result.out)

"""``vexbench synthesise``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vexbench.errors import VexbenchError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

COLUMNS, INCHES = 6, 1.6
"""Images side by side, and how wide each is drawn."""


def synthesise(
    model: Annotated[
        str, typer.Option(help="A checkpoint that `vexbench train` wrote, 'demo' or 'shortcut'.")
    ] = "demo",
    method: Annotated[
        str, typer.Option(help="deep_dream, class_visualisation or feature_visualisation.")
    ] = "feature_visualisation",
    out: Annotated[Path, typer.Option(help="The contact sheet: .png, .svg or .pdf.")] = Path("sheet.png"),
    targets: Annotated[str | None, typer.Option(help="Classes, joined by commas; all by default.")] = None,
    judge: Annotated[str | None, typer.Option(help="Another checkpoint, asked what it makes of the images.")] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels; the network's own by default.", min=8)] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Show what a network looks for: an image per class, made by following the network's gradients.

    Under each image stands the probability that the network, and the judge, give the class.

    [bold]Examples[/bold]

      vexbench synthesise --model runs/plain --method feature_visualisation --out sheet.png

      vexbench synthesise --model runs/plain --method deep_dream --targets sea,street --judge runs/attention
    """
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise VexbenchError(f"--out must end in .png, .svg or .pdf, not '{out.name}'.")
    if out.is_dir():
        raise VexbenchError(f"--out {out}: is a folder; give a file in it.")
    if not out.absolute().parent.is_dir():
        raise VexbenchError(f"--out {out}: there is no folder {out.absolute().parent}; make it first.")

    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    import vexbench as vb
    from vexbench.errors import unknown
    from vexbench.inputs import usable_device
    from vexbench.models import EMBEDDED
    from vexbench.report.svg import drawing

    known = {name: entry for name, entry in vb.methods().items() if entry.family == "synthesis"}
    if method not in known:
        raise unknown("synthesis", method, known)
    where = usable_device(device)
    networks = [
        vb.demo_classifier(path) if path in EMBEDDED else vb.load_classifier(path)
        for path in (model, judge)
        if path is not None
    ]
    for network in networks:
        network.module.to(where)
    classes, *others = [network.class_names or () for network in networks]
    names = list(classes) if targets is None else [name.strip() for name in targets.split(",")]
    if alien := [name for name in names if name not in classes]:
        raise unknown("class", alien[0], classes)
    if others and (strange := [name for name in names if name not in others[0]]):
        raise VexbenchError(f"the judge {judge} knows no class '{strange[0]}'; its classes: {', '.join(others[0])}.")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(known[method].title, total=1.0)
        images = vb.synthesise(
            networks[0],
            [classes.index(name) for name in names],
            method,
            size=size,
            seed=seed,
            progress=lambda share: bar.update(task, completed=share),
        )
    captions = list(names)
    for title, network in zip(("", "judge "), networks):
        with torch.no_grad():
            sure = torch.cat([network.logits(part).softmax(1) for part in images.split(32)])
        shares = [float(row[(network.class_names or ()).index(name)]) for row, name in zip(sure, names)]
        captions = [f"{told}{chr(10) if title else ' '}{title}{share:.0%}" for told, share in zip(captions, shares)]
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    with drawing():
        figure = sheet(pixels, captions, known[method].title, f"by {networks[0].name}")
        figure.savefig(out, dpi=200, facecolor="white")
    typer.echo(out)


def sheet(images: "np.ndarray", captions: list[str], title: str, source: str) -> "Figure":
    """Images (N, H, W, 3) in rows, each with its caption below, under a title and a line on where they are from."""
    from matplotlib.figure import Figure

    across = min(COLUMNS, len(images))
    down = -(-len(images) // across)
    lines = 1 + max(caption.count("\n") for caption in captions)
    tall = INCHES * images.shape[1] / images.shape[2] + 0.06 + 0.15 * lines
    width, height = across * (INCHES + 0.08) + 0.08, down * tall + 0.5
    figure = Figure((width, height))
    figure.text(0.08 / width, 1 - 0.1 / height, title, va="top", fontsize=8, fontweight="bold")
    figure.text(0.08 / width, 1 - 0.26 / height, source, va="top", fontsize=6.5)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, across)
        left, top = 0.08 + column * (INCHES + 0.08), height - 0.44 - row * tall
        side = INCHES * images.shape[1] / images.shape[2]
        axes = figure.add_axes((left / width, (top - side) / height, INCHES / width, side / height))
        axes.imshow(image, interpolation="bicubic")
        axes.set_axis_off()
        figure.text(left / width, (top - side - 0.05) / height, caption, va="top", fontsize=6.5)
    return figure

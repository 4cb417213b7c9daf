"""``vexbench explain``."""

from pathlib import Path
from typing import Annotated

import typer

from vexbench.errors import VexbenchError


def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A checkpoint that `vexbench train` wrote, 'demo' or 'shortcut'.")
    ] = "demo",
    methods: Annotated[str, typer.Option(help="Ids, joined by commas.")] = "grad_cam,integrated_gradients,occlusion",
    out: Annotated[Path, typer.Option(help="The panel: .png, .svg or .pdf.")] = Path("panel.png"),
    target: Annotated[str | None, typer.Option(help="Class to explain; the predicted one by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of methods that draw noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Show why a network decides as it does: images, predictions, and a heatmap per method.

    The true label is known where an image lies in a folder named after a class.

    Images are squashed to the square that the network takes.

    [bold]Examples[/bold]

      vexbench explain photo.jpg --model runs/plain --methods grad_cam,occlusion --out panel.png

      vexbench explain intel/seg_test/seg_test/sea/*.jpg --model runs/plain --target glacier
    """
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise VexbenchError(f"--out must end in .png, .svg or .pdf, not '{out.name}'.")
    if out.is_dir():
        raise VexbenchError(f"--out {out}: is a folder; give a file in it.")
    if not out.absolute().parent.is_dir():
        raise VexbenchError(f"--out {out}: there is no folder {out.absolute().parent}; make it first.")

    import numpy as np
    import torch
    from rich.console import Console
    from rich.progress import track

    import vexbench as vb
    from vexbench.errors import unknown
    from vexbench.imaging import decode
    from vexbench.inputs import usable_device
    from vexbench.models import EMBEDDED
    from vexbench.report.gallery import tiles
    from vexbench.report.svg import drawing

    names = tuple(dict.fromkeys(name.strip() for name in methods.split(",")))
    registered = vb.methods()
    if alien := [name for name in names if name not in registered]:
        raise unknown("method", alien[0], registered)
    where = usable_device(device)
    classifier = vb.demo_classifier(model) if model in EMBEDDED else vb.load_classifier(model)
    classifier.module.to(where)
    classes = classifier.class_names or ()
    if target is not None and target not in classes:
        raise unknown("class", target, classes)
    pixels = np.stack([decode(path, classifier.input_size) for path in images])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(where) / 255
    with torch.no_grad():
        sure, predicted = classifier.logits(batch).softmax(1).max(1)
    targets = predicted.tolist() if target is None else [classes.index(target)] * len(images)
    maps, refused = dict[str, torch.Tensor](), dict[str, vb.NotApplicable]()
    status = Console(stderr=True)
    for name in track(names, "explaining", console=status, transient=True, disable=not status.is_terminal):
        try:
            maps[name] = vb.explain(classifier, batch, targets, name, seed=seed)
        except vb.NotApplicable as refusal:
            refused[name] = refusal
    if not maps:
        raise next(iter(refused.values()))
    for name, refusal in refused.items():
        typer.echo(f"without {name}: {refusal}", err=True)
    captions = []
    for path, probability, index in zip(images, sure.tolist(), predicted.tolist(), strict=True):
        label = path.absolute().parent.name
        # a name that is not UTF-8 cannot be drawn
        file = path.name.encode(errors="replace").decode()
        known = f"true: {label} {'✓' if classes[index] == label else '✗'}" if label in classes else file
        captions.append(f"{classes[index]} {probability:.0%}\n{known}")
    with drawing():
        figure = tiles(
            pixels,
            captions,
            [(registered[name].title, registered[name].signed) for name in maps],
            [found.cpu().numpy() for found in maps.values()],
        )
        if target is not None:
            figure.suptitle(f"why {target}?", fontsize=8)
        figure.savefig(out, dpi=200, facecolor="white")
    typer.echo(out)

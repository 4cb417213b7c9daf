"""``vexbench data``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vexbench.errors import VexbenchError

if TYPE_CHECKING:
    from vexbench.datasets.integrity import Report

PALETTE = ("000000", "d55e00", "009e73", "56b4e9", "999999", "0072b2", "e69f00", "cc79a7")
"""Colours of a written mask: nobody, the six classes, the mark."""


class Source(StrEnum):
    """What can be looked at."""

    intel = "intel"
    folder = "folder"
    annotated = "annotated"
    scenes = "scenes"


def data(
    name: Annotated[Source, typer.Argument(help="Dataset.", show_default=False)],
    root: Annotated[Path | None, typer.Option(help="Where the photographs lie.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download the Intel set from Kaggle first.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    annotations: Annotated[
        str,
        typer.Option(help="annotated: the file or folder of boxes or masks.", show_default="looked for below --root"),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="scenes: a new folder for the drawings.")] = None,
    split: Annotated[str, typer.Option(help="scenes: train, validation or test.")] = "test",
    per_class: Annotated[int, typer.Option(help="scenes: drawings per class.", min=1)] = 4,
    size: Annotated[int, typer.Option(help="scenes: side in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="scenes: seed.")] = 0,
    variant: Annotated[str, typer.Option(help="scenes: plain, shortcut or decoy.")] = "plain",
) -> None:
    """Look at data: an integrity report of photographs, or drawn scenes with their masks as files.

    The report counts images per class and split, odd sizes, corrupt files and duplicates across splits and labels, and
    of annotated images the boxes or masks, all of which are checked.

    [bold]Examples[/bold]

      vexbench data intel --fetch

      vexbench data intel --root PATH

      vexbench data folder --root PATH --json

      vexbench data annotated --root PATH --annotations PATH/instances.json

      vexbench data scenes --per-class 4 --out drawings
    """
    if annotations and name is not Source.annotated:
        raise VexbenchError(f"--annotations belongs to annotated; {name.value} has none.")
    if name is Source.scenes:
        if root or fetch or json or out is None:
            raise VexbenchError(
                "scenes are drawn into a folder: vexbench data scenes --out DIR (no --root, --fetch, --json)."
            )
        _draw(out, split, per_class, size, seed, variant)
        return
    if out is not None:
        raise VexbenchError(f"--out belongs to scenes; {name.value} is only looked at.")
    _inspect(name, root, fetch, json, annotations)


def _inspect(name: Source, root: Path | None, fetch: bool, json: bool, annotations: str) -> None:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.progress import track

    from vexbench.datasets import annotated, folders, intel
    from vexbench.datasets.integrity import inspect

    if fetch and (name is not Source.intel or root is not None):
        raise VexbenchError("--fetch downloads the Intel set to a place of its own; use: vexbench data intel --fetch")
    if fetch:
        root = intel.fetch()
    if root is None:
        raise VexbenchError(
            f"{name.value}: say where the photographs lie, --root PATH{' or --fetch' if name is Source.intel else ''}."
        )
    status = Console(stderr=True)

    def watched(paths: Sequence[Path]) -> Iterable[Path]:
        return track(paths, "looking at every file", console=status, transient=True, disable=not status.is_terminal)

    root = root.expanduser()
    found = annotated.find(root, annotations) if name is Source.annotated else None
    splits = found.splits if found else intel.find(root) if name is Source.intel else folders.survey(root)
    report = inspect(root, splits, watched)
    counts = found.counts if found else {}
    if json:
        _print_json(report, counts)
    else:
        _print_tables(report, counts)


def _print_json(report: "Report", counts: dict[str, int]) -> None:
    from dataclasses import asdict
    from json import dumps

    sizes = {
        split: {f"{width}x{height}": number for (width, height), number in odd.items()}
        for split, odd in report.odd_sizes.items()
    }
    content = {**asdict(report), "root": str(report.root), "odd_sizes": sizes}
    if counts:
        content["annotations"] = counts
    typer.echo(dumps(content, indent=2, ensure_ascii=False))


def _print_tables(report: "Report", counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 100)
    console.print(escape(str(report.root)), style="italic", soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("class", overflow="fold")
    for split in report.counts:
        table.add_column(escape(split), justify="right", overflow="fold")
    for group in dict.fromkeys(group for counts in report.counts.values() for group in counts):
        table.add_row(
            escape(group), *(f"{counts[group]:,}" if group in counts else "–" for counts in report.counts.values())
        )
    table.add_row("[bold]all[/bold]", *(f"[bold]{sum(counts.values()):,}[/bold]" for counts in report.counts.values()))
    console.print(table)

    width, height = report.usual_size
    odd = sum(number for sizes in report.odd_sizes.values() for number in sizes.values())
    per_split = ", ".join(f"{split} {sum(sizes.values())}" for split, sizes in report.odd_sizes.items() if sizes)
    findings = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    findings.add_column(overflow="fold")
    findings.add_column(justify="right")
    findings.add_column(overflow="fold")
    crossing = [" = ".join(group) for group in report.leaks]
    contrary = [" = ".join(group) for group in report.conflicts]
    for title, number, detail in (
        *((title, number, "") for title, number in counts.items()),
        (f"not {width}×{height} pixels", odd, per_split),
        ("corrupt files", len(report.corrupt), "\n".join(skip.id for skip in report.corrupt[:10])),
        ("groups of identical images", len(report.duplicates), ""),
        ("  in more than one split", len(crossing), "\n".join(crossing[:10])),
        ("  under different labels", len(contrary), "\n".join(contrary[:20])),
    ):
        findings.add_row(title, str(number), escape(detail))
    console.print()
    console.print(findings)


def _draw(out: Path, split: str, per_class: int, size: int, seed: int, variant: str) -> None:
    import numpy as np
    from PIL import Image
    from rich.console import Console
    from rich.progress import track

    from vexbench.datasets.scenes import scenes

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VexbenchError(f"{out}: not an empty folder; give a new one.")
    drawn, status = (
        scenes(split=split, per_class=per_class, size=size, seed=seed, variant=variant),
        Console(stderr=True),
    )
    for index in track(range(len(drawn)), "drawing", console=status, transient=True, disable=not status.is_terminal):
        owner = np.zeros((size, size), np.uint8)
        for target in range(len(drawn.class_names)):
            owner[drawn.region(index, target, size)] = target + 1
        if (cue := drawn.cue(index, size)) is not None:
            owner[cue] = len(drawn.class_names) + 1
        mask = Image.fromarray(owner).convert("P")
        mask.putpalette(bytes.fromhex("".join(PALETTE)))
        for folder, image in (("images", Image.fromarray(drawn.image(index))), ("masks", mask)):
            path = out / folder / f"{drawn.ids[index]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    typer.echo(
        f"{len(drawn)} drawings in {out / 'images'}; masks in {out / 'masks'}: 0 nobody, 1 to 6 the classes, 7 the mark"
    )

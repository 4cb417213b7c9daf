"""Learning curves as a table and as a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS: Final = {"train": "#0072B2", "validation": "#D55E00"}
LABELS: Final = {"train": "training", "validation": "validation"}


def write_curves(directory: Path, curves: Sequence[dict[str, float | int]], best_epoch: int) -> None:
    """Write ``curves.csv`` and ``curves.png``."""
    with (directory / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, curves[0])
        table.writeheader()
        table.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in curves)

    figure = Figure(figsize=(8, 3.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in curves]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        scale = 100 if name == "accuracy" else 1
        for side, colour in COLOURS.items():
            axes.plot(
                epochs, [scale * row[f"{side}_{name}"] for row in curves], "o-", ms=3, color=colour, label=LABELS[side]
            )
        axes.axvline(best_epoch, color="0.6", lw=0.8, ls=":", label=f"best epoch ({best_epoch})")
        axes.set_title("Loss (cross-entropy)" if name == "loss" else "Accuracy (%)", loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(directory / "curves.png")

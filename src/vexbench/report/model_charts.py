"""The charts of the data and of the network: what it learnt from, how, and how well."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vexbench.report.palette import FAMILIES, LIGHT
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, number, plural, share, short

WIDTH, HALF = 11.25, 5.4
MOST = 24
"""Classes in a chart; of more, those at either end are shown."""

TRAIN, TEST = FAMILIES["gradient"].light, FAMILIES["cam"].light
_SPLITS = (TRAIN, TEST, FAMILIES["perturbation"].light, FAMILIES["attention"].light)


def splits(counts: Mapping[str, Mapping[str, int]], class_names: Sequence[str]) -> Chart | None:
    """Images per class in each split of the data; a split without labels is told in the caption."""
    used = _labelled(counts, class_names)
    names = list(class_names)[:MOST]
    if not used:
        return None
    order = sorted(used, key=lambda split: (not split.startswith("train"), split))
    with drawing():
        figure = Figure((HALF, 0.8 + (0.12 + 0.13 * len(order)) * len(names)), layout="constrained")
        axes = figure.subplots()
        height = 0.8 / len(order)
        for number_, split in enumerate(order):
            places = np.arange(len(names)) + (number_ - (len(order) - 1) / 2) * height
            values = [used[split].get(name, 0) for name in names]
            colour = _SPLITS[number_ % len(_SPLITS)]
            axes.barh(places, values, height * 0.86, color=colour, label=_split(split, used[split]))
            for place, value in zip(places, values):
                axes.annotate(f"{value:,}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
        _classes(axes, names)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.margins(x=0.1)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=3, frameon=False, handlelength=0.8, handleheight=0.8)
    told = "; ".join(
        f"{split}: {', '.join(f'{name} {used[split].get(name, 0):,}' for name in names)}" for split in order
    )
    return Chart(
        "splits",
        "Training and test images",
        f"Images of each class in each part of the data{_unlabelled(counts, used)}.",
        f"Images per class. {told}.",
        figure,
    )


def shares(counts: Mapping[str, Mapping[str, int]], class_names: Sequence[str]) -> Chart | None:
    """Each class's share of the images, against an equal share."""
    used = _labelled(counts, class_names)
    total = {name: sum(classes.get(name, 0) for classes in used.values()) for name in class_names}
    images = sum(total.values())
    if not images:
        return None
    ranked = sorted(total, key=lambda name: -total[name])
    names = ranked if len(ranked) <= MOST else [*ranked[: MOST // 2], *ranked[-MOST // 2 :]]
    equal = 1 / len(total)
    with drawing():
        figure = Figure((HALF, 0.8 + 0.38 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(equal, color=LIGHT["ink"], linewidth=1, linestyle=(0, (3, 3)))
        for row, name in enumerate(names):
            value = total[name] / images
            axes.plot([0, value], [row, row], color=LIGHT["accent"], linewidth=2.2, alpha=0.4)
            axes.plot([value], [row], "o", color=LIGHT["accent"], markersize=7, clip_on=False)
            _at_right(axes, row, value)
        _classes(axes, names)
        axes.text(equal, -0.75, f"equal share {equal:.1%}".replace("%", " %"), ha="right", va="center", fontsize=7.5)
        axes.set_ylim(len(names) - 0.4, -1.1)
        axes.set_xlim(0, max(total.values()) / images * 1.26)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return Chart(
        "shares",
        "Class shares",
        f"Share of each class in all {images:,} labelled images; the dashed line is an equal share.",
        f"Shares: {', '.join(f'{name} {total[name] / images:.1%}' for name in names)}; equal share {equal:.1%}.",
        figure,
    )


def _labelled(counts: Mapping[str, Mapping[str, int]], class_names: Sequence[str]) -> dict[str, Mapping[str, int]]:
    return {split: classes for split, classes in counts.items() if any(classes.get(name) for name in class_names)}


def _unlabelled(counts: Mapping[str, Mapping[str, int]], used: Mapping[str, object]) -> str:
    others = {split: sum(classes.values()) for split, classes in counts.items() if split not in used}
    told = listing([f"{images:,} ({short(split)})" for split, images in others.items() if images])
    return f", and without labels {told}" if told else ""


def curves(card: Mapping[str, Any]) -> Chart | None:
    """Loss and accuracy per epoch, on the training and on the validation images."""
    rows = [row for row in card.get("curves") or [] if isinstance(row, Mapping)]
    panels = [("loss", "Loss"), ("accuracy", "Accuracy")]
    known = {key for row in rows for key, value in row.items() if value is not None}
    panels = [(key, name) for key, name in panels if {f"train_{key}", f"validation_{key}"} & known]
    if not panels:
        return None
    epochs = [float(row.get("epoch", place + 1)) for place, row in enumerate(rows)]
    best, last = card.get("best_epoch"), {}
    with drawing():
        figure = Figure((WIDTH, 3.1), layout="constrained")
        for axes, (key, name) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
            ends = []
            for part, colour, style in (("train", TRAIN, "-"), ("validation", TEST, "-")):
                values = np.array([_float(row.get(f"{part}_{key}")) for row in rows])
                if np.isfinite(values).any():
                    axes.plot(epochs, values, style, color=colour, linewidth=1.8, marker="o", markersize=3)
                    ends.append([float(values[np.isfinite(values)][-1]), "training" if part == "train" else part])
                    last[f"{ends[-1][1]} {key}"] = ends[-1][0]
            _end_labels(axes, epochs[-1], ends)
            if best is not None:
                axes.axvline(best, color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
                place = {
                    "xycoords": ("data", "axes fraction"),
                    "textcoords": "offset points",
                    "ha": "right",
                    "va": "top",
                }
                axes.annotate(f"kept: epoch {best}", (best, 1), (-4, 0), color=LIGHT["muted"], fontsize=7.5, **place)
            axes.set_title(name, loc="left", fontweight="bold", fontsize=8.5)
            axes.set_xlabel("epoch", loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=LIGHT["muted"])
    ended = ", ".join(f"{name} {number(value)}" for name, value in last.items())
    return Chart(
        "learning-curves",
        "Learning curves",
        "Loss and accuracy after each epoch, on the images that the network learns from and on held-out validation "
        f"images. Curves that part ways would mean overfitting. {card.get('curves_note') or ''}",
        f"Learning curves over {plural(len(rows), 'epoch')}; at the end: {ended}.",
        figure,
    )


def class_accuracy(card: Mapping[str, Any]) -> Chart | None:
    """How many test images of each class the network gets right."""
    accuracy = {name: value for name, value in (card.get("accuracy_per_class") or {}).items() if value is not None}
    if not accuracy:
        return None
    names = sorted(accuracy, key=lambda name: -accuracy[name])
    names = names if len(names) <= MOST else [*names[: MOST // 2], *names[-MOST // 2 :]]
    overall = card.get("test_accuracy")
    with drawing():
        figure = Figure((HALF, 0.8 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        if overall is not None:
            axes.axvline(overall, color=LIGHT["ink"], linewidth=1, linestyle=(0, (3, 3)))
            axes.text(overall, -0.8, f"all: {overall:.1%}".replace("%", " %"), ha="right", va="center", fontsize=7.5)
        for row, name in enumerate(names):
            axes.plot([0, accuracy[name]], [row, row], color=LIGHT["accent"], linewidth=2.2, alpha=0.4)
            axes.plot([accuracy[name]], [row], "o", color=LIGHT["accent"], markersize=7, clip_on=False)
            _at_right(axes, row, float(accuracy[name]))
        _classes(axes, names)
        axes.set_ylim(len(names) - 0.4, -1.1)
        axes.set_xlim(0, 1.26)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    return Chart(
        "class-accuracy",
        "Accuracy per class",
        "Share of the test images of each class that the network gets right.",
        f"Test accuracy: {', '.join(f'{name} {accuracy[name]:.1%}' for name in names)}.",
        figure,
    )


def confusion(card: Mapping[str, Any], class_names: Sequence[str]) -> Chart | None:
    """Which classes the network takes for which."""
    counts = np.asarray(card.get("confusion") or [], dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.sum() or len(counts) > 40:
        return None
    names = [short(name, 18) for name in class_names][: len(counts)]
    names += [f"class {i}" for i in range(len(names), len(counts))]
    rate = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    wrong = rate - np.diag(np.diag(rate))
    true, taken = np.unravel_index(wrong.argmax(), wrong.shape)
    worst = f"{names[true]} taken for {names[taken]} ({share(float(wrong.max()))})"
    with drawing():
        side = max(3.4, min(0.55 * len(counts) + 0.9, HALF))
        figure = Figure((HALF, side), layout="constrained")
        axes = figure.subplots()
        for (row, column), value in np.ndenumerate(rate):
            if value:
                look = {"color": LIGHT["accent"], "alpha": 0.06 + 0.5 * float(value), "linewidth": 0}
                axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, **look))
            if len(counts) <= 12:
                axes.text(column, row, f"{counts[row, column]:,.0f}", ha="center", va="center", fontsize=7.5)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        _classes(axes, names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel("predicted", loc="right")
        axes.set_ylabel("true", loc="top", rotation_mode="anchor")
        axes.spines["bottom"].set_visible(False)
    return Chart(
        "confusion",
        "Confusions",
        f"Test images by true class (rows) and predicted class (columns). The most frequent confusion: {worst}.",
        f"Confusion matrix of {listing(names, most=40)}. The most frequent confusion: {worst}.",
        figure,
    )


def _classes(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [short(name, 22) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)


def _at_right(axes: Axes, row: int, value: float) -> None:
    text = f"{value:.1%}".replace("%", " %")
    axes.annotate(text, (1, row), xycoords=axes.get_yaxis_transform(), ha="right", va="center", annotation_clip=False)


def _split(name: str, classes: Mapping[str, int]) -> str:
    return f"{short(name)} ({sum(classes.values()):,})"


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _end_labels(axes: Axes, x: float, ends: list[Any]) -> None:
    """Names at the lines' ends, apart from each other."""
    low, high = axes.get_ylim()
    gap = 0.07 * (high - low)
    ends = sorted(ends)
    for place, (value, name) in enumerate(ends):
        shift = 0.0
        if len(ends) == 2 and ends[1][0] - ends[0][0] < gap:
            shift = (gap - (ends[1][0] - ends[0][0])) / 2 * (1 if place else -1)
        axes.annotate(name, (x, value + shift), (6, 0), textcoords="offset points", va="center", annotation_clip=False)
    axes.margins(x=0.03)

"""What the network wants to see: an image per class and synthesis, beside the real image that activates it most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from vexbench.report.gallery import data_uri
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, number, share, short
from vexbench.results.frame import Group
from vexbench.results.record import SynthesisRecord

MOST = 24
"""Classes on the page."""


@final
@dataclass(frozen=True)
class Wish:
    """A class, and the row of each finished synthesis that holds its image; None where one has none."""

    target: int
    name: str
    rows: tuple[int | None, ...]


@final
@dataclass(frozen=True)
class Picture:
    """An image with its caption."""

    pixels: UInt8[np.ndarray, "H W 3"]
    title: str
    lines: tuple[str, ...]
    alt: str

    @property
    def uri(self) -> str:
        """The image as part of the page."""
        return data_uri(self.pixels)


@final
@dataclass(frozen=True)
class Medians:
    """A synthesis with its scores as text."""

    name: str
    values: tuple[str, ...]


def finished(group: Group) -> tuple[SynthesisRecord, ...]:
    """The syntheses whose images are made and scored."""
    return tuple(synthesis for synthesis in group.syntheses if synthesis.scores is not None)


def wishes(group: Group) -> tuple[Wish, ...]:
    """The first `MOST` classes for which there is an image."""
    rows = [{target: row for row, target in enumerate(_scores(one)["target"])} for one in finished(group)]
    targets = sorted({target for of in rows for target in of})[:MOST]
    return tuple(Wish(target, group.class_name(target), tuple(of.get(target) for of in rows)) for target in targets)


def classes(group: Group) -> int:
    """For how many classes there are images."""
    return len({target for one in finished(group) for target in _scores(one)["target"]})


def pictures(group: Group, wish: Wish) -> list[Picture]:
    """The real image, then each synthesised one, with what is said of it."""
    made = [(one, row) for one, row in zip(finished(group), wish.rows) if row is not None]
    found = list[Picture]()
    real = str(_scores(made[0][0])["real"][made[0][1]])
    places = group.predictions["image"].to_list()
    if real in places:
        place = places.index(real)
        label = group.predictions["label"][place]
        shows = group.class_name(label) if label is not None and label >= 0 else "not labelled"
        title, alt = "Real image", f"The image of the data that activates {wish.name} most; it shows: {shows}"
        found.append(Picture(group.images([place])[0], title, (f"shows: {shows}",), alt))
    for one, row in made:
        scores = _scores(one).row(row, named=True)
        lines = (
            f"network {share(scores['probability'])}",
            *([f"other {share(scores['transfer'])}"] if np.isfinite(scores["transfer"]) else []),
            f"gain ↑ {_signed(scores['activation_gain'])}",
            *([f"naturalness ↓ {number(scores['naturalness'])}"] if np.isfinite(scores["naturalness"]) else []),
        )
        alt = f"{one.name} of {wish.name}, made by {group.model_title}: {', '.join(lines)}"
        found.append(Picture(group.synthesised(one, [row])[0], one.name, lines, alt))
    return found


def medians(group: Group) -> list[Medians]:
    """Per synthesis: probability, transfer, gain, naturalness and passes, each the median over the classes."""
    found = list[Medians]()
    for one in finished(group):
        columns = _scores(one).select(pl.col(pl.Float64).fill_nan(None).median()).row(0, named=True)
        values = {name: float("nan") if value is None else float(value) for name, value in columns.items()}
        shares = [share(values[name]) for name in ("probability", "transfer")]
        others = [_signed(values["activation_gain"]), number(values["naturalness"]), number(values["passes"])]
        found.append(Medians(one.name, (*shares, *others)))
    return found


def told(group: Group) -> str:
    """Who was asked what the images show."""
    judges = list(dict.fromkeys(one.judge for one in finished(group) if one.judge))
    if judges:
        return f"Below each: what {group.model_title}, and the other network, {listing(judges)}, make of it."
    return (
        f"Below each: what {group.model_title} makes of it. The study has no other network that knows the same "
        "classes, so whether the images mean anything to anyone else is not told."
    )


def too_few(group: Group) -> bool:
    """Whether naturalness could not be told of any image."""
    return all(not np.isfinite(_scores(one)["naturalness"].to_numpy()).any() for one in finished(group))


def sheet(group: Group, shown: Sequence[Wish]) -> Chart:
    """The images as a figure for a file: one row per class."""
    rows = [pictures(group, wish) for wish in shown]
    across, side, lines = max(map(len, rows)), 1.25, 0.62
    size = across * (side + 0.1) + 1.2, len(rows) * (side + lines) + 0.1
    with drawing():
        figure = Figure(size)
        for down, (wish, row) in enumerate(zip(shown, rows)):
            top = size[1] - 0.1 - down * (side + lines)
            figure.text(0.1 / size[0], (top - 0.1) / size[1], short(wish.name, 16), va="top", fontweight="bold")
            for column, picture in enumerate(row):
                left = 1.2 + column * (side + 0.1)
                axes = figure.add_axes((left / size[0], (top - side) / size[1], side / size[0], side / size[1]))
                axes.imshow(np.asarray(Image.fromarray(picture.pixels)), interpolation="bicubic")
                axes.set_axis_off()
                text = "\n".join([short(picture.title, 24), *(short(line, 30) for line in picture.lines)])
                figure.text(left / size[0], (top - side - 0.04) / size[1], text, va="top", fontsize=5.5)
    names = listing([one.name for one in finished(group)])
    return Chart(
        "syntheses",
        "What the network wants to see",
        f"{names} of each class, beside the image of the data that activates it most. {told(group)}",
        f"{names} of {listing([wish.name for wish in shown], most=MOST)}.",
        figure,
    )


def _scores(synthesis: SynthesisRecord) -> pl.DataFrame:
    assert synthesis.scores is not None
    return synthesis.scores


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"

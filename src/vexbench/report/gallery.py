"""Heatmaps over the images they explain: which images are shown, and how a map is laid over one."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import final

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from vexbench.report.palette import LIGHT
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, share, short
from vexbench.results.frame import Group
from vexbench.results.record import MethodRecord

CEILING = 99.5
"""The percentile of a map's magnitude that takes the strongest colour: the same rule for every method and image."""
PAIRS = (("buildings", "forest"), ("building", "forest"), ("mountain", "sea"))
"""The paper shows these classes together, its figures 5 and 6."""
MOST_TILES, MOST_CLASSES, PER_CLASS, LARGEST = 420, 24, 2, 224
"""Bounds that keep the page below a few megabytes."""

RULE = (
    f"Each map is scaled by itself, and all by the same rule: the strongest colour is its {CEILING}th percentile, "
    "and what is weaker lets more of the grey photo through. Maps with a sign are centred at zero: orange speaks "
    "for the class, blue against it."
)


@final
@dataclass(frozen=True)
class Shown:
    """An image of the study with what the network says of it."""

    row: int
    image: str
    label: str
    predicted: str
    target: str
    probability: float
    correct: bool | None

    @property
    def sign(self) -> str:
        """✓ right, ✗ wrong, nothing where the true class is not known."""
        return {True: "✓", False: "✗", None: ""}[self.correct]


@final
@dataclass(frozen=True)
class Panel:
    """Images of one or two classes, and the methods whose maps are there."""

    title: str
    images: tuple[Shown, ...]
    methods: tuple[MethodRecord, ...]


def panels(group: Group) -> tuple[Panel, ...]:
    """Choose images of every class, by a rule: one that is typical, then one that the network gets wrong.

    Typical is the correct image whose probability is the median; without an error, the least sure correct one follows.
    """
    methods = tuple(method for method in group.methods if group.has_maps(method))
    # after a race some methods have maps of the first images only
    shown = [_shown(group, row) for row in range(min(map(group.mapped, methods), default=len(group.predictions)))]
    by_class: dict[str, list[Shown]] = {}
    for name in group.class_names:
        by_class[name] = []
    for image in shown:
        by_class.setdefault(image.label or image.target, []).append(image)
    present = [name for name, images in by_class.items() if images]
    few = max(1, min(PER_CLASS, MOST_TILES // (max(len(present), 1) * (len(methods) + 1))))
    chosen = [pair for pair in _paired(present)[: MOST_CLASSES // 2] if pair]
    return tuple(
        Panel(
            listing(pair).capitalize(),
            tuple(image for name in pair for image in _picked(by_class[name], few)),
            methods,
        )
        for pair in chosen
    )


def overlay(
    image: UInt8[np.ndarray, "H W 3"], values: Num[np.ndarray, "h w"], *, signed: bool
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a map over the dimmed, grey image; the weaker the map, the more of the image is seen."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    photo = np.repeat((18 + 0.62 * grey)[..., None], 3, axis=2)
    values = scaled(values, signed=signed)
    if values.shape != grey.shape:
        resized = Image.fromarray(values.astype(np.float32)).resize(grey.shape[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(resized)
    colours = palette(signed=signed)((values + 1) / 2 if signed else values)[..., :3] * 255
    alpha = _opacity(np.abs(values))[..., None]
    return (photo * (1 - alpha) + colours * alpha).round().astype(np.uint8)


def scaled(values: Num[np.ndarray, "h w"], *, signed: bool) -> Float[np.ndarray, "h w"]:
    """Scale a map to [0, 1], or [-1, 1] with a sign, by the percentile of its magnitude; all zero stays zero."""
    values = np.nan_to_num(np.asarray(values, dtype=float), posinf=0.0, neginf=0.0)
    ceiling = np.percentile(np.abs(values), CEILING) or np.abs(values).max()
    return np.clip(values / ceiling if ceiling else values, -1.0 if signed else 0.0, 1.0)


def palette(*, signed: bool) -> Colormap:
    """Bright is strong: magma without its black end, or blue and orange of equal lightness around a dark zero."""
    if signed:
        stops = ["#9be0ff", "#2f8fd0", "#3a3a44", "#d8502e", "#ffc08f"]
        return LinearSegmentedColormap.from_list("against-for", stops)
    return ListedColormap(mpl.colormaps["magma"](np.linspace(0.22, 1, 256)))


def bar_colours(*, signed: bool) -> Float[np.ndarray, "256 3"]:
    """The colour bar, as the colours look over a photo of medium grey."""
    values = np.linspace(-1 if signed else 0, 1, 256)
    alpha = _opacity(np.abs(values))[:, None]
    return palette(signed=signed)((values + 1) / 2 if signed else values)[:, :3] * alpha + 0.37 * (1 - alpha)


def data_uri(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """An image as part of the page."""
    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, format="webp", quality=84, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def panel_chart(group: Group, panel: Panel, name: str) -> Chart:
    """A panel as a figure for a file: one row per image, one column per method."""
    rows = [image.row for image in panel.images]
    captions = [
        f"{short(shown.predicted, 18)} {share(shown.probability)} {shown.sign}\n"
        f"true: {short(shown.label or 'unknown', 18)}"
        for shown in panel.images
    ]
    columns = [(short(method.name, 18), method.signed) for method in panel.methods]
    figure = tiles(group.images(rows), captions, columns, [group.maps(method, rows) for method in panel.methods])
    return Chart(name, panel.title, RULE, alt(panel), figure)


def tiles(
    images: UInt8[np.ndarray, "N H W 3"],
    captions: Sequence[str],
    methods: Sequence[tuple[str, bool]],
    maps: Sequence[Num[np.ndarray, "N h w"]],
) -> Figure:
    """Images with their captions, one per row, and the maps of each method, (title, signed), beside them."""
    overlays = [
        [overlay(image, one, signed=signed) for image, one in zip(images, of, strict=True)]
        for (_, signed), of in zip(methods, maps, strict=True)
    ]
    height, width = images.shape[1:3]
    gap, foot = round(0.06 * width), round(0.3 * width)
    columns = [images, *overlays]
    canvas = np.full((len(images) * (height + foot), len(columns) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for column, shown in enumerate(columns):
        for row, tile in enumerate(shown):
            top, left = row * (height + foot), column * (width + gap)
            canvas[top : top + height, left : left + width] = tile
    inch, margin = 1.05 / width, 0.12
    bars = sorted({signed for _, signed in methods})
    size = canvas.shape[1] * inch + 2 * margin, canvas.shape[0] * inch + 0.75
    with drawing():
        figure = Figure(size)
        axes = figure.add_axes((margin / size[0], 0.5 / size[1], 1 - 2 * margin / size[0], 1 - 0.75 / size[1]))
        axes.set_axis_off()
        axes.imshow(canvas, interpolation="antialiased", aspect="auto")
        for column, title in enumerate(["image", *(title for title, _ in methods)]):
            x = column * (width + gap) + width / 2
            axes.text(x, -0.04 * height, title, ha="center", va="bottom", fontsize=6.5)
        for row, caption in enumerate(captions):
            axes.text(0, row * (height + foot) + 1.03 * height, caption, va="top", fontsize=6.5)
        room = (size[0] - 2 * margin + 0.2) / len(bars)
        for place, signed in enumerate(bars):
            left, long = margin + room * place, min(2.2, room - 0.2)
            bar = figure.add_axes((left / size[0], 0.3 / size[1], long / size[0], 0.1 / size[1]))
            bar.imshow(bar_colours(signed=signed)[None], aspect="auto")
            bar.set_yticks([])
            bar.set_xticks(
                [0, 128, 255] if signed else [0, 255], ["against", "0", "for"] if signed else ["0", "strongest"]
            )
            bar.tick_params(labelsize=6.5, labelcolor=LIGHT["muted"])
            labels = bar.get_xticklabels()
            labels[0].set_horizontalalignment("left")
            labels[-1].set_horizontalalignment("right")
            bar.spines[:].set_visible(False)
    return figure


def alt(panel: Panel) -> str:
    """What a panel holds."""
    told = "; ".join(f"{image.label or 'unknown'} predicted as {image.predicted}" for image in panel.images)
    return f"Heatmaps of {listing([m.name for m in panel.methods], most=60)} over {len(panel.images)} images: {told}."


def _opacity(magnitude: np.ndarray) -> np.ndarray:
    return 0.88 * magnitude**0.7


def _shown(group: Group, row: int) -> Shown:
    image, target, label, predicted, probability, correct = group.predictions.select(
        "image", "target", "label", "predicted", "probability", "correct"
    ).row(row)
    return Shown(
        row,
        str(image),
        group.class_name(label) if label is not None and label >= 0 else "",
        group.class_name(predicted),
        group.class_name(target),
        float(probability),
        correct,
    )


def _picked(images: Sequence[Shown], few: int) -> list[Shown]:
    right = sorted((image for image in images if image.correct is not False), key=lambda image: image.probability)
    wrong = sorted((image for image in images if image.correct is False), key=lambda image: -image.probability)
    typical = right[len(right) // 2 : len(right) // 2 + 1]
    unsure = [image for image in right if image not in typical]
    return (typical + wrong + unsure)[:few]


def _paired(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Classes by twos, the paper's pairs first."""
    lower = {name.lower(): name for name in names}
    pairs = [tuple(lower[name] for name in pair) for pair in PAIRS if set(pair) <= set(lower)]
    rest = [name for name in names if name not in {name for pair in pairs for name in pair}]
    return pairs + [tuple(rest[i : i + 2]) for i in range(0, len(rest), 2)]

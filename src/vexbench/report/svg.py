"""A chart as part of the page, or as a file: one figure, two outlets."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, final

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from vexbench.report.palette import LIGHT, variables
from vexbench.report.words import short

_VARIABLES = {colour: f"var(--{name})" for name, colour in variables(dark=False).items()}
_THEMED = re.compile("|".join(_VARIABLES))

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # a dollar sign in a class name is no formula
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.prop_cycle": cycler(color=[LIGHT["ink"]]),
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["ink"],
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}
PIXELS_PER_POINT = 4 / 3


@final
@dataclass(frozen=True)
class Chart:
    """A figure with a name for its file, a caption, and what it says for who cannot see it."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@contextmanager
def drawing() -> Iterator[None]:
    """The house style; user names in scripts that the font lacks are the browser's business."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        yield


def inline(chart: Chart, prefix: str = "") -> Markup:
    """The chart as SVG for the page: theme colours, the page's font, ids that no other chart has."""
    text = _svg(chart)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = _own_ids(text, f"{prefix}{chart.name}-")
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'style="[^"]*"', lambda style: _THEMED.sub(lambda colour: _VARIABLES[colour[0]], style[0]), text)
    width, height = (float(size) * 72 for size in chart.figure.get_size_inches())
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(short(chart.alt, 2000))}" viewBox="0 0 {width:g} {height:g}" '
        f'style="width:{width * PIXELS_PER_POINT:.0f}px;min-width:{width * PIXELS_PER_POINT * 0.62:.0f}px">'
    )
    # matplotlib has escaped the texts in it
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))


def svg_file(chart: Chart) -> bytes:
    """The chart as an SVG file on a white ground."""
    return _svg(chart, facecolor="white").encode()


def png_file(chart: Chart) -> bytes:
    """The chart as a PNG file on a white ground, for slides and papers."""
    buffer = BytesIO()
    with drawing():
        chart.figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def _svg(chart: Chart, facecolor: str = "none") -> str:
    buffer = StringIO()
    # the salt makes ids the same at every rendering
    with drawing(), mpl.rc_context({"svg.hashsalt": chart.name}):
        chart.figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=facecolor)
    return buffer.getvalue()


def _own_ids(text: str, prefix: str) -> str:
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", text)
    return re.sub(r"(url\(#|href=\"#)([^\")]+)", lambda m: f"{m[1]}{prefix}{m[2]}", text)

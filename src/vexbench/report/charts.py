"""The charts of the scores: who ranks where, metric by metric, and at what cost."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from vexbench.report.palette import LIGHT, axis_title, family
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, number, plainly, share, short, span
from vexbench.results.record import FAMILIES, MethodRecord, MetricRecord, place
from vexbench.stats.summary import Summary

WIDTH = 11.25
"""Inches: 1080 pixels in the page, as matplotlib's point is 4/3 of one."""
BYTES = "peak_memory"
"""The metric that counts bytes."""


def ranking(summary: Summary) -> Chart:
    """Mean rank of each method with its interval, and beside it the rank on each axis."""
    ranks, axes = summary.overall, summary.by_axis
    assert ranks is not None
    order, count = summary.order, len(summary.methods)
    bounds, first = ranks.intervals, ranks.first
    with drawing():
        figure = Figure((WIDTH, 1.05 + 0.27 * count), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[10, 1 + 1.5 * len(axes)])
        for row, i in enumerate(order):
            _dot(left, float(ranks.mean[i]), (bounds[i, 0], bounds[i, 1]), row, summary.methods[i], size=7.0)
            if not summary.too_few:
                left.text(count * 1.22 + 1, row, share(float(first[i])), va="center", ha="right", color=LIGHT["muted"])
        if not summary.too_few:
            left.text(count * 1.22 + 1, -0.95, "first in", va="center", ha="right", color=LIGHT["muted"])
        left.set_yticks(range(count), [_label(summary.methods[i]) for i in order])
        left.set_ylim(count - 0.4, -0.6)
        left.set_xlim(0.6, count * 1.22 + 1.1)
        left.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11))
        left.set_xticks([tick for tick in left.get_xticks() if 1 <= tick <= count] or [1])
        left.set_xlabel("mean rank over the axes  (1 = best)", loc="left")
        left.grid(axis="x")
        left.spines["left"].set_visible(False)
        for column, of_axis in enumerate(axes.values()):
            for row, i in enumerate(order):
                value = float(of_axis.mean[i])
                shade = 0.42 * (count - value) / max(count - 1, 1)
                cell = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, facecolor=LIGHT["accent"], alpha=shade)
                right.add_patch(cell)
                right.text(column, row + 0.02, f"{value:.1f}", ha="center", va="center")
        right.set_xlim(-0.6, len(axes) - 0.4)
        right.set_xticks(range(len(axes)), [axis_title(axis) for axis in axes])
        right.xaxis.tick_top()
        right.tick_params(axis="x", labelsize=7.5)
        right.tick_params(axis="y", labelleft=False)
        _families(figure, summary.methods)
        right.spines[["left", "bottom"]].set_visible(False)
    sure = "with its 95 % bootstrap interval, and how often the method is first when the images are drawn anew"
    lines = [
        f"{summary.methods[i].name} {number(float(ranks.mean[i]))} ({span(bounds[i, 0], bounds[i, 1])})" for i in order
    ]
    return Chart(
        "ranking",
        "Ranking",
        f"Left: the mean rank of each method over {len(axes)} {'axis' if len(axes) == 1 else 'axes of equal weight'}, "
        f"{f'of so few images ({summary.result.total}) that it has no interval' if summary.too_few else sure}. "
        "Right: the rank on each axis, the stronger the shade the better. Hollow markers are "
        f"controls, which know nothing of the network{', or maps spoilt on purpose' * bool(summary.degraded)}. Cost "
        "does not enter the rank.",
        f"Mean ranks, best first: {'; '.join(lines)}.",
        figure,
    )


def scores(summary: Summary) -> Chart:
    """Small multiples: one panel per metric, one dot with its interval per method."""
    order, count = summary.order, len(summary.methods)
    columns = min(4, len(summary.metrics))
    rows = -(-len(summary.metrics) // columns)
    with drawing():
        figure = Figure((WIDTH, rows * (0.62 + 0.165 * count)), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.1))
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(summary.metrics) :]:
            axes.set_visible(False)
        for j, axes in zip(range(len(summary.metrics)), grid.flat):
            metric = summary.metrics[j]
            for row, i in enumerate(order):
                estimate = summary.estimate(i, j)
                if np.isfinite(estimate.mean):
                    _dot(axes, estimate.mean, (estimate.low, estimate.high), row, summary.methods[i], size=5.5)
                else:
                    axes.text(0.5, row, "no score", transform=axes.get_yaxis_transform(), **_SMALL)
            axes.set_title(f"{short(metric.name)} {metric.arrow}", loc="left", fontweight="bold", fontsize=8.5, pad=4)
            axes.grid(axis="x")
            axes.spines["left"].set_visible(False)
            _ticks(axes, metric, summary.result.mean[:, j])
            axes.margins(x=0.06)
        for axes in grid[:, 0]:
            axes.set_yticks(range(count), [_label(summary.methods[i], 22) for i in order])
            axes.set_ylim(count - 0.3, -0.7)
    return Chart(
        "scores",
        "Metric by metric",
        "Mean score of each method over the images with its 95 % bootstrap interval; the arrow says which direction "
        "is better. Methods stand in the order of the ranking; hollow markers are controls.",
        "One panel per metric: " + " ".join(_panel(summary, j) for j in range(len(summary.metrics))),
        figure,
    )


def _ticks(axes: Axes, metric: MetricRecord, values: np.ndarray) -> None:
    """Few enough to be read in a small panel; costs of several magnitudes on a logarithmic scale."""
    in_bytes = metric.id == BYTES
    if metric.family == "cost" and np.nanmax(values) > 20 * max(np.nanmin(values), 0.05):
        # linear below one pass, or below what the least holds
        lowest = int(np.floor(np.log10(values[values > 0].min()))) if in_bytes else 0
        axes.set_xscale("symlog", linthresh=10.0**lowest, linscale=1.0 if in_bytes else 0.5)
        axes.set_xlim(left=0)
        decades = range(int(np.floor(np.log10(axes.get_xlim()[1]))), lowest - 1, -1)
        axes.set_xticks([0.0, *(10.0**decade for decade in decades[:: -(-len(decades) // 4)])])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    if in_bytes:
        axes.xaxis.set_major_formatter(EngFormatter("B", sep="\N{NO-BREAK SPACE}"))


def tradeoff(summary: Summary) -> Chart | None:
    """Rank against cost on a logarithmic scale, with the methods that no other beats on both."""
    ranks, cost = summary.overall, summary.cost_metric
    if ranks is None or cost is None:
        return None
    metric, costs = summary.metrics[cost], summary.result.mean[:, cost]
    shown = [i for i in range(len(summary.methods)) if np.isfinite(costs[i])]
    best = summary.front([i for i in shown if i in summary.candidates])
    if len(shown) < 3 or not best:
        return None
    with drawing():
        figure = Figure((WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("symlog", linthresh=1, linscale=0.45)
        top = max([costs[i] for i in shown], default=1.0)
        axes.set_xlim(-0.25, max(10.0, top * 3))
        axes.set_ylim(len(summary.methods) + 0.5, 0.5)
        corner = axes.get_xlim()[1], axes.get_ylim()[0]
        steps = np.array(
            [(costs[best[0]], corner[1]), *zip(costs[best], ranks.mean[best]), (corner[0], ranks.mean[best[-1]])]
        )
        axes.step(*steps.T, where="post", color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 3)))
        for i in shown:
            low, high = ranks.intervals[i]
            axes.plot([costs[i]] * 2, [low, high], color=_colour(summary.methods[i]), linewidth=2, alpha=0.4)
            _mark(axes, float(costs[i]), float(ranks.mean[i]), summary.methods[i], 8.0)
        axes.grid(linewidth=0.6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"{metric.name.lower()} per image, logarithmic above 1  (left is cheaper)", loc="left")
        axes.set_ylabel("mean rank  (up is better)", loc="top", rotation_mode="anchor")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _name_points(figure, axes, summary, shown, costs, ranks.mean, steps)
    gloss = plainly(metric.summary).rstrip(".")
    named = listing([f"{summary.methods[i].name} (cost {number(float(costs[i]))})" for i in best], most=8)
    return Chart(
        "tradeoff",
        "Quality against cost",
        "Mean rank over the quality axes, with its 95 % interval, against the cost of one map"
        f"{': ' * bool(gloss)}{gloss[:1].lower()}{gloss[1:]}. "
        f"The dashed line is the front of methods that no other beats on both: {named}. Controls are not on it.",
        f"Scatter of mean rank against cost. On the front of methods that no other beats on both: {named}.",
        figure,
    )


_AROUND = (
    ((9, 0), "left"),
    ((-9, 0), "right"),
    ((0, 12), "center"),
    ((0, -12), "center"),
    ((8, 11), "left"),
    ((8, -11), "left"),
    ((-8, 11), "right"),
    ((-8, -11), "right"),
)
_SMALL = {"ha": "center", "va": "center", "color": LIGHT["muted"], "fontsize": 7}


def _panel(summary: Summary, j: int) -> str:
    metric, best = summary.metrics[j], summary.best(j)
    if not best:
        return f"{metric.name}: no ranking."
    value, names = number(summary.estimate(best[0], j).mean), listing([summary.methods[i].name for i in best])
    return f"{metric.name}, {metric.direction} is better: best {names}, {value}."


def _colour(method: MethodRecord) -> str:
    return family(method.family).light


def _label(method: MethodRecord, most: int = 30) -> str:
    return short(method.name, most)


def _dot(axes: Axes, value: float, bounds: tuple[float, float], row: int, method: MethodRecord, *, size: float) -> None:
    axes.plot(bounds, [row, row], color=_colour(method), linewidth=size * 0.62, alpha=0.38, solid_capstyle="round")
    _mark(axes, value, float(row), method, size)


def _mark(axes: Axes, x: float, y: float, method: MethodRecord, size: float) -> None:
    look = family(method.family)
    axes.plot(
        [x],
        [y],
        marker=look.marker,
        markersize=size * (0.86 if look.marker in "sD" else 1),
        markerfacecolor=LIGHT["paper"] if method.control else look.light,
        markeredgecolor=look.light if method.control else LIGHT["ink"],
        markeredgewidth=1.4 if method.control else 0.5,
        linestyle="none",
        clip_on=False,
        zorder=3,
    )


def _families(figure: Figure, methods: Sequence[MethodRecord]) -> None:
    """A legend of the families, in the order of the taxonomy."""
    kinds = dict.fromkeys(
        method.family for method in sorted(methods, key=lambda method: place(method.family, FAMILIES))
    )
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=family(kind).marker,
            markersize=6,
            markerfacecolor=LIGHT["paper"] if kind == "control" else family(kind).light,
            markeredgecolor=family(kind).light if kind == "control" else LIGHT["ink"],
            markeredgewidth=1.4 if kind == "control" else 0.5,
            label=family(kind).title.lower(),
        )
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=8, frameon=False, handletextpad=0.1)


def _name_points(
    figure: Figure,
    axes: Axes,
    summary: Summary,
    shown: Sequence[int],
    costs: np.ndarray,
    ranks: np.ndarray,
    line: np.ndarray,
) -> None:
    """Write names beside points, each at the first of a few places where it covers nothing; equal points share one."""
    FigureCanvasAgg(figure).draw()
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = {i: axes.transData.transform((costs[i], ranks[i])) for i in shown}
    piles: list[list[int]] = []
    for i in sorted(shown, key=lambda i: ranks[i]):
        near = next((pile for pile in piles if np.hypot(*(places[pile[0]] - places[i])) < 5), None)
        if near is None:
            piles.append([i])
        else:
            near.append(i)
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in places.values()]
    corners = axes.transData.transform(line)
    for (x, y), (end, level) in pairwise(corners):  # drawn as steps: along, then up
        taken += [Bbox.from_extents(x, y - 1, end, y + 1), Bbox.from_extents(end - 1, y, end + 1, level)]
    frame = axes.get_window_extent(renderer)
    for pile in piles:
        name, point = ", ".join(_label(summary.methods[i]) for i in pile), (costs[pile[0]], ranks[pile[0]])
        trials = [
            axes.annotate(name, point, offset, textcoords="offset points", ha=side, va="center")
            for offset, side in _AROUND
        ]
        boxes = [trial.get_window_extent(renderer) for trial in trials]
        clashes = [
            sum(box.overlaps(other) for other in taken) + 2 * (box.x1 > frame.x1 or box.x0 < frame.x0) for box in boxes
        ]
        chosen = int(np.argmin(clashes))
        taken.append(boxes[chosen])
        for other, trial in enumerate(trials):
            if other != chosen:
                trial.remove()

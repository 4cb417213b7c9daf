"""The axes of the charts can be read."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vexbench.report.charts import scores
from vexbench.stats.summary import Summary


@pytest.mark.parametrize(
    ("metric", "span", "labels"),
    [
        ("peak_memory", (40e3, 60e6), ["0 B", "10 kB", "100 kB", "1 MB", "10 MB"]),
        ("peak_memory", (3.0, 60e6), None),
        ("peak_memory", (2e6, 9e6), None),
        ("passes", (1.0, 90e6), None),
        ("passes", (0.0, 4000.0), ["0", "1", "10", "100", "1000"]),
    ],
)
def test_labels_of_costs_do_not_run_into_one_another(
    summary: Summary, metric: str, span: tuple[float, float], labels: list[str] | None
) -> None:
    cost = [record.id for record in summary.metrics].index("passes")
    metrics, mean, draws = list(summary.metrics), summary.result.mean.copy(), summary.result.draws.copy()
    metrics[cost] = replace(metrics[cost], id=metric, name="Cost")
    draws[:, :, cost] = mean[:, cost] = np.linspace(*span, len(mean))
    result = replace(summary.result, mean=mean, draws=draws)
    figure = scores(replace(summary, metrics=tuple(metrics), result=result)).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = next(axes for axes in figure.axes if axes.get_title("left").startswith("Cost"))
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert 3 <= len(ticks) <= 6
    boxes = [tick.label1.get_window_extent(canvas.get_renderer()) for tick in ticks]
    assert all(left.x1 + 1 < right.x0 for left, right in pairwise(sorted(boxes, key=lambda box: box.x0)))
    told = [
        tick.label1.get_text().replace("\N{NO-BREAK SPACE}", " ")
        for tick in sorted(ticks, key=lambda tick: tick.get_loc())
    ]
    assert labels is None or told == labels

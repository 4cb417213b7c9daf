"""The tables of the page, of the terminal and of the CSV files."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, final

import numpy as np
import polars as pl

from vexbench.report.palette import axis_title, family
from vexbench.report.words import number, span
from vexbench.results.frame import Group
from vexbench.results.record import MethodRecord
from vexbench.stats.summary import Summary

Mark = Literal["best", "near", ""]


@final
@dataclass(frozen=True)
class Cell:
    """A mean score as text, with its interval, the images that have it where not all do, and whether it is the best."""

    value: float | None
    text: str
    span: str
    defined: str
    mark: Mark


@final
@dataclass(frozen=True)
class Row:
    """A method with its overall rank and its scores."""

    method: MethodRecord
    place: int
    rank: Cell
    cells: tuple[Cell, ...]


def rows(summary: Summary) -> tuple[Row, ...]:
    """Methods by overall rank; `near` marks what the images cannot tell from the best."""
    near = np.column_stack([_near(summary, j) for j in range(len(summary.metrics))] or [np.empty((0, 0))])
    found = []
    for place, i in enumerate(summary.order):
        ranks = summary.overall
        rank = Cell(None, "–", "", "", "")
        if ranks is not None:
            low, high = ranks.intervals[i]
            rank = Cell(float(ranks.mean[i]), number(float(ranks.mean[i])), span(low, high), "", "")
        cells = tuple(_cell(summary, i, j, near[i, j]) for j in range(len(summary.metrics)))
        found.append(Row(summary.methods[i], place + 1, rank, cells))
    return tuple(found)


def _cell(summary: Summary, i: int, j: int, mark: Mark) -> Cell:
    estimate = summary.estimate(i, j)
    if not np.isfinite(estimate.mean):
        reason = (
            "waiting" if (summary.methods[i].key, summary.metrics[j].key) not in summary.group.cells else "undefined"
        )
        told = {(failure.method, failure.metric): failure for failure in summary.group.failures}
        failure = told.get((summary.methods[i].name, summary.metrics[j].name))
        if failure is not None:
            reason = "over budget" if failure.over_budget else "failed"
        return Cell(None, "–", reason, "", "")
    defined = "" if estimate.defined == estimate.total else f"{estimate.defined} of {estimate.total}"
    defined += ", settled" * bool(summary.stopped[i, j])
    spread = "" if estimate.low == estimate.high else span(estimate.low, estimate.high)
    return Cell(estimate.mean, number(estimate.mean), spread, defined, mark)


def _near(summary: Summary, j: int) -> list[Mark]:
    best = summary.best(j)
    if not best:
        return [""] * len(summary.methods)
    verdict = summary.told_apart(best[0], j)
    return ["best" if i in best else "near" if verdict[i] == 0 else "" for i in range(len(summary.methods))]


def beats(summary: Summary) -> tuple[tuple[MethodRecord, tuple[str, ...]], ...]:
    """Which methods beat the random map on which metric of quality: better, worse, unclear, or none."""
    verdicts = summary.beats_random
    if verdicts is None or np.isnan(verdicts).all():
        return ()
    words = {1.0: "better", -1.0: "worse", 0.0: "unclear"}
    return tuple(
        (summary.methods[i], tuple(words.get(float(verdicts[i, j]), "none") for j in quality(summary)))
        for i in summary.order
        if summary.methods[i].id != "random"
    )


def spans(summary: Summary) -> list[tuple[str, int]]:
    """The axes in the order of the metrics, each with how many metrics it has."""
    return [(axis, len(list(metrics))) for axis, metrics in groupby(metric.family for metric in summary.metrics)]


def quality(summary: Summary) -> list[int]:
    """The metrics that are not a cost."""
    return [j for j, metric in enumerate(summary.metrics) if metric.family != "cost"]


def frames(summary: Summary) -> Mapping[str, pl.DataFrame]:
    """The tables as data frames, by file name."""
    found = {
        "ranking": ranking_frame(summary),
        "scores": scores_frame(summary),
        "predictions": summary.group.predictions,
    }
    made = syntheses_frame(summary.group)
    return {**found, "syntheses": made} if len(made) else found


def ranking_frame(summary: Summary) -> pl.DataFrame:
    """One row per method: overall rank with its interval, how often first, and the rank on each axis."""
    ranks = summary.overall
    if ranks is None:
        return pl.DataFrame({"method": [method.name for method in summary.methods]})
    order, bounds, first = summary.order, ranks.intervals, ranks.first
    return pl.DataFrame(
        {
            "place": range(1, len(order) + 1),
            "method": [summary.methods[i].name for i in order],
            "family": [family(summary.methods[i].family).title for i in order],
            "control": [summary.methods[i].control for i in order],
            "mean_rank": ranks.mean[order],
            "low": bounds[order, 0],
            "high": bounds[order, 1],
            "first": first[order],
            **{axis_title(axis).lower(): of_axis.mean[order] for axis, of_axis in summary.by_axis.items()},
        }
    ).with_columns(pl.col("low", "high", "first").fill_nan(None))


def scores_frame(summary: Summary) -> pl.DataFrame:
    """One row per method and metric: mean, interval, and how many images have a score."""
    verdicts = summary.beats_random
    return pl.DataFrame(
        [
            {
                "method": summary.methods[i].id,
                "params": summary.methods[i].label,
                "metric": metric.unique_id,
                "axis": metric.family,
                "direction": metric.direction,
                "mean": estimate.mean if np.isfinite(estimate.mean) else None,
                "low": estimate.low if np.isfinite(estimate.low) else None,
                "high": estimate.high if np.isfinite(estimate.high) else None,
                "defined": estimate.defined,
                "images": int(summary.seen[i, j]),
                "beats_random": None if verdicts is None or np.isnan(verdicts[i, j]) else bool(verdicts[i, j] > 0),
            }
            for i in summary.order
            for j, metric in enumerate(summary.metrics)
            for estimate in [summary.estimate(i, j)]
        ],
        schema=_SCORES,
    )


def syntheses_frame(group: Group) -> pl.DataFrame:
    """One row per synthesised image: its class, the judge, and its scores."""
    tables = [
        synthesis.scores.select(
            pl.lit(synthesis.id).alias("synthesis"),
            pl.lit(synthesis.label).alias("params"),
            pl.col("target").map_elements(group.class_name, return_dtype=pl.String).alias("class"),
            pl.lit(synthesis.judge or None, dtype=pl.String).alias("judge"),
            pl.exclude("target"),
        ).with_columns(pl.col(pl.Float64).fill_nan(None))
        for synthesis in group.syntheses
        if synthesis.scores is not None
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


def undefined(group: Group) -> list[tuple[str, int, int]]:
    """Per metric: scores that are not defined, of how many."""
    counts = []
    for metric in group.metrics:
        cells = [cell["score"] for (_, key), cell in group.cells.items() if key == metric.key]
        missing = sum(int(score.fill_null(float("nan")).is_nan().sum()) for score in cells)
        counts.append((metric.name, missing, sum(map(len, cells))))
    return counts


def facts(record: Mapping[str, Any], *without: str, prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as name and text, in its order, without the entries of some names.

    >>> facts({"versions": {"torch": "2.14"}, "seed": 0, "mean": [0.5, 0.5], "data": {"counts": {"cat": 3}}}, "counts")
    [('versions · torch', '2.14'), ('seed', '0'), ('mean', '0.5, 0.5')]
    """
    told = list[tuple[str, str]]()
    for name, value in record.items():
        if name in without:
            continue
        label = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            told += facts(value, *without, prefix=f"{label} · ")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value, 1):
                inner = (
                    facts(item, *without, prefix=f"{label} {place} · ")
                    if isinstance(item, Mapping)
                    else [(label, str(item))]
                )
                told += inner
        elif isinstance(value, list | tuple):
            told.append((label, ", ".join(map(str, value))))
        elif value is not None and value != "":
            told.append((label, _said(value)))
    return told


def _said(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case int() if abs(value) >= 100_000:
            return f"{value:,}"
        case _:
            return str(value)


_SCORES = {
    "method": pl.String,
    "params": pl.String,
    "metric": pl.String,
    "axis": pl.String,
    "direction": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "defined": pl.Int64,
    "images": pl.Int64,
    "beats_random": pl.Boolean,
}

"""Which metrics to trust here: a row per metric, what it comes to in words, and how the metrics agree."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vexbench.report.charts import WIDTH
from vexbench.report.palette import FAMILIES, LIGHT
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, plural, share, short
from vexbench.results.record import MetricRecord
from vexbench.stats.judging import CONCLUSIVE, Degradation, Fall, Judgement, Judges
from vexbench.stats.summary import Summary

ABSENT = "not in this study"
FALLS: dict[Fall, str] = {
    "every step": "at every step",
    "in the end": "in the end",
    "no": "no",
    "upside down": "upside down",
}
FAILS = {
    "reliability": "orders methods no more alike from image to image than by chance",
    "separation": "does not tell most methods from a random map",
    "degradation": "does not rank a spoilt map below the clean one",
}
MOST_NUMBERS = 24
"""Metrics up to which the cells of the matrix hold numbers."""


@final
@dataclass(frozen=True)
class Cell:
    """What a check came to, its evidence below it, and whether it is passed; empty where nothing can be said."""

    text: str
    evidence: tuple[str, ...] = ()
    mark: Literal["good", "bad", ""] = ""
    value: float | None = None


@final
@dataclass(frozen=True)
class Row:
    """A metric and its cells: reliability, separation, degradation, agreement, and the checks passed."""

    metric: MetricRecord
    cells: tuple[Cell, ...]


def rows(judges: Judges) -> tuple[Row, ...]:
    """A row per metric of quality."""
    return tuple(
        Row(
            judges.summary.metrics[one.metric],
            (
                _reliability(judges, one),
                _separation(judges, one),
                _degradation(judges, one),
                _agreement(one),
                _passed(one),
            ),
        )
        for one in judges.judgements
    )


def verdict(judges: Judges) -> list[str]:
    """What the table comes to, in a few sentences."""
    found, names = judges.judgements, [metric.name for metric in judges.summary.metrics]
    checked = [one for one in found if one.checks]
    if not checked:
        return [
            "This study holds too little to judge its metrics by: it takes five images, and two methods, a random map "
            "or a degraded one."
        ]
    # one that lacks the images for some checks has not passed them
    most = max(len(one.checks) for one in checked)
    good = [names[one.metric] for one in checked if one.passes and len(one.checks) == most]
    told = [
        f"{listing(good, 8)} {'passes' if len(good) == 1 else 'pass'} every check that this study allows."
        if good
        else "No metric passes every check that this study allows."
    ]
    hopeless = [one for one in checked if len(one.checks) > 1 and not any(one.checks.values())]
    if hopeless:
        told.append(f"{listing([names[one.metric] for one in hopeless], 8)} pass{'es' * (len(hopeless) == 1)} none.")
    for check, words in FAILS.items():
        bad = [names[one.metric] for one in checked if one.checks.get(check) is False and one not in hopeless]
        if bad:
            told.append(f"{listing(bad, 6)} {_plural(words) if len(bad) > 1 else words}.")
    alphas = {names[one.metric]: one.reliability.alpha for one in found if one.reliability is not None}
    if alphas:
        best = max(alphas, key=lambda name: alphas[name])
        middle = float(np.median(list(alphas.values())))
        told.append(
            f"The steadiest from image to image is {best} (α {_two(alphas[best])}), the median is {_two(middle)}: "
            + (
                "one image says much about the order of the methods."
                if middle >= CONCLUSIVE
                else "rely on averages over many images, never on the order that one image gives."
            )
        )
    return told


def matrix(judges: Judges) -> Chart | None:
    """How the orders that the metrics give the methods agree, as a heat map; None for fewer than two metrics."""
    metrics, values = [judges.summary.metrics[j] for j in judges.metrics], judges.agreement
    off = ~np.eye(len(metrics), dtype=bool)
    if len(metrics) < 2 or not np.isfinite(values[off]).any():
        return None
    count, size = len(metrics), min(0.42, 8.0 / len(metrics))
    names = [f"{short(metric.name, 26)} {metric.arrow}" for metric in metrics]
    left, top = 2.35, 0.35 + 0.048 * max(map(len, names))
    width, height = min(WIDTH, left + count * size + 0.9), top + count * size + 0.1
    with drawing():
        figure = Figure((width, height))
        axes = figure.add_axes((left / width, 0.1 / height, count * size / width, count * size / height))
        for (row, column), value in np.ndenumerate(values):
            if row == column:
                continue
            if not np.isfinite(value):
                axes.text(column, row, "–", ha="center", va="center", fontsize=6.5, color=LIGHT["muted"])
                continue
            look = {"color": LIGHT["accent"] if value > 0 else FAMILIES["cam"].light, "linewidth": 0}
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, alpha=0.75 * abs(value) ** 0.8, **look))
            if count <= MOST_NUMBERS:
                text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0"
                axes.text(column, row, text, ha="center", va="center", fontsize=6.5)
        families = [metric.family for metric in metrics]
        for place in range(1, count):
            if families[place] != families[place - 1]:
                for draw in (axes.axhline, axes.axvline):
                    draw(place - 0.5, color=LIGHT["line"], linewidth=0.8)
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_yticks(range(count), names, fontsize=7.5)
        axes.set_xticks(range(count), names, rotation=55, ha="left", rotation_mode="anchor", fontsize=7.5)
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", labelcolor=LIGHT["ink"])
        axes.spines[:].set_visible(False)
    pairs = sorted(
        (float(values[a, b]), a, b) for a in range(count) for b in range(a + 1, count) if np.isfinite(values[a, b])
    )
    ends = {"agree most": pairs[-1], "agree least": pairs[0]}
    told = "; ".join(
        f"{metrics[a].name} and {metrics[b].name} {words} ({value:+.2f})".replace("-", "−")
        for words, (value, a, b) in ends.items()
    )
    return Chart(
        "agreement",
        "How the metrics agree",
        "Kendall’s correlation between the orders that two metrics give the methods on an image, averaged over the "
        "images, each metric in its own direction. Blue: the same methods are good (+1); orange: the opposite ones "
        "(−1); pale: neither. Controls are left out; lines part the axes.",
        f"Matrix of the agreement of {plural(count, 'metric')}: {told}.",
        figure,
    )


def judges_frame(judges: Judges) -> pl.DataFrame:
    """One row per metric with all numbers."""
    found = []
    for one in judges.judgements:
        metric, alpha, apart = judges.summary.metrics[one.metric], one.reliability, one.separation
        found.append(
            {
                "metric": metric.unique_id,
                "axis": metric.family,
                "alpha": None if alpha is None else alpha.alpha,
                "alpha_low": None if alpha is None else alpha.low,
                "alpha_high": None if alpha is None else alpha.high,
                "better_than_random": None if apart is None else apart.better,
                "worse_than_random": None if apart is None else apart.worse,
                "compared_with_random": None if apart is None else apart.compared,
                "chance_above_random": None if apart is None else apart.chance,
                "falls_with_noise": "; ".join(fall.fall for fall in one.degradations) or None,
                "chance_below_with_noise": "; ".join(f"{fall.chance:.4f}" for fall in one.degradations) or None,
                "agreement": one.agreement,
                "checks": len(one.checks),
                "passed": sum(one.checks.values()),
            }
        )
    return pl.DataFrame(found, infer_schema_length=None).with_columns(pl.col(pl.Float64).fill_nan(None))


def absent(summary: Summary) -> list[str]:
    """The controls that a study would have to name so that more could be judged."""
    ids = {method.id for method in summary.methods}
    return [name for name in ("random", "degraded") if name not in ids]


def _reliability(judges: Judges, one: Judgement) -> Cell:
    found = one.reliability
    if found is None:
        return Cell(ABSENT if len(judges.summary.candidates) < 2 else _unknown(judges))
    return Cell(_two(found.alpha), (_range(found.low, found.high),), _mark(one.checks.get("reliability")), found.alpha)


def _separation(judges: Judges, one: Judgement) -> Cell:
    found = one.separation
    if found is None:
        return Cell(ABSENT if judges.summary.beats_random is None else _unknown(judges))
    worse = [f"{found.worse} worse"] if found.worse else []
    evidence = (*worse, f"above it on {share(found.chance)}")
    text = f"{found.better} of {found.compared}"
    return Cell(text, evidence, _mark(one.checks.get("separation")), found.chance)


def _degradation(judges: Judges, one: Judgement) -> Cell:
    found = one.degradations
    if not found:
        return Cell(_unknown(judges) if judges.summary.degraded else ABSENT)
    text = "; ".join(dict.fromkeys(FALLS[fall.fall] for fall in found))
    evidence = tuple(_fall(judges, fall, len(found) > 1) for fall in found)
    return Cell(text, evidence, _mark(one.checks["degradation"]), float(np.mean([fall.chance for fall in found])))


def _fall(judges: Judges, fall: Degradation, several: bool) -> str:
    name = f"{judges.summary.methods[fall.of].name}: " if several else ""
    return f"{name}{fall.steps} of {plural(len(fall.levels) - 1, 'step')}, below on {share(fall.chance)}"


def _agreement(one: Judgement) -> Cell:
    known = np.isfinite(one.agreement)
    text = f"{'+' * (one.agreement > 0)}{_two(one.agreement)}" if known else "–"
    return Cell(text, value=one.agreement if known else None)


def _passed(one: Judgement) -> Cell:
    if not one.checks:
        return Cell("–")
    passed = sum(one.checks.values())
    return Cell(f"{passed} of {len(one.checks)}", mark=_mark(one.passes), value=passed / len(one.checks))


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _range(low: float, high: float) -> str:
    return "–" if np.isnan(low) else f"{_two(low)} to {_two(high)}"


def _mark(passed: bool | None) -> Literal["good", "bad", ""]:
    return "" if passed is None else "good" if passed else "bad"


def _unknown(judges: Judges) -> str:
    return "too few images" if judges.summary.too_few else "no scores to tell by"


def _plural(words: str) -> str:
    return words.replace("orders", "order", 1).replace("does not", "do not", 1)

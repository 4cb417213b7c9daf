"""The answer in words, built from the data: who leads on what, how surely, and what speaks against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from vexbench.report.palette import axis_question, axis_title
from vexbench.report.words import listing, number, plural, share, span
from vexbench.stats.bootstrap import DRAWS, LEVEL
from vexbench.stats.ranking import Ranks
from vexbench.stats.summary import Summary

FEW = 30
"""Below this many images the page warns that intervals are rough."""
MOST = 3
"""More methods than this are counted, not named."""


@final
@dataclass(frozen=True)
class Finding:
    """What is found on one axis."""

    axis: str
    title: str
    question: str
    lead: str
    evidence: str
    caution: str = ""


def question(summary: Summary) -> str:
    """What the study asks."""
    group = summary.group
    return f"Which explanation can be trusted for {group.model_title} on {group.dataset_title}?"


def headline(summary: Summary) -> str:
    """Who leads overall, in one sentence; honest when nobody does."""
    ranks = summary.overall
    if ranks is None or not summary.candidates:
        return "There is no ranking yet: no metric is known for every method."
    if len(summary.candidates) == 1:
        return f"There is nothing to compare {_names(summary, summary.candidates)} with yet."
    same, others = _same(ranks, ranks.leaders(summary.candidates))
    if not others:
        return f"{_names(summary, same)} {'leads' if len(same) == 1 else 'lead together'} overall."
    return f"No clear leader: {_together(summary, same)} and {_names(summary, others)} cannot be told apart."


def support(summary: Summary) -> list[str]:
    """What the headline rests on, and what speaks against it."""
    ranks = summary.overall
    if ranks is None or len(summary.candidates) < 2:
        return []
    same, _ = _same(ranks, ranks.leaders(summary.candidates))
    best = same[0]
    low, high = ranks.intervals[best]
    axes, images = (
        listing([axis_title(axis).lower() for axis in summary.axes], 9),
        plural(summary.result.total, "image"),
    )
    told = [
        f"{_names(summary, [best])} has mean rank {number(float(ranks.mean[best]))} of {len(summary.methods)} "
        f"(95 % interval {span(low, high)}) over {axes}, and is first{', with its equals,' * (len(same) > 1)} in "
        f"{share(float(ranks.first[same].sum()))} of {DRAWS:,} resamples of the {images}."
    ]
    if len(same) > 1:
        told.append(f"{_names(summary, same)} get the same ranks here: on this network they are one method.")
    ahead = [i for i in summary.controls if ranks.mean[i] <= ranks.mean[best]]
    if ahead:
        told.append(
            f"Careful: {_names(summary, ahead)} ranks no worse, though it knows nothing of the network. "
            "This study has not shown that any method explains it."
        )
    told += _against_random(summary)
    if summary.result.total < FEW:
        told.append(f"With only {images}, intervals are rough.")
    return told


def findings(summary: Summary) -> list[Finding]:
    """Who leads on each axis of quality, then what it costs."""
    found = [_finding(summary, axis, ranks) for axis, ranks in summary.by_axis.items() if len(summary.candidates) > 1]
    if (cost := _cost(summary)) is not None:
        found.append(cost)
    return found


def _finding(summary: Summary, axis: str, ranks: Ranks) -> Finding:
    leaders = ranks.leaders(summary.candidates)
    best, metrics = leaders[0], summary.axes[axis]
    same, others = _same(ranks, leaders)
    if len(leaders) == len(summary.candidates) > 2:
        lead = "No method stands out"
    elif not others:
        lead = _names(summary, same)
    else:
        lead = f"No clear leader between {_names(summary, [*same, *others], most=4)}"
    told = []
    for j in metrics[:3]:
        value, metric = summary.estimate(best, j), summary.metrics[j]
        told.append(f"{metric.name} {metric.arrow} {number(value.mean)} ({span(value.low, value.high)})")
    evidence = f"{_names(summary, [best])}: {', '.join(told)}"
    if len(metrics) > 3:
        evidence += f" and {plural(len(metrics) - 3, 'more metric')}"
    ahead = [i for i in summary.controls if i in ranks.leaders([best, i]) and ranks.mean[i] <= ranks.mean[best]]
    surpassing = listing([summary.methods[i].name for i in ahead])
    caution = (
        f"A control does as well: {surpassing}. It ignores the network, so this axis says little alone."
        if ahead
        else ""
    )
    return Finding(axis, axis_title(axis), axis_question(axis), lead, evidence + ".", caution)


def _cost(summary: Summary) -> Finding | None:
    j = summary.cost_metric
    if j is None:
        return None
    costs = summary.result.mean[:, j]
    known = sorted((i for i in summary.candidates if np.isfinite(costs[i])), key=lambda i: costs[i])
    if not known:
        return None
    cheap = [i for i in known if np.isclose(costs[i], costs[known[0]])]
    least = float(costs[cheap[0]])
    unit = f"{'pass' if least == 1 else 'passes'} through the network per image"
    evidence = f"{number(least)} {unit if summary.metrics[j].id == 'passes' else summary.metrics[j].name.lower()}"
    if (dear := known[-1]) not in cheap:
        evidence += f"; the dearest, {_names(summary, [dear])}, takes {number(float(costs[dear]))}"
    lead = f"Cheapest: {_names(summary, cheap, most=4)}"
    return Finding("cost", axis_title("cost"), axis_question("cost"), lead, f"{evidence}. Not part of the rank.")


def _against_random(summary: Summary) -> list[str]:
    """Methods that do not beat a random map where it matters."""
    verdicts = summary.beats_random
    if verdicts is None:
        return []
    asked = [j for axis in ("faithfulness", "localisation") for j in summary.axes.get(axis, [])]
    failing = [i for i in summary.candidates if any(verdicts[i, j] <= 0 for j in asked)]
    if not asked:
        return []
    if not failing:
        return ["Every method beats the random map on every metric of faithfulness and localisation."]
    if len(failing) > MOST:
        never = [summary.metrics[j].name for j in asked if (verdicts[summary.candidates, j] <= 0).all()]
        winners = [i for i in summary.candidates if i not in failing]
        who = f"Only {_names(summary, winners)}" if winners else "No method"
        none = f"; on {listing(never)}, none does" if never else ""
        beats = "beat" if len(winners) > 1 else "beats"
        return [f"{who} {beats} a random map on every metric of faithfulness and localisation{none}."]
    lost = {i: [summary.metrics[j].name for j in asked if verdicts[i, j] <= 0] for i in failing}
    told = [f"{summary.methods[i].name} ({listing(metrics, most=3)})" for i, metrics in lost.items()]
    return [f"Not shown to beat a random map: {listing(told, most=6)}."]


def _same(ranks: Ranks, leaders: Sequence[int]) -> tuple[list[int], list[int]]:
    """The leaders that rank with the first in (nearly: rounding) every draw, and the rest."""
    equal = [i for i in leaders if np.isclose(ranks.draws[:, i], ranks.draws[:, leaders[0]]).mean() > LEVEL]
    return equal, [i for i in leaders if i not in equal]


def _together(summary: Summary, same: Sequence[int]) -> str:
    return _names(summary, same) + (" (equal)" if len(same) > 1 else "")


def _names(summary: Summary, which: Sequence[int], most: int = 5) -> str:
    return listing([summary.methods[i].name for i in which], most)

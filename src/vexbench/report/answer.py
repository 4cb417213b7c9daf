"""The answer in words, built from the data: who leads on what, how surely, and what speaks against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from vexbench.report.palette import axis_question, axis_title
from vexbench.report.words import listing, number, plural, share, span
from vexbench.stats.bootstrap import DRAWS, FEWEST, LEVEL
from vexbench.stats.race import TOP
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
    if not summary.candidates:
        return "Only controls were run; there is no method to rank."
    if ranks is None:
        return "There is no ranking yet: no metric has enough scores of every method."
    if len(summary.candidates) == 1:
        return f"There is nothing to compare {_names(summary, summary.candidates)} with yet."
    if summary.too_few:
        return f"No leader can be named from {plural(summary.result.total, 'image')}."
    same, others = _same(ranks, ranks.leaders(summary.candidates))
    if not others:
        return f"{_names(summary, same)} {'leads' if len(same) == 1 else 'lead together'} overall."
    if len(same) > 1 and summary.one_method(same):
        return f"No clear leader: {_names(summary, same)} (equal) and {_names(summary, others)} cannot be told apart."
    return f"No clear leader: {_names(summary, [*same, *others])} cannot be told apart."


def support(summary: Summary) -> list[str]:
    """What the headline rests on, and what speaks against it."""
    ranks = summary.overall
    if ranks is None or len(summary.candidates) < 2:
        return []
    if summary.too_few:
        return [
            f"So few images tell nothing of the methods: no interval and no comparison is given below {FEWEST} images."
        ]
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
    if len(same) > 1 and summary.one_method(same):
        told.append(f"{_names(summary, same)} get the same scores here: on this network they are one method.")
    elif len(same) > 1:
        told.append(f"{_names(summary, same)} rank the same here, though their scores differ.")
    ahead = [i for i in summary.controls if i in ranks.leaders([best, i])]
    if ahead:
        rank = "is not told apart from it, and knows" if len(ahead) == 1 else "are not told apart from it, and know"
        told.append(
            f"Careful: {_names(summary, ahead)} {rank} nothing of the network. "
            "This study has not shown that any method explains it."
        )
    told += _against_random(summary)
    sparse = [
        metric.name
        for metric, most in zip(summary.metrics, summary.result.defined.max(0))
        if metric.family != "cost" and 0 < most < FEWEST
    ]
    if sparse:
        told.append(f"Not in the ranking, for want of {FEWEST} images with a score: {listing(sparse)}.")
    if summary.stopped.any():
        told.append(_race(summary))
    if summary.result.total < FEW:
        told.append(f"With only {images}, intervals are rough.")
    return told


def _race(summary: Summary) -> str:
    """What a race has stopped, and when."""
    stopped, seen = summary.stopped, summary.seen[summary.stopped]
    when = str(seen.min()) if seen.min() == seen.max() else f"{seen.min()} to {seen.max()}"
    level = f" at {share(summary.group.race)}" if summary.group.race else ""
    return (
        f"A race: {int(stopped.sum())} of {stopped.size} methods × metrics were stopped after {when} of "
        f"{plural(summary.result.total, 'image')}, their place settled{level}: that they are among the first "
        f"{TOP}, and where, or not. Methods are ranked by the images that both have seen."
    )


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
        spread = f" ({span(value.low, value.high)})" if np.isfinite(value.low) else ""
        told.append(f"{metric.name} {metric.arrow} {number(value.mean)}{spread}")
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
    axes = [axis for axis in ("faithfulness", "localisation") if axis in summary.axes]
    ranked = [j for axis in axes for j in summary.axes[axis]]
    asked = [j for j in ranked if np.isfinite(verdicts[summary.candidates, j]).any()]
    if not asked:
        return []
    where = f"every metric of {listing([axis_title(axis).lower() for axis in axes])}"
    if len(asked) < sum(metric.family in axes for metric in summary.metrics):
        where += " that can be compared"
    beaten = verdicts > 0
    failing = [i for i in summary.candidates if not beaten[i, asked].all()]
    if not failing:
        return [f"Every method beats the random map on {where}."]
    if len(failing) > MOST:
        never = [summary.metrics[j].name for j in asked if not beaten[summary.candidates, j].any()]
        winners = [i for i in summary.candidates if i not in failing]
        who = f"Only {_names(summary, winners)}" if winners else "No method"
        none = f"; on {listing(never)}, none does" if never else ""
        beats = "beat" if len(winners) > 1 else "beats"
        return [f"{who} {beats} a random map on {where}{none}."]
    lost = {i: [summary.metrics[j].name for j in asked if not beaten[i, j]] for i in failing}
    told = [f"{summary.methods[i].name} ({listing(metrics, most=3)})" for i, metrics in lost.items()]
    return [f"Not shown to beat a random map: {listing(told, most=6)}."]


def _same(ranks: Ranks, leaders: Sequence[int]) -> tuple[list[int], list[int]]:
    """The leaders that rank with the first in (nearly: rounding) every draw, and the rest."""
    best = ranks.draws[:, leaders[0]]
    equal = [i for i in leaders if i == leaders[0] or np.isclose(ranks.draws[:, i], best).mean() > LEVEL]
    return equal, [i for i in leaders if i not in equal]


def _names(summary: Summary, which: Sequence[int], most: int = 5) -> str:
    return listing([summary.methods[i].name for i in which], most)

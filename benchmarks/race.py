"""Whether a race keeps what a full study finds, at what share of its passes, and how often it is wrong.

`python benchmarks/race.py`: picks the metric of faithfulness on other photographs (runs/race-pick), runs studies/race.toml
in full (runs/race-full) and as a race (runs/race), and races 200 studies drawn from the full one's images and 200 orders
of them. What is there already is gone on with, but for the race. Writes docs/results/race.md.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import vexbench as vb
from vexbench.bench import run as running
from vexbench.bench.plan import STEP
from vexbench.results.frame import load
from vexbench.stats.bootstrap import means
from vexbench.stats.judging import Judges
from vexbench.stats.race import TOP, mistaken, race
from vexbench.stats.ranking import rank_raced, rank_table
from vexbench.stats.summary import summarise

ROOT = Path(__file__).parents[1]
PAGE, STUDY, RUNS = ROOT / "docs/results/race.md", ROOT / "studies/race.toml", ROOT / "runs"
PICKED = ("deletion", "insertion", "morf_lerf_gap", "road", "average_drop", "average_gain", "adcc", "irof")
INSTEAD = "insertion"
"""Of faithfulness, too, but undecided on these photographs: what a race saves where there is little to decide."""
STUDIES, LEVEL = 200, 0.95


def counted(config: vb.StudyConfig) -> dict[tuple[str, str], int]:
    """Run a study, and count the forward and backward passes of each method and metric; "" is the maps alone."""
    told, maps_of, scores_of = defaultdict(int), running.maps_of, running.scores_of

    def spent(probe) -> int:
        return probe.passes.forward + probe.passes.backward

    def explaining(probe, method):
        before, maps = spent(probe), maps_of(probe, method)
        told[method.name, ""] += spent(probe) - before
        explaining.method = method.name
        return maps

    def scoring(metric, maps, probe, **given):
        before, scores = spent(probe), scores_of(metric, maps, probe, **given)
        told[explaining.method, metric.name] += spent(probe) - before
        return scores

    running.maps_of, running.scores_of = explaining, scoring
    try:
        vb.run(config)
    finally:
        running.maps_of, running.scores_of = maps_of, scores_of
    return told


class Prices:
    """Passes per image of each cell, maps apart, as counted on six images."""

    def __init__(self, methods: list[str], metrics: list[str], config: vb.StudyConfig) -> None:
        with TemporaryDirectory() as scratch:
            few = ({**config.datasets[0].model_dump(), "per_class": 1},)
            told, images = (
                counted(
                    config.model_copy(
                        update={"datasets": vb.StudyConfig(datasets=few).datasets, "out": Path(scratch) / "few"}
                    )
                ),
                6,
            )
        self.cells = np.array([[told[method, metric] / images for metric in metrics] for method in methods])
        self.maps = np.array([told[method, ""] / images for method in methods])

    def of(self, seen: np.ndarray, columns: list[int]) -> float:
        return float((self.cells[:, columns] * seen).sum() + (self.maps * seen.max(1)).sum())


def places(scores: np.ndarray, seen: np.ndarray, higher: np.ndarray) -> np.ndarray:
    """Ranks on each metric, as the report has them."""
    kept = np.where(np.arange(len(scores))[:, None, None] < seen, scores, np.nan)
    once = np.ones((1, len(scores)))
    return rank_raced(rank_table(means(kept, once), higher), kept, seen, higher, draws=once).mean


def first(ranks: np.ndarray) -> list[int]:
    return np.argsort(ranks, kind="stable")[:TOP].tolist()


def replayed(name: str, samples, scores: np.ndarray, higher: np.ndarray, prices: Prices, columns: list[int]) -> str:
    """Races of samples of the images, each against all images of its sample."""
    total, shares = len(scores), []
    settled_places = wrong = rankings = same = in_order = overall = 0
    for rows in samples:
        drawn = scores[rows]
        settled = race(drawn, higher, total=total, looks=range(STEP, total, STEP), level=LEVEL)
        seen, bad = np.where(settled > 0, settled, total), mistaken(drawn, higher, settled)
        all_of = np.full_like(seen, total)
        settled_places, wrong = settled_places + int((settled > 0).sum()), wrong + int(bad.sum())
        rankings += int(bad.any(0).sum())
        full, raced = places(drawn, all_of, higher), places(drawn, seen, higher)
        tops = [(first(one), first(other)) for one, other in zip(full.T, raced.T)]
        same += sum(set(one) == set(other) for one, other in tops)
        in_order += sum(one == other for one, other in tops)
        overall += set(first(full.mean(1))) == set(first(raced.mean(1)))
        shares.append(prices.of(seen, columns) / prices.of(all_of, columns))
    count = len(samples) * len(higher)
    low, high = np.quantile(shares, [0.1, 0.9])
    return (
        f"| {name} | {np.mean(shares):.1%} ({low:.1%}–{high:.1%}) | {wrong} of {settled_places:,} ({wrong / settled_places:.2%}) | {rankings} of {count} | "
        f"{same} of {count} | {in_order} of {count} | {overall} of {len(samples)} |"
    )


def main() -> None:
    study = vb.StudyConfig.read(STUDY)
    other = ({**study.datasets[0].model_dump(), "split": "train", "per_class": 5},)
    vb.run(vb.StudyConfig.read(STUDY, datasets=other, metrics=PICKED, out=RUNS / "race-pick"))
    judged = Judges(summarise(load(RUNS / "race-pick").groups[0]))
    alphas = {judged.summary.metrics[one.metric].id: one.reliability.alpha for one in judged.judgements}
    best = max(alphas, key=lambda name: alphas[name])
    wanted = [pick.name for pick in study.metrics]
    assert best in wanted, f"{best} tells best; name it in {STUDY}"

    more = study.model_copy(update={"metrics": (*study.metrics, *vb.StudyConfig(metrics=[INSTEAD]).metrics)})
    vb.run(more.model_copy(update={"out": RUNS / "race-full"}))
    shutil.rmtree(RUNS / "race", ignore_errors=True)
    spent = sum(counted(vb.StudyConfig.read(STUDY, race=LEVEL, out=RUNS / "race")).values())
    full, raced = (summarise(load(RUNS / name).groups[0]) for name in ("race-full", "race"))
    names, ids = [method.id for method in full.methods], [metric.id for metric in full.metrics]
    assert names == [method.id for method in raced.methods]
    prices = Prices(names, ids, more)
    total = len(full.scores)

    columns = [ids.index(metric.id) for metric in raced.metrics]
    everything = np.full_like(raced.seen, total)
    whole = places(full.scores[:, :, columns], everything, raced.higher)
    told = raced.ranks.mean
    rows = ["| | first three of the full study | of the race | images, mean of the methods |", "|---|---|---|---|"]
    for j, metric in enumerate(raced.metrics):
        tops = (", ".join(full.methods[i].name for i in first(ranks[:, j])) for ranks in (whole, told))
        rows.append(f"| {metric.name} | {' | '.join(tops)} | {raced.seen[:, j].mean():.0f} of {total} |")
    tops = (", ".join(full.methods[i].name for i in first(ranks.mean(1))) for ranks in (whole, told))
    rows.append(f"| overall | {' | '.join(tops)} | {raced.seen.mean():.0f} of {total} |")
    when = ["| | " + " | ".join(metric.name for metric in raced.metrics) + " |", "|---|" + "---|" * len(raced.metrics)]
    when += [
        f"| {method.name} | " + " | ".join(map(str, seen)) + " |" for method, seen in zip(raced.methods, raced.seen)
    ]

    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, total, total) for _ in range(STUDIES)]
    orders = [generator.permutation(total) for _ in range(STUDIES)]
    instead = [ids.index(INSTEAD if ids[j] == best else ids[j]) for j in columns]
    tables = [
        replayed(name, samples, full.scores[:, :, which], full.higher[which], prices, which)
        for name, samples, which in (
            (f"{STUDIES} studies drawn from the images", drawn, columns),
            (f"{STUDIES} orders of the images", orders, columns),
            (f"the orders, with {INSTEAD} for {best}", orders, instead),
        )
    ]
    picked = ", ".join(f"{name} {alpha:.2f}" for name, alpha in sorted(alphas.items(), key=lambda item: -item[1]))
    share = spent / prices.of(everything, columns)
    PAGE.write_text(
        f"""# A race and its full study

`python benchmarks/race.py`, which runs [studies/race.toml](../../studies/race.toml) in full and as a race (`race = {LEVEL}`): {len(names)} methods × {len(columns)} metrics on {total} test photographs of
the Intel set, plain CNN, one metric of each axis that photographs without annotation allow. How a race decides is in [decision 0016](../decisions/0016-races.md).

The metric of faithfulness was first to be {INSTEAD}; the full study then showed that it hardly tells these methods apart on these photographs, so that nearly all of them have to go on to the end. It was picked anew on 30 other photographs,
of the training set, as the one of {len(PICKED)} that orders the methods most alike from image to image (Krippendorff's alpha): {picked}. What a race saves with {INSTEAD} is in the last table.

The full study takes {prices.of(everything, columns):,.0f} forward and backward passes (counted on six images, times {total / 6:.0f}); the race took {spent:,}, counted as it ran: **{share:.1%}**.

{chr(10).join(rows)}

After how many of the {total} images each method was stopped:

{chr(10).join(when)}

## How often it is wrong

Races replayed on the full study's scores, each judged by all images of its own study. A place is wrong if the method is not, by all images, at the place among the first three that the race told when it stopped it, or not outside of them; a ranking, if any of its places is.
Passes are the mean, and in brackets the 10th and the 90th percentile. At most {1 - LEVEL:.0%} of the settled places may be wrong.

| | passes | wrong places | rankings with a wrong place | same first three | in the same order | same first three overall |
|---|---|---|---|---|---|---|
{chr(10).join(tables)}

The first three *overall* are not what a race decides: the mean rank counts all places, and a race leaves those below the third open. They stay the same where metrics are decisive, and often change where they are not.
""",
        encoding="utf-8",
    )
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

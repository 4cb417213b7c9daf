"""What does `precision = "bf16"` do to a study's scores and ranking? Writes docs/results/precision.md.

    python benchmarks/precision.py [--model studies/intel-plain --root ../shared/data/intel] [--out /tmp/precision]

The study of benchmarks/reference.py in both precisions; without a checkpoint the demo network on drawn scenes. Folders
that are there are read.
"""

import time
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import torch
from reference import IMAGES, both, described, options, parsed, ranking
from torch import nn

from vexbench.models.checkpoint import demo_classifier, load_classifier
from vexbench.models.graph import Folded, traced

PAGE = Path(__file__).parents[1] / "docs/results/precision.md"
ROUNDS = 9


def effects(fp32: pl.DataFrame, bf16: pl.DataFrame) -> list[str]:
    """How far each metric's scores, and its ranking of the methods, move: rows of a table."""
    joined = fp32.join(bf16, on=["dataset", "model", "method", "params", "metric", "image"], suffix="_bf16")
    if not len(joined) == len(fp32) == len(bf16):
        raise SystemExit("the two studies do not hold the same scores")
    lines = []
    for (metric,), rows in joined.fill_nan(None).group_by("metric", maintain_order=True):
        one, other = (rows[name].to_numpy() for name in ("score", "score_bf16"))
        apart = np.abs(one - other)[np.isfinite(one) & np.isfinite(other)]
        scale = np.nanmax(np.abs(one)) or 1.0
        means = rows.group_by("method", "params", maintain_order=True).agg(pl.col("score", "score_bf16").mean())
        first, second = (means[name].to_numpy() for name in ("score", "score_bf16"))
        worst = means["method"][int(np.abs(first - second).argmax())]
        pairs = [(a, b) for a, b in combinations(range(len(means)), 2) if first[a] != first[b]]
        swapped = [(a, b) for a, b in pairs if (first[a] - first[b]) * (second[a] - second[b]) <= 0]
        # of the pairs that change places, how far apart they were, beside what the metric tells of any two images
        gap = max((abs(first[a] - first[b]) / scale for a, b in swapped), default=0.0)
        lines.append(
            f"| `{metric}` | {np.median(apart) / scale:.0e} | {apart.max() / scale:.0e} | "
            f"{np.abs(first - second).max() / scale:.0e} | `{worst}` | {len(swapped)} of {len(pairs)} | {gap:.0e} |"
        )
    return lines


def pace(network: nn.Module, size: int) -> list[float]:
    """Time of a folded pass in fp32 and in bf16 over the network's own, medians of interleaved rounds."""
    graph = traced(network.eval())
    if graph is None:
        raise SystemExit("torch.fx cannot follow this network")
    images = torch.rand(32, 3, size, size)
    ways = [network, *(Folded(graph, dtype) for dtype in (torch.float32, torch.bfloat16))]
    rows = []
    with torch.no_grad():
        for _ in range(ROUNDS):
            seconds = []
            for way in ways:
                start = time.perf_counter()
                way(images)
                seconds.append(time.perf_counter() - start)
            rows.append([value / seconds[0] for value in seconds[1:]])
    return [median(column) for column in zip(*rows[1:])]


def main() -> None:
    arguments = parsed(__doc__, "/tmp/precision", IMAGES)
    fp32, bf16 = both(arguments, {"fp32": {}, "bf16": {"precision": "bf16"}})
    classifier = demo_classifier("demo") if arguments.model is None else load_classifier(arguments.model)
    size = classifier.input_size or 150
    folded, coarse = pace(classifier.module, size)
    orders = ranking(fp32.out), ranking(bf16.out)
    same = "the same" if orders[0] == orders[1] else f"another: {', '.join(orders[0])} became {', '.join(orders[1])}"
    page = "\n".join(
        [
            "# Scores in bf16", "",
            "Gradients, and the maps made of them, are those of fp32. On the plain CNN all metrics that score a map keep "
            "their order of methods, or swap such as are near (last column). Occlusion is the exception: its map is made of small differences "
            "between scores, which bf16 rounds away, so that metrics that explain again and compare maps (`mprt`, "
            "`relative_output_stability`) judge another map. Judge occlusion in fp32.", "",
            f"`python benchmarks/precision.py{options(arguments)}`. {described(arguments, fp32.frame())}, with `precision = "
            '"fp32"` and with `"bf16"`. Differences are shares of the metric\'s largest absolute score. Two methods '
            "change places where their means on a metric come in the other order, or come out equal; the last column "
            "says how far apart in fp32 the farthest such two were. "
            f"The overall ranking is {same}.", "",
            f"One pass over 32 images of {size} px takes {folded:.2f} of the plain network's time in fp32 (folded, as "
            f"all scores are) and {coarse:.2f} in bf16.", "",
            "| metric | median difference of a score | largest | largest of a method's mean | of method | pairs of methods that "
            "change places | farthest apart |",
            "|---|---|---|---|---|---|---|",
            *effects(fp32.frame(), bf16.frame()), "",
        ]
    )  # fmt: skip
    print(page)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()

"""Does a study come out the same with all speed-ups and without any? Writes docs/results/reference.md.

    python benchmarks/reference.py [--model studies/intel-plain --root ../shared/data/intel] [--out /tmp/reference]

The same study twice, as it is and with `reference = true`; without a checkpoint the demo network on drawn scenes. Folders that are there are read.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

import vexbench as vb
from vexbench.bench.run import Result
from vexbench.results.frame import load
from vexbench.stats.summary import summarise

PAGE = Path(__file__).parents[1] / "docs/results/reference.md"
IMAGES = 32
METHODS: tuple[Any, ...] = (
    "saliency",
    "input_x_gradient",
    {"name": "integrated_gradients", "steps": 16},
    {"name": "smooth_grad", "samples": 8},
    "guided_backprop",
    "grad_cam",
    "layer_cam",
    "ablation_cam",
    {"name": "occlusion", "patch": 15, "stride": 15},
    {"name": "rise", "masks": 50},
    "lrp_epsilon_plus_flat",
    "random",
)
METRICS: tuple[Any, ...] = (
    {"name": "deletion", "steps": 15},
    {"name": "insertion", "steps": 15},
    {"name": "road", "shares": "20,50,80"},
    "average_drop",
    "average_gain",
    {"name": "irof", "segments": 16},
    {"name": "faithfulness_correlation", "samples": 50},
    {"name": "sensitivity_n", "samples": 20, "sizes": 3},
    {"name": "faithfulness_estimate", "count": 16},
    {"name": "infidelity", "samples": 20},
    {"name": "max_sensitivity", "samples": 1},
    {"name": "relative_output_stability", "samples": 1},
    "sparseness",
    {"name": "mprt", "stages": 2},
    "random_logit",
    "completeness_gap",
)


class Difference(NamedTuple):
    """How far two studies are apart on a metric."""

    metric: str
    largest: float
    """Of any image and method, over the metric's largest absolute score."""
    method: str
    """Where that is."""
    beyond: int
    """Scores that differ by more than 1e-4 so measured."""
    count: int
    means: float
    """Of any method's mean, likewise."""


def compared(first: pl.DataFrame, second: pl.DataFrame) -> list[Difference]:
    """Two studies' scores, metric by metric."""
    keys = ["dataset", "model", "method", "params", "metric", "image"]
    joined = first.join(second, on=keys, suffix="_other")
    if not len(joined) == len(first) == len(second):
        raise SystemExit("the two studies do not hold the same scores")
    found = []
    for (metric,), rows in joined.group_by("metric", maintain_order=True):
        one, other = (rows[name].to_numpy() for name in ("score", "score_other"))
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            raise SystemExit(f"{metric}: defined for other images")
        scale = np.nanmax(np.abs(one))
        apart = np.nan_to_num(np.abs(one - other)) / (scale or 1.0)
        of_methods = rows.fill_nan(None).group_by("method", "params").agg(pl.col("score", "score_other").mean())
        means = (of_methods["score"] - of_methods["score_other"]).abs().max()
        worst = rows["method"][int(apart.argmax())]
        beyond = int((apart > 1e-4).sum())
        found.append(
            Difference(str(metric), float(apart.max()), worst, beyond, len(rows), float(means or 0) / (scale or 1.0))
        )
    return found


def ranking(folder: Path) -> list[str]:
    """The methods of a study, the best first."""
    (group,) = load(folder).groups
    summary = summarise(group)
    return [summary.methods[i].name for i in summary.order]


def table(differences: list[Difference]) -> str:
    """Differences as Markdown."""
    lines = [
        "| metric | largest difference of a score | of method | scores that differ by more than 1e-4 | largest of a method's mean |",
        "|---|---|---|---|---|",
    ]
    for found in differences:
        worst = f"`{found.method}`" if found.largest else "-"
        lines.append(
            f"| `{found.metric}` | {found.largest:.0e} | {worst} | {found.beyond} of {found.count} | {found.means:.0e} |"
        )
    return "\n".join(lines)


def data_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What to study: the checkpoint on the Intel test photographs, or the demo network on drawn scenes."""
    if arguments.model is None:
        return {"models": ["demo"], "datasets": [{"name": "scenes", "per_class": -(-arguments.images // 6)}]}
    photographs = {"name": "intel", "root": str(arguments.root), "per_class": -(-arguments.images // 6)}
    return {"models": [str(arguments.model)], "datasets": [photographs]}


def parsed(description: str | None, out: str, images: int) -> argparse.Namespace:
    """The options of this script and of its like."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser.parse_args()


def both(arguments: argparse.Namespace, settings: dict[str, dict[str, Any]]) -> list[Result]:
    """The same study at each of the settings, in a folder of that name."""
    studies = []
    for name, changes in settings.items():
        start = time.perf_counter()
        config = vb.StudyConfig(
            **data_of(arguments), methods=METHODS, metrics=METRICS, out=arguments.out / name, **changes
        )
        studies.append(vb.run(config))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        for reason, cells in studies[-1].failures().items():
            print(f"{name}: {cells}: {reason}")
    return studies


def described(arguments: argparse.Namespace, frame: pl.DataFrame) -> str:
    """What was studied, in words."""
    model = arguments.model
    shown = "the demo network on drawn scenes" if model is None else f"`{model}` on Intel photographs"
    columns = (frame["method"].n_unique(), frame["metric"].n_unique(), frame["image"].n_unique())
    return f"{shown[0].upper()}{shown[1:]}: {columns[0]} methods × {columns[1]} metrics × {columns[2]} images"


def options(arguments: argparse.Namespace) -> str:
    """What was asked of the script."""
    return "" if arguments.model is None else f" --model {arguments.model} --root {arguments.root}"


def main() -> None:
    arguments = parsed(__doc__, "/tmp/reference", IMAGES)
    plain, fast = both(arguments, {"plain": {"reference": True}, "fast": {}})
    differences = compared(plain.frame(), fast.frame())
    orders = ranking(plain.out), ranking(fast.out)
    same = "identical" if orders[0] == orders[1] else f"not the same: {', '.join(orders[0])}; {', '.join(orders[1])}"
    beyond, count = (sum(getattr(found, name) for found in differences) for name in ("beyond", "count"))
    page = (
        "# With all speed-ups, and without any\n\n"
        f"`python benchmarks/reference.py{options(arguments)}`. {described(arguments, plain.frame())}, as it is and with "
        "`reference = true`, which runs the network as it was written. Differences are shares of the metric's largest "
        f"absolute score. The ranking is {same}; {beyond} of {count} scores differ by more than 1e-4.\n\n"
        f"{table(differences)}\n"
    )
    print(page)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()

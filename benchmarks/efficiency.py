"""A whole study beside the bare passes that it counts: writes docs/results/efficiency.md.

    python benchmarks/efficiency.py --model runs/intel-plain --root ../shared/data/intel [--images 24] [--budget 30m]

All methods and metrics at the preset `quick`; without a checkpoint the demo network on drawn scenes. The study runs in this
process, and every pass that its probes count is counted; on the way, every minute, bare passes of the network are timed:
the plain module, 32 images at a time, forward alone, and forward and backward to the images. Efficiency is what the counted
passes would take so, over what the study took.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from contest import held, root
from torch import Tensor

import vexbench as vb
from vexbench import probe as probing
from vexbench.bench.estimate import estimate
from vexbench.bench.material import prepare
from vexbench.bench.plan import plan
from vexbench.bench.presets import span_of
from vexbench.metrics.cost import short_backward

PAGE = root() / "docs/results/efficiency.md"
BATCH, EVERY, FIRST = 32, 60.0, 4


class Larger:
    """Counts of images that are so many times larger than the study's, in passes of these."""

    def __init__(self, counted: Any, times: float) -> None:
        self.__dict__.update(counted=counted, times=times)

    def __getattr__(self, kind: str) -> float:
        return getattr(self.counted, kind)

    def __setattr__(self, kind: str, value: float) -> None:
        before = getattr(self.counted, kind)
        setattr(self.counted, kind, before + self.times * (value - before))


class Meter:
    """Every pass of every probe, wherever it was made, and the pace of bare passes meanwhile."""

    def __init__(self, classifier: vb.Classifier, images: Tensor) -> None:
        self.classifier, self.images = classifier, images
        self.all = list[probing.Passes]()
        self.paces: dict[str, list[float]] = {"forward": [], "backward": []}
        self.spent, self.next = 0.0, 0.0

    def __enter__(self) -> "Meter":
        make, of = probing.Passes, probing.Probe.of

        def counted(*args: Any) -> probing.Passes:
            self.all.append(make(*args))
            return self.all[-1]

        def scaled(probe: vb.Probe, **given: Any) -> vb.Probe:
            other = of(probe, **given)
            times = other.images.shape[1:].numel() / probe.images.shape[1:].numel()
            if times != 1:
                other.passes = Larger(other.passes, times)  # pyright: ignore[reportAttributeAccessIssue]
            return other

        self.patches = [patch.object(probing, "Passes", counted), patch.object(probing.Probe, "of", scaled)]
        for one in self.patches:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.patches:
            one.stop()

    def pace(self) -> None:
        """Time bare passes; what that takes is not the study's."""
        begun = perf_counter()
        normal = self.classifier.normalise(self.images)

        def forward() -> None:
            with torch.no_grad():
                self.classifier.module(normal)

        def both() -> None:
            leaf = normal.clone().requires_grad_()
            torch.autograd.grad(self.classifier.module(leaf).amax(1).sum(), leaf)

        taken = [median(map(seconds, [work] * 3)) / len(self.images) for work in (forward, both)]
        self.paces["forward"].append(taken[0])
        self.paces["backward"].append(taken[1] - taken[0])
        self.spent += perf_counter() - begun
        self.next = perf_counter() + EVERY

    def progress(self, _doing: str, done: int, total: int) -> None:
        if perf_counter() > self.next:
            self.pace()
            print(f"{done}/{total}", flush=True)

    def total(self, kind: str) -> float:
        return sum(getattr(passes, kind) for passes in self.all)


def seconds(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return perf_counter() - begun


def config(arguments: argparse.Namespace, out: Path) -> vb.StudyConfig:
    per_class = -(-arguments.images // 6)
    data = {"name": "scenes", "per_class": per_class}
    if arguments.model:
        data = {"name": "intel", "root": str(arguments.root), "per_class": per_class}
    return vb.StudyConfig(
        datasets=[data], models=[str(arguments.model or "demo")], preset="quick", budget=arguments.budget, out=out
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--budget", help="leave out what costs most, as vexbench run --budget does")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = config(arguments, Path(folder) / "study")
        (group,) = plan(asked).groups
        images = torch.rand(BATCH, 3, *group.dataset.image(0, group.classifier.input_size).shape[:2])
        meter = Meter(group.classifier, images)
        meter.pace()
        network, begun = held(), perf_counter()
        study = plan(asked)
        prepare(study, study.groups[0])
        price = estimate(study)
        told = price.seconds()
        print(f"vexbench plan: {span_of(told)}, measured in {perf_counter() - begun:.0f} s", flush=True)
        meter.spent = 0.0
        with meter:
            taken = seconds(partial(vb.run, asked, progress=meter.progress)) - meter.spent
        result = vb.Result(asked.out)
        forward, backward = (median(meter.paces[kind]) for kind in ("forward", "backward"))
        short = short_backward(vb.Probe(group.classifier, images[:FIRST])) * forward
        bare = meter.total("forward") * forward + meter.total("backward") * backward + meter.total("partial") * short
        cells, failures = result.frame().select("method", "metric").n_unique(), result.failures()
    rows = [
        f"| counted passes: forward, backward, behind the layer | {', '.join(f'{meter.total(kind):,.0f}' for kind in ('forward', 'backward', 'partial'))} |",
        f"| their time run bare | {span_of(bare)} |",
        f"| the study's time | {span_of(taken)} |",
        f"| **efficiency** | **{bare / taken:.2f}** |",
        f"| what `vexbench plan` said | {span_of(told)} ({told / taken - 1:+.0%}) |" if not arguments.budget else "",
        f"| most memory over that of the network and its bare passes, MiB | {held() - network:.0f} |",
    ]
    flags = "".join(f" --{name} {value}" for name, value in vars(arguments).items() if value is not None)
    page = [
        "# A whole study beside its bare passes",
        "",
        f"`python benchmarks/efficiency.py{flags}`: {arguments.images} images, {cells} results (method × metric), preset `quick`, {torch.get_num_threads()} threads, torch {torch.__version__}.",
        "",
        "| | |",
        "|---|---|",
        *filter(None, rows),
        "",
        f"Bare passes are the plain module's, {BATCH} images at a time, timed {len(meter.paces['forward'])} times on the way: forward {1e3 * forward:.1f} ms an image, backward {1e3 * backward:.1f} ms.",
        "A pass over a mosaic counts by its pixels, a patch of occlusion as a whole pass.",
    ]
    print("\n".join(page), "\n", failures)
    PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A whole study beside the bare passes that it counts: writes docs/results/efficiency.md.

    python benchmarks/efficiency.py --model studies/intel-plain --root ../shared/data/intel [--images 24] [--out runs/all]
    python benchmarks/efficiency.py --images 6 --budget 90s     part of `make bench`: no page

All methods and metrics at the preset `quick`; without a checkpoint the demo network on drawn scenes. The study runs in this
process, and every pass that its probes count is counted; on the way, every minute, bare passes of the network are timed:
the plain module, 32 images at a time, forward alone, and forward and backward to the images. Efficiency is what the counted
passes would take so, over what the study took.

With `--out` it goes on when called again after a stop: each minute's passes and seconds stand there, beside the study.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
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
KINDS = ("forward", "backward", "partial")


class Larger:
    """Counts of images that are so many times larger than the study's, in passes of these."""

    def __init__(self, counted: Any, times: float) -> None:
        self.__dict__.update(counted=counted, times=times)

    def __getattr__(self, kind: str) -> int:
        return getattr(self.counted, kind)

    def __setattr__(self, kind: str, value: int) -> None:
        before = getattr(self.counted, kind)
        setattr(self.counted, kind, before + round(self.times * (value - before)))


class Meter:
    """Every pass of every probe, wherever it was made, and the pace of bare passes meanwhile, a line a minute in a file."""

    def __init__(self, classifier: vb.Classifier, images: Tensor, file: Path) -> None:
        self.classifier, self.images, self.file = classifier, images, file
        self.all = list[probing.Passes]()
        self.seen = dict.fromkeys(KINDS, 0)
        self.network = held()
        self.next = 0.0

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

    def start(self) -> None:
        self.begun, self.next = perf_counter(), perf_counter() + EVERY

    def note(self) -> None:
        """What was done since the last note, and how long bare passes take now, which is not the study's time."""
        taken, total = perf_counter() - self.begun, {kind: self.total(kind) for kind in KINDS}
        line = {kind: total[kind] - self.seen[kind] for kind in KINDS}
        line |= {"seconds": taken, "memory": held() - self.network, **self.pace()}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.seen = total
        self.start()

    def pace(self) -> dict[str, float]:
        normal = self.classifier.normalise(self.images)

        def forward() -> None:
            with torch.no_grad():
                self.classifier.module(normal)

        def both() -> None:
            leaf = normal.clone().requires_grad_()
            torch.autograd.grad(self.classifier.module(leaf).amax(1).sum(), leaf)

        alone, together = (median(map(seconds, [work] * 3)) / len(self.images) for work in (forward, both))
        return {"pace of forward": alone, "pace of backward": together - alone}

    def progress(self, _doing: str, done: int, total: int, _share: float) -> None:
        if perf_counter() > self.next:
            self.note()
            print(f"{done}/{total}", flush=True)

    def total(self, kind: str) -> int:
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
        datasets=[data],
        models=[str(arguments.model or "demo")],
        preset="quick",
        budget=arguments.budget,
        out=out,
    )


def told(asked: vb.StudyConfig) -> float:
    """Seconds, as `vexbench plan` says before the study."""
    with tempfile.TemporaryDirectory() as folder:
        study = plan(asked.model_copy(update={"out": Path(folder)}))
        prepare(study, study.groups[0])
        return estimate(study).seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--budget", help="leave out what costs most, as vexbench run --budget does")
    parser.add_argument("--out", type=Path, help="keep the study and the minutes here, to go on after a stop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        text = measured(config(arguments, out / "study"), out)
    flags = "".join(f" --{name} {value}" for name, value in vars(arguments).items() if value is not None)
    text = text.format(f"`python benchmarks/efficiency.py{flags}`: {arguments.images} images")
    print(text)
    if not arguments.budget:
        PAGE.write_text(text, encoding="utf-8")


def measured(asked: vb.StudyConfig, out: Path) -> str:
    """The page, once the study is done, but for the words on how it was called."""
    price, minutes = out / "plan.json", out / "minutes.jsonl"
    (group,) = plan(asked).groups
    images = torch.rand(BATCH, 3, *group.dataset.image(0, group.classifier.input_size).shape[:2])
    meter = Meter(group.classifier, images, minutes)
    short = short_backward(vb.Probe(group.classifier, images[:FIRST]))
    meter.pace()
    if not price.exists():
        price.write_text(json.dumps(told(asked)), encoding="utf-8")
        print(f"vexbench plan: {span_of(json.loads(price.read_text()))}", flush=True)
    with meter:
        meter.start()
        vb.run(asked, progress=meter.progress)
        meter.note()
    result = vb.Result(asked.out)
    print({reason: len(where) for reason, where in result.failures().items()})
    cells = result.frame().select("method", "metric").n_unique()
    lines = [json.loads(line) for line in minutes.read_text(encoding="utf-8").splitlines()]
    return page(lines, None if asked.budget else json.loads(price.read_text()), short, cells)


def page(lines: list[dict[str, float]], told: float | None, short: float, cells: int) -> str:
    forward, backward = (median(line[f"pace of {kind}"] for line in lines) for kind in ("forward", "backward"))
    passes = {kind: sum(line[kind] for line in lines) for kind in KINDS}
    # each minute's passes at that minute's pace
    bare = sum(
        (line["forward"] + line["partial"] * short) * line["pace of forward"]
        + line["backward"] * line["pace of backward"]
        for line in lines
    )
    taken = sum(line["seconds"] for line in lines)
    rows = [
        f"| counted passes: forward, backward, behind the layer | {', '.join(f'{count:,.0f}' for count in passes.values())} |",
        f"| their time run bare | {span_of(bare)} |",
        f"| the study's time | {span_of(taken)} |",
        f"| **efficiency** | **{bare / taken:.2f}** |",
        "" if told is None else f"| what `vexbench plan` said | {span_of(told)} ({told / taken - 1:+.0%}) |",
        f"| most memory over that of the process with its network, MiB | {max(line['memory'] for line in lines):.0f} |",
    ]
    return "\n".join(
        [
            "# A whole study beside its bare passes",
            "",
            f"{{}}, {cells} results (method × metric), preset `quick`, {torch.get_num_threads()} threads, torch {torch.__version__}.",
            "",
            "| | |",
            "|---|---|",
            *filter(None, rows),
            "",
            f"Bare passes are the plain module's, {BATCH} images at a time, timed {len(lines)} times on the way: "
            f"forward {1e3 * forward:.1f} ms an image, backward {1e3 * backward:.1f} ms; each minute's passes count at that minute's pace.",
            "A pass over a mosaic counts by its pixels, a patch of occlusion as a whole pass. Of a study that went on after a stop, times are the sum and memory is the most of any go.",
            "",
        ]
    )


if __name__ == "__main__":
    main()

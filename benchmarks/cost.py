"""What every method costs: passes, and time over one bare forward pass of the same images.

torchvision's resnet18 with random weights, two images of 150 pixels. Prints the table and writes docs/results/cost.md.
"""

from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch.nn import functional
from torchvision.models import resnet18

import vexbench as vb
from vexbench.bench.presets import PRESETS
from vexbench.metrics.cost import short_backward
from vexbench.registry import METHODS

PAGE = Path(__file__).parents[1] / "docs/results/cost.md"
FEWER = ("ss_cam", "is_cam", "rise", "sobol", "extremal_perturbation")
"""Methods of thousands of passes, run at the preset `quick`."""


def main() -> None:
    torch.manual_seed(0)
    classifier = vb.Classifier(resnet18(num_classes=6).eval(), class_names="abcdef", target_layer="layer4")
    # soft blobs, since superpixels of noise are none
    images, targets = functional.interpolate(torch.rand(2, 3, 6, 6), (150, 150), mode="bilinear"), [0, 1]

    def probe() -> vb.Probe:
        return vb.Probe(classifier, images, targets)

    def bare() -> float:
        start = perf_counter()
        probe().logits  # noqa: B018
        return perf_counter() - start

    short = short_backward(probe())
    lines = ["| method | family | passes | time |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name, entry in METHODS.items():
        unit, fresh = median(bare() for _ in range(5)) / 2, probe()  # a pass takes four images, of which two are ours
        fewer = PRESETS["quick"][name] if name in FEWER else {}
        shown = "".join(f", {key} = {value} (default {entry.bind().params[key]})" for key, value in fewer.items())
        start = perf_counter()
        try:
            entry.function(fresh, **entry.bind(**fewer).params)
        except vb.NotApplicable as reason:
            lines.append(f"| `{name}` | {entry.family} | {reason} | |")
        else:
            took, count = perf_counter() - start, fresh.passes
            passes = (count.forward + count.backward + count.partial * short) / len(images)
            lines.append(f"| `{name}`{shown} | {entry.family} | {passes:.4g} | {took / unit:.3g} |")
        print(lines[-1], flush=True)
    head = (
        "# What every method costs\n\n`python benchmarks/cost.py`, part of `make bench`: resnet18 at 150 pixels, two "
        f"images, each method at its defaults unless it says otherwise, on {torch.get_num_threads()} threads with torch {torch.__version__}.\n"
        "Passes are counted, in forward passes per image. Time is per image, over that of one image in a bare forward pass "
        "of four, measured once; since passes take four images, a method of one pass pays for two here.\n\n"
    )
    PAGE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

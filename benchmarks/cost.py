"""What every method costs at its defaults: passes, and time over one bare forward pass of the same images.

torchvision's resnet18 with random weights, four images of 150 pixels. Prints the table and writes docs/results/cost.md.
"""

from pathlib import Path

import torch
from torchvision.models import resnet18

import vexbench as vb
from vexbench.registry import METHODS

PAGE = Path(__file__).parents[1] / "docs/results/cost.md"


def main() -> None:
    torch.manual_seed(0)
    classifier = vb.Classifier(resnet18(num_classes=6).eval(), class_names="abcdef", target_layer="layer4")
    images, targets = torch.rand(4, 3, 150, 150), [0, 1, 2, 3]
    lines = ["| method | family | passes | time |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name, entry in METHODS.items():
        maps = torch.zeros(4, 150, 150)
        try:
            passes, seconds = (
                float(vb.evaluate(classifier, images, targets, maps, metric, explain=name)[0])
                for metric in ("passes", "seconds_ratio")
            )
        except vb.NotApplicable as reason:
            lines.append(f"| `{name}` | {entry.family} | {reason} | |")
        else:
            lines.append(f"| `{name}` | {entry.family} | {passes:.4g} | {seconds:.3g} |")
        print(lines[-1], flush=True)
    head = (
        "# What every method costs\n\n`python benchmarks/cost.py`, part of `make bench`: resnet18 at 150 pixels, four images, each method at its defaults, on "
        f"{torch.get_num_threads()} threads with torch {torch.__version__}.\nPasses are counted, in forward passes per image; time is in units of one bare forward "
        "pass of the same four images, measured once.\n\n"
    )
    PAGE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

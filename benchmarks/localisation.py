"""Mean relevance mass in the exact mask of the drawn scenes, for every method: prints the table of docs/results/scenes.md.

    python benchmarks/localisation.py [--per-class 4]

The shipped network, its predicted classes, the scenes that it gets right, each method at its defaults. The interval is
a paired bootstrap's, of the difference from the random control on the same images.
"""

import argparse
import time

import numpy as np
import torch

import vexbench as vb
from vexbench.registry import METHODS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=4)
    drawn = vb.datasets()["scenes"].function(per_class=parser.parse_args().per_class)
    classifier = vb.demo_classifier()
    images = torch.from_numpy(np.stack([drawn.image(i, 96) for i in range(len(drawn))])).permute(0, 3, 1, 2) / 255
    labels = torch.tensor(drawn.labels)
    right = (classifier.logits(images).argmax(1) == labels).nonzero()[:, 0].tolist()
    images, labels = images[right], labels[right]
    regions = torch.from_numpy(np.stack([drawn.region(i, drawn.labels[i], 96) for i in right]))

    def mass(name: str) -> np.ndarray:
        maps = vb.explain(classifier, images, labels, name)
        return vb.evaluate(classifier, images, labels, maps, "relevance_mass_accuracy", regions=regions).numpy()

    chance = mass("random")
    print(f"{len(right)} scenes, {float(regions.float().mean()):.3f} of their pixels in the mask\n")
    print("| method | family | mass in the mask | more than random (95 %) | seconds |\n|---|---|---|---|---|")
    source = np.random.default_rng(0)
    for name, entry in METHODS.items():
        start = time.perf_counter()
        try:
            found = mass(name)
        except vb.NotApplicable as reason:
            print(f"| `{name}` | {entry.family} | not defined: {reason} | | |", flush=True)
            continue
        gain = found - chance
        means = np.nanmean(gain[source.integers(0, len(gain), (2000, len(gain)))], axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        verdict = "" if low > 0 else ", **not shown**"
        took = time.perf_counter() - start
        print(
            f"| `{name}` | {entry.family} | {np.nanmean(found):.3f} | "
            f"{np.nanmean(gain):+.3f} ({low:+.3f} to {high:+.3f}){verdict} | {took:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""What a pass takes where the memory that it frees stays at hand, and where not; see docs/decisions/0014.

    python benchmarks/pages.py

Milliseconds an image, scores through the folded graph and gradients through the network itself, in passes of 64 and 32
of 64 images: the least of three rounds, each behind an untimed one, without and with in turns.
"""

from contextlib import nullcontext
from itertools import product
from time import perf_counter

import torch
from torchvision import models

import vexbench as vb
from vexbench.memory import give_back, kept
from vexbench.models.networks import PlainCNN
from vexbench.models.pretrained import load_packaged

IMAGES, SIZES, ROUNDS = 64, (64, 32), 3
NETWORKS = {
    "demo network, 96 px": (lambda: vb.demo_classifier().module, 96),
    "plain CNN, 150 px": (lambda: PlainCNN(6), 150),
    "resnet18, 150 px": (models.resnet18, 150),
    "densenet121, 150 px": (models.densenet121, 150),
    "mobilenet_v3_small, 224 px": (models.mobilenet_v3_small, 224),
    "tf_efficientnet_lite0, 224 px": (lambda: load_packaged("tf_efficientnet_lite0", 1000), 224),
}


def scores(probe: vb.Probe, images: torch.Tensor) -> None:
    probe.scores([images])


def gradients(probe: vb.Probe, images: torch.Tensor) -> None:
    leaf = images.clone().requires_grad_()
    torch.autograd.grad(probe.classifier.module(leaf)[:, 0].sum(), leaf)


def main() -> None:
    torch.manual_seed(0)
    print(f"| network | {' | '.join(f'{kind}, {size}' for kind in ('scores', 'gradients') for size in SIZES)} |")
    print(f"|{'---|' * (1 + 2 * len(SIZES))}")
    for name, (make, side) in NETWORKS.items():
        classifier, images = vb.Classifier(make().eval(), input_size=side), torch.rand(IMAGES, 3, side, side)
        cells = []
        for ask, size in product((scores, gradients), SIZES):
            probe = vb.Probe(classifier, images[:size], [0] * size)
            taken = {nullcontext: list[float](), kept: list[float]()}
            for _, (context, seconds) in product(range(ROUNDS), taken.items()):
                with context():
                    for _ in ("untimed", "timed"):
                        start = perf_counter()
                        for part in images.split(size):
                            ask(probe, part)
                seconds.append(perf_counter() - start)
                give_back()
            cells.append(" → ".join(f"{1e3 / IMAGES * min(seconds):.1f}" for seconds in taken.values()))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

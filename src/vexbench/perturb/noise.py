"""Noisy copies of images, the same for every method that asks."""

from collections.abc import Iterator

import torch

from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Images


def gaussian(probe: Probe, samples: int) -> Iterator[Images]:
    """Standard normal noise, one (N, 3, H, W) per draw, seeded by image and draw."""
    for draw in range(samples):
        yield torch.stack(
            [
                torch.randn(image.shape, generator=generator(probe.seed, "gaussian", key, draw), dtype=torch.float32)
                for image, key in zip(probe.images, probe.fingerprints, strict=True)
            ]
        ).to(probe.images.device)


def uniform(probe: Probe, samples: int) -> Iterator[Images]:
    """Uniform noise in [-1, 1], one (N, 3, H, W) per draw, seeded by image and draw."""
    for draw in range(samples):
        yield torch.stack(
            [
                2 * torch.rand(image.shape, generator=generator(probe.seed, "uniform", key, draw), dtype=torch.float32)
                - 1
                for image, key in zip(probe.images, probe.fingerprints, strict=True)
            ]
        ).to(probe.images.device)

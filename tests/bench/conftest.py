"""A study of nothing but noise: cats, dogs, and a network that never saw either."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vexbench as vb


@pytest.fixture(scope="module")
def photographs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a class each, of as many as a module's EACH says."""
    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(request.module.EACH):
            Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def classifier() -> vb.Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
    return vb.Classifier(network, class_names=["cat", "dog"], input_size=20)

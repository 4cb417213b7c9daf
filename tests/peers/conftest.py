"""The comparisons themselves are in benchmarks/, where they also print the tables of docs/peers.md."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def small_network(request: pytest.FixtureRequest) -> nn.Module:
    """A small network; a module's SPREAD is that of its last weights, its ACTIVATION the one it has."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        activation = getattr(request.module, "ACTIVATION", nn.ReLU)()
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), activation, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 4)
        )
        nn.init.normal_(module[4].weight, 0, getattr(request.module, "SPREAD", 0.5))
    return module.eval()

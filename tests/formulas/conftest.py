"""Networks whose explanations are known in closed form."""

import pytest
import torch
from torch import nn


class Score(nn.Module):
    """Logits (f(x), 0) for a function of the image."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        score = self.function(images)
        return torch.stack([score, 0 * score], 1)


@pytest.fixture
def score():
    return Score


@pytest.fixture
def weights():
    """One weight per colour and pixel, of both signs."""
    return torch.randn(3, 24, 36, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def smooth_network():
    """No kink anywhere: softplus, average pooling, tanh."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.Softplus(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.Softplus(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 3 * 4, 12),
            nn.Tanh(),
            nn.Linear(12, 5),
        )


@pytest.fixture
def placed_network():
    """The head sees where a feature is, so that gradients differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 6 * 9, 12),
            nn.Tanh(),
            nn.Linear(12, 5),
        )

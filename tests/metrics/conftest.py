import pytest
import torch
from torch import nn

from vexbench.models.base import Classifier
from vexbench.probe import Probe


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Tensors here are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Linear(nn.Module):
    """Logits (Σ w·x + bias, 0): what each pixel is worth is known exactly."""

    def __init__(self, weights, bias=0.0):
        super().__init__()
        self.register_buffer("weights", weights)
        self.bias = bias

    def forward(self, images):
        score = (images * self.weights).sum((1, 2, 3)) + self.bias
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.fixture
def linear_probe():
    """A probe of class 0 on a linear network, the same weight for all colours."""

    def build(images, weights, bias=0.0, **options):
        classifier = Classifier(Linear(weights.expand(3, *weights.shape), bias))
        return Probe(classifier, images, [0] * len(images), **options)

    return build


@pytest.fixture
def network():
    """A few convolutions with batch norm, pooling and a linear head, in training mode: about 2,000 weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )
        module[1].running_mean.normal_(0, 0.1)
        module[1].running_var.uniform_(0.5, 2)
        module[1].weight.data.uniform_(0.5, 2)
    return module


@pytest.fixture
def classifier(network):
    return Classifier(network, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2), target_layer="4")


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def maps():
    return torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(2))

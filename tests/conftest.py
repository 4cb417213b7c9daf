"""Networks and images that tests share: small, random, and awkward on purpose."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vexbench.models.base import Classifier

CLASSES = 5

# for networks this small a second thread costs ten times what it gives, above all beside other work or under xdist
torch.set_num_threads(1)


def gap() -> nn.Module:
    """Convolution, batch norm and ReLU, then global average pooling and one linear layer: CAM is defined."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, CLASSES),
    )


class InPlace(nn.Module):
    """One in-place ReLU for everything: behind the features, in a residual block, and in the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.inner, self.outer = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 10, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.hidden, self.head = nn.Linear(10, 16), nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.first(images))
        inner = self.norm(self.outer(self.relu(self.inner(features))))
        inner += features
        features = self.relu(self.last(self.relu(inner)))
        return self.head(self.relu(self.hidden(features.mean((2, 3)))))


class Functional(nn.Module):
    """Nothing but convolutions are modules: ReLU, pooling and flattening are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.max_pool2d(functional.relu(self.first(images)), 2)
        features = functional.relu(self.last(features))
        return self.head(functional.adaptive_avg_pool2d(features, 1).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"gap": gap, "inplace": InPlace, "functional": Functional}


def build(name: str) -> nn.Module:
    """A network of `NETWORKS` with random weights and statistics, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = NETWORKS[name]()
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)  # torch's default lets the signal fade from layer to layer
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2)
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias, 0, 0.1)
    return module.eval()


@pytest.fixture(params=NETWORKS)
def network(request):
    """Each of the networks in turn."""
    return build(request.param)


@pytest.fixture
def gap_network():
    return build("gap")


@pytest.fixture
def inplace_network():
    return build("inplace")


@pytest.fixture
def functional_network():
    return build("functional")


@pytest.fixture
def classifier(network):
    return Classifier(network, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))


@pytest.fixture
def images():
    """Nine images that are not square: soft blobs of colour with some grain, so that places differ."""
    source = torch.Generator().manual_seed(1)
    blobs = functional.interpolate(torch.rand(9, 3, 4, 6, generator=source), (24, 36), mode="bilinear")
    return 0.9 * blobs + 0.1 * torch.rand(blobs.shape, generator=source)


@pytest.fixture
def targets():
    return torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])

"""DeepLIFT against captum, whose hooks see modules that are used once."""

import pytest
import torch
from torch import nn

import vexbench as vb

attr = pytest.importorskip("captum.attr", reason="captum is not installed", exc_type=ImportError)


def network(*middle: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), *middle, nn.Flatten(), nn.Linear(8 * 5 * 5, 5)).double().eval()


def captum(module: nn.Module, images: torch.Tensor, targets: list[int]) -> torch.Tensor:
    attribution = attr.DeepLift(module).attribute(images.double(), images.double() * 0, torch.tensor(targets))
    return attribution.sum(1).detach().float()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "middle", [(nn.ReLU(), nn.AvgPool2d(2)), (nn.ReLU(), nn.MaxPool2d(2)), (nn.Sigmoid(), nn.MaxPool2d(2))]
)
def test_captum_gives_the_same(middle):
    module, images = network(*middle), torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    ours = vb.explain(vb.Classifier(module), images, [0, 1, 2], "deep_lift")
    torch.testing.assert_close(ours, captum(module, images, [0, 1, 2]), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_captum_does_not_rescale_behind_max_pooling():
    """A ReLU behind max pooling hands back its gradient in captum 0.9.0, and the map does not sum to the difference.

    What decides: DeepLIFT's summation to delta. Where this fails captum has been mended.
    """
    module, images = network(nn.MaxPool2d(2), nn.ReLU()), torch.rand(3, 3, 12, 12)
    difference = (module(images.double()) - module(images.double() * 0))[range(3), range(3)].detach().float()
    ours = vb.explain(vb.Classifier(module), images, [0, 1, 2], "deep_lift").sum((1, 2))
    torch.testing.assert_close(ours, difference, rtol=1e-4, atol=1e-5)
    assert (captum(module, images, [0, 1, 2]).sum((1, 2)) - difference).abs().max() > 1e-2 * difference.abs().max()

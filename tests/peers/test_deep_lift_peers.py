"""DeepLIFT against captum, whose hooks see modules that are used once."""

import agreement_table as table
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
@pytest.mark.parametrize(
    ("middle", "off"),
    [
        ((nn.ReLU(), nn.Conv2d(8, 8, 1), nn.MaxPool2d(2)), (False, False)),
        ((nn.MaxPool2d(2), nn.ReLU()), (True, False)),  # both hook the tensor between them, in the wrong order
        ((nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)), (True, False)),
        ((nn.ReLU(), nn.Conv2d(8, 8, 1), nn.MaxPool2d(3, 2, 1)), (True, True)),  # of overlapping windows one is kept
    ],
    ids=["pool", "pool-relu", "relu-pool", "overlapping"],
)
def test_where_captums_sum_is_not_the_difference(middle, off):
    """What decides: the map sums to the difference of the logits (Shrikumar et al. 2017, eq. 1), as ours does.

    With a copy between max pooling and its neighbours captum's does too, but for windows that overlap.
    """
    module = network(*middle)
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    # from a plain image every window is a tie
    start = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(2)).expand_as(images)
    targets = [0, 1, 2]
    difference = (module(images.double()) - module(start.double()))[range(3), targets].detach().float()
    separate = table.as_modules(table.case_of(vb.Classifier(module, target_layer="0"), images)).classifier.module
    sums = [
        attr.DeepLift(net).attribute(images.double(), start.double(), torch.tensor(targets)).sum((1, 2, 3)).float()
        for net in (module, separate)
    ]
    errors = [float((found.detach() - difference).abs().max() / difference.abs().max()) for found in sums]
    assert tuple(error > 1e-2 for error in errors) == off, errors


def test_ours_sums_to_the_difference_where_windows_overlap():
    module = network(nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    for baseline, level in (("black", 0.0), ("grey", 0.5)):
        logits = module(images.double()) - module(torch.full_like(images, level).double())
        ours = vb.explain(vb.Classifier(module), images, [0, 1, 2], "deep_lift", baseline=baseline).sum((1, 2))
        torch.testing.assert_close(ours, logits[range(3), range(3)].detach().float(), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_mirrored_images_have_mirrored_maps():
    """Of a window's equals in a plain baseline captum takes the first, so that left and right are not alike."""
    module = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.MaxPool2d(2), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = module.double().eval()
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    classifier = vb.Classifier(module)
    ours, mirrored = (
        vb.explain(classifier, seen, [0, 1], "deep_lift", baseline="grey") for seen in (images, images.flip(3))
    )
    torch.testing.assert_close(mirrored.flip(2), ours, rtol=1e-4, atol=1e-7)
    theirs = [
        attr.DeepLift(module).attribute(seen.double(), torch.full_like(seen, 0.5).double(), torch.tensor([0, 1])).sum(1)
        for seen in (images, images.flip(3))
    ]
    assert not torch.allclose(theirs[1].flip(2), theirs[0], rtol=1e-3, atol=1e-6)

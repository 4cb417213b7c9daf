"""CAM and gradient methods against pytorch-grad-cam, torchcam and captum; what differs is reproduced."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import vexbench as vb

ROOT = Path(__file__).parents[2]


sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    cams = import_module("agreement_cams")
finally:
    sys.path.remove(str(ROOT / "benchmarks"))


def installed(pair):
    pytest.importorskip(
        {"pytorch-grad-cam": "pytorch_grad_cam"}.get(pair.library, pair.library),
        reason=f"{pair.library} is not installed",
        exc_type=ImportError,
    )


def name(item):
    return f"{item[0].method}-{item[0].library}"


def case_of(classifier, count, side):
    images = cams.blobs(count, side)
    return classifier, images, classifier.logits(images).detach().argmax(1)


@pytest.fixture(scope="module", params=["resnet18", "demo"])
def case(request):
    return case_of(cams.resnet18() if request.param == "resnet18" else vb.demo_classifier(), 2, 96)


@pytest.fixture(scope="module")
def small_case():
    """Few passes: the trained network of the package has 128 channels, on images of half its size."""
    return case_of(vb.demo_classifier(), 2, 48)


@pytest.mark.parametrize("item", cams.SAME, ids=name)
def test_same_maps(case, item):
    """Measured: 1 − 6e-6 for FullGrad, whose peer adds 1e-7 to each channel's maximum; 1 − 1e-12 for the others."""
    pair, chosen = item
    installed(pair)
    ours, theirs = vb.explain(*case, pair.method, **chosen), pair.maps(*case)
    assert cams.correlations(ours, theirs).min() >= (0.9999 if pair.method == "full_grad" else 0.99999999)


@pytest.mark.parametrize("item", cams.MASKING, ids=name)
def test_same_maps_of_many_passes(small_case, item):
    """Measured: 1 − 3e-6 where torchcam scales masks before it resizes them, and we after; Ablation-CAM 1 − 3e-12.

    Ablation-CAM is ours in closed form here, and theirs by passes.
    """
    pair, chosen = item
    installed(pair)
    ours, theirs = vb.explain(*small_case, pair.method, **chosen), pair.maps(*small_case)
    assert cams.correlations(ours, theirs).min() >= (0.95 if pair.method == "ss_cam" else 0.9999)


@pytest.mark.parametrize("item", cams.OTHER, ids=name)
def test_what_differs_is_explained(small_case, item):
    """Their variant of the formula, from our activations, gradients and passes, gives their maps."""
    pair, _, variant = item
    installed(pair)
    theirs = pair.maps(*small_case)
    assert cams.correlations(variant(vb.Probe(*small_case), theirs), theirs).min() >= 0.999999


@pytest.mark.parametrize("item", cams.OTHER[1:], ids=name)
def test_what_differs_still_does(small_case, item):
    """Where this fails the library has been mended."""
    pair, chosen, _ = item
    installed(pair)
    ours = vb.explain(*small_case, pair.method, **chosen)
    assert cams.correlations(ours, pair.maps(*small_case)).min() < 0.9999


class Overwritten(nn.Module):
    """Like torchvision's densenets: a functional ReLU behind the target layer, in place or not."""

    def __init__(self):
        super().__init__()
        self.inplace, self.features = True, nn.Conv2d(3, 12, 3, stride=2)
        self.hidden, self.head = nn.Conv2d(12, 8, 3), nn.Linear(8, 5)

    def forward(self, images):
        features = functional.relu(self.features(images), inplace=self.inplace)
        return self.head(self.hidden(features).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "item", [item for item in cams.SAME if item[0].method in ("xgrad_cam", "finer_cam", "eigen_cam")], ids=name
)
def test_libraries_see_features_that_an_in_place_relu_has_overwritten(item):
    """That is why they differ on densenet121: what they record is a view of what the ReLU then clears.

    Without the in-place ReLU, which changes nothing in the network, theirs are ours; ours are the same with it.
    """
    pair, chosen = item
    installed(pair)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Overwritten().eval()
    case = case_of(vb.Classifier(network, target_layer="features"), 2, 32)
    ours, theirs = [], []
    for network.inplace in (True, False):
        ours.append(vb.explain(*case, pair.method, **chosen))
        theirs.append(pair.maps(*case))
    assert torch.equal(*ours)
    assert cams.correlations(ours[0], theirs[0]).min() < 0.999
    assert cams.correlations(ours[0], theirs[1]).min() > 0.9999

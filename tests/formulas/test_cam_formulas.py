"""Class activation maps against their equations in float64, and against each other where they coincide."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS

LAST = 4
"""Where the head of `placed_network` begins."""


def native(name, probe):
    """The map at the resolution of the target layer."""
    return METHODS[name].function(probe)


def normalised(maps):
    maps = maps.relu()
    assert (maps.amax((1, 2)) > 0).all()
    return maps / maps.amax((1, 2), keepdim=True)


def reference(network, images, targets, cut=LAST):
    """Activations and gradients in float64, without hooks: the network is cut by hand."""
    network = deepcopy(network).double()
    activations = network[:cut](images.double()).detach().requires_grad_()
    logits = network[cut:](activations)[range(len(images)), targets]
    return activations.detach(), torch.autograd.grad(logits.sum(), activations)[0]


def assert_close(maps, expected, tolerance=1e-5):
    assert (maps - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.fixture
def probe(placed_network, images, targets):
    return vb.Probe(vb.Classifier(placed_network, target_layer="3"), images, targets)


def test_cam_grad_cam_and_hires_cam_are_one_behind_global_average_pooling(gap_network, images):
    """Also after resizing to the image, which is linear; the positive parts are compared."""
    probe = vb.Probe(vb.Classifier(gap_network), images)
    maps = {name: normalised(native(name, probe)) for name in ("cam", "grad_cam", "hires_cam")}
    assert (maps["cam"] - maps["grad_cam"]).abs().max() <= 1e-5
    assert (maps["cam"] - maps["hires_cam"]).abs().max() <= 1e-5
    assert maps["cam"].std() > 0.1


def test_cam_sums_to_the_logit(gap_network, images, targets):
    """Zhou et al. eq. 1-2: the mean of the map is the logit without its bias."""
    classifier = vb.Classifier(gap_network)
    maps = native("cam", vb.Probe(classifier, images, targets)).mean((1, 2))
    logits = classifier.logits(images).detach()[range(9), targets]
    torch.testing.assert_close(maps, logits - gap_network[-1].bias.detach()[targets], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-6])
def test_cam_is_refused_behind_max_pooling_however_faint_the_head(gap_network, images, targets, size, bias):
    head = nn.Linear(12, 5, bias=bias)
    with torch.no_grad():
        head.weight *= size
    network = nn.Sequential(*gap_network[:6], nn.AdaptiveMaxPool2d(1), nn.Flatten(), head)
    with pytest.raises(vb.NotApplicable):
        vb.explain(vb.Classifier(network), images, targets, "cam")
    network[6] = nn.AdaptiveAvgPool2d(1)
    if size * bias != 1e-6:  # six digits under the bias nothing can be told apart in float32: either answer will do
        vb.explain(vb.Classifier(network), images, targets, "cam")


def test_grad_cam(probe, placed_network, images, targets):
    activations, gradients = reference(placed_network, images, targets)
    expected = torch.stack(
        [
            sum(g.mean() * a for a, g in zip(channels, slopes, strict=True)).clamp(min=0)
            for channels, slopes in zip(activations, gradients, strict=True)
        ]
    )
    assert_close(native("grad_cam", probe), expected)


def test_hires_cam(probe, placed_network, images, targets):
    activations, gradients = reference(placed_network, images, targets)
    assert_close(native("hires_cam", probe), (activations * gradients).sum(1).clamp(min=0))


def equation_19(activations, gradients):
    """Chattopadhyay et al. 2018, eq. 10 and 19, number by number."""
    weights = torch.zeros(activations.shape[:2], dtype=torch.float64)
    for image, (channels, slopes) in enumerate(zip(activations.tolist(), gradients.tolist(), strict=True)):
        for k, (a, g) in enumerate(zip(channels, slopes, strict=True)):
            total = sum(value for row in a for value in row)
            for slope in (value for row in g for value in row):
                denominator = 2 * slope**2 + total * slope**3
                alpha = slope**2 / denominator if denominator != 0 else 0
                weights[image, k] += alpha * max(slope, 0)
    return (weights[:, :, None, None] * activations).sum(1).clamp(min=0)


def test_grad_cam_plus_plus(probe, placed_network, images, targets):
    assert_close(native("grad_cam_plus_plus", probe), equation_19(*reference(placed_network, images, targets)))


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_grad_cam_plus_plus_does_not_depend_on_the_unit_of_the_features(gap_network, images, targets, unit):
    """Features × u and head / u are the same network; a constant beside g² would tell them apart."""
    expected = native("grad_cam_plus_plus", vb.Probe(vb.Classifier(gap_network), images, targets))
    with torch.no_grad():
        gap_network[4].weight *= unit
        gap_network[4].bias *= unit
        gap_network[-1].weight /= unit
    maps = native("grad_cam_plus_plus", vb.Probe(vb.Classifier(gap_network), images, targets))
    assert_close(maps, expected)
    assert expected.max() > 0


def test_grad_cam_plus_plus_of_faint_logits(gap_network, images, targets):
    """α tends to 1/2 as the head gets faint, and the map keeps its shape: nothing drowns in an epsilon."""
    maps = []
    for factor in (1e-6, 1e-4):  # together 1e-10: the squared gradients are below 1e-22
        with torch.no_grad():
            gap_network[-1].weight *= factor
        maps.append(normalised(native("grad_cam_plus_plus", vb.Probe(vb.Classifier(gap_network), images, targets))))
    assert (maps[0] - maps[1]).abs().max() <= 1e-5


def test_grad_cam_plus_plus_where_the_fraction_is_not_defined():
    """2 + ΣA·g = 2 − 2·1 = 0 for the first class, g = 0 for the second: no weight, and no infinity."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(-0.5)
        network[2].weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
    classifier = vb.Classifier(network, target_layer="0")
    assert native("grad_cam_plus_plus", vb.Probe(classifier, torch.rand(2, 3, 2, 2), [0, 1])).eq(0).all()


def test_in_place_layers_behind_the_target_layer_change_nothing(inplace_network, images, targets):
    """The record of the convolution keeps its negative values, though an in-place ReLU follows."""
    probe = vb.Probe(vb.Classifier(inplace_network, target_layer="last"), images, targets)
    assert probe.trace.activations.min() < 0
    expected = vb.explain(vb.Classifier(inplace_network, target_layer="last"), images, targets, "hires_cam")
    inplace_network.relu.inplace = False
    maps = vb.explain(vb.Classifier(inplace_network, target_layer="last"), images, targets, "hires_cam")
    assert torch.equal(maps, expected)

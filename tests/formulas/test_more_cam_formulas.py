"""The other class activation maps against their equations in float64, and in closed form."""

from copy import deepcopy
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.nn import functional

import vexbench as vb
from vexbench.methods.masking_cam import ablated
from vexbench.perturb.noise import gaussian
from vexbench.registry import METHODS

LAST = 4
"""Where the head of `placed_network` begins."""


def native(name, probe, **params):
    return METHODS[name].function(probe, **params)


def normalised(maps):
    maps = maps.relu()
    assert (maps.amax((1, 2)) > 0).all()
    return maps / maps.amax((1, 2), keepdim=True)


def assert_close(maps, expected, tolerance=1e-5):
    assert (maps - expected).abs().max() <= tolerance * expected.abs().max()
    assert expected.abs().max() > 0


def reference(network, images, score):
    """Activations and gradients of a score of the logits in float64, the network cut by hand."""
    network = deepcopy(network).double()
    activations = network[:LAST](images.double()).detach().requires_grad_()
    return activations.detach(), torch.autograd.grad(score(network[LAST:](activations)).sum(), activations)[0]


@pytest.fixture
def probe(placed_network, images, targets):
    return vb.Probe(vb.Classifier(placed_network, target_layer="3"), images, targets)


@pytest.fixture
def parts(placed_network, images, targets):
    return reference(placed_network, images, lambda logits: logits[range(9), targets])


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "xgrad_cam", "ablation_cam"])
def test_one_with_cam_behind_global_average_pooling(gap_network, images, method):
    """Ablation-CAM's weights are v_k·mean(A_k)/|y| there: CAM's after dividing by the channel's mean."""
    probe = vb.Probe(vb.Classifier(gap_network), images)
    expected = native("cam", probe)
    if method == "ablation_cam":
        activations = probe.trace.activations
        heads = gap_network[-1].weight.detach()[probe.targets]
        expected = torch.einsum("nk,nk,nkij->nij", heads, activations.mean((2, 3)), activations)
    assert (normalised(native(method, probe)) - normalised(expected)).abs().max() <= 1e-5


def test_xgrad_cam(probe, parts):
    activations, gradients = parts
    shares = activations / activations.sum((2, 3), keepdim=True)
    weights = torch.einsum("nkij,nkij->nk", shares.nan_to_num(), gradients)
    assert_close(native("xgrad_cam", probe), torch.einsum("nk,nkij->nij", weights, activations).clamp(min=0))


def test_xgrad_cam_of_channels_that_are_dead(gap_network, images, targets):
    with torch.no_grad():
        gap_network[4].weight[:3], gap_network[4].bias[:3] = 0, -1
    assert native("xgrad_cam", vb.Probe(vb.Classifier(gap_network), images, targets)).isfinite().all()


def test_layer_cam(probe, parts):
    activations, gradients = parts
    assert_close(native("layer_cam", probe), (gradients.clamp(min=0) * activations).sum(1).clamp(min=0))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("method", ["eigen_cam", "eigen_grad_cam"])
def test_eigen_cam_is_the_direction_of_most_variance(probe, parts, method, centred):
    """By the eigenvectors of the channels' covariance instead of a singular value decomposition."""
    activations, gradients = parts
    features = (activations if method == "eigen_cam" else activations * gradients).flatten(2)
    if centred:
        features = features - features.mean(2, keepdim=True)
    _, vectors = torch.linalg.eigh(features @ features.transpose(1, 2))
    expected = torch.einsum("nk,nkp->np", vectors[:, :, -1], features)
    total = features.sum(1)
    sign = (expected * total).sum(1, keepdim=True).sign()  # grows with the sum over the channels
    expected = (sign * expected).clamp(min=0).unflatten(1, activations.shape[2:])
    assert_close(native(method, probe, centred=centred), expected, 1e-4)


def test_eigen_cam_does_not_ask_for_the_class(probe, placed_network, images, targets):
    other = vb.Probe(vb.Classifier(placed_network, target_layer="3"), images, (targets + 1) % 5)
    assert torch.equal(native("eigen_cam", probe), native("eigen_cam", other))


@pytest.mark.parametrize("weighting", ["equal", "probability"])
def test_finer_cam(probe, placed_network, images, targets, weighting):
    def score(logits):
        rows = []
        for row, target in zip(logits, targets.tolist(), strict=True):
            others = sorted((abs(float((row[d] - row[target]).detach())), d) for d in range(5) if d != target)[:2]
            similar = [d for _, d in others]
            shares = row.softmax(0)[similar] / row.softmax(0)[similar].sum()
            shares = shares if weighting == "probability" else torch.full((2,), 0.5, dtype=torch.float64)
            rows.append(row[target] - 0.7 * (shares * row[similar]).sum())
        return torch.stack(rows)

    activations, gradients = reference(placed_network, images, score)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)
    assert_close(native("finer_cam", probe, classes=2, strength=0.7, weighting=weighting), expected)


@pytest.mark.parametrize("weighting", ["equal", "probability"])
def test_finer_cam_needs_no_pass_of_its_own_behind_a_linear_head(gap_network, images, targets, weighting, monkeypatch):
    probe = vb.Probe(vb.Classifier(gap_network), images, targets)
    maps = native("finer_cam", probe, weighting=weighting)
    assert probe.passes.forward == len(images)
    monkeypatch.setattr("vexbench.methods.cam.head_weights", Mock(side_effect=vb.NotApplicable("by passes, then")))
    assert_close(maps, native("finer_cam", probe, weighting=weighting))
    assert probe.passes.forward == 2 * len(images)


def test_finer_cam_without_strength_is_grad_cam(probe):
    assert_close(native("finer_cam", probe, strength=0.0), native("grad_cam", probe), 1e-6)


def test_smooth_grad_cam_plus_plus_without_noise_is_grad_cam_plus_plus(probe):
    maps = native("smooth_grad_cam_plus_plus", probe, samples=2, noise=0.0)
    assert_close(maps, native("grad_cam_plus_plus", probe))


def test_smooth_grad_cam_plus_plus(probe, placed_network, images, targets):
    sigma = 0.3 * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
    copies = [images + sigma * draw for draw in gaussian(probe, 3)]
    slopes = [reference(placed_network, copy, lambda y: y[range(9), targets])[1] for copy in copies]
    activations, _ = reference(placed_network, images, lambda y: y[range(9), targets])
    first, second, third = (sum(g**power for g in slopes) / 3 for power in (1, 2, 3))
    alpha = (second / (2 * second + activations.sum((2, 3), keepdim=True) * third)).nan_to_num(0, 0, 0)
    weights = (alpha * first.clamp(min=0)).sum((2, 3), keepdim=True)
    expected = (weights * activations).sum(1).clamp(min=0)
    assert_close(native("smooth_grad_cam_plus_plus", probe, samples=3, noise=0.3), expected, 1e-4)


def masks_of(activations, size):
    masks = functional.interpolate(activations, size, mode="bilinear")
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return ((masks - low) / (high - low)).nan_to_num(0)


def scores_of(network, images, targets, masks):
    """Logits and probabilities of the target, (N, C) each, channel by channel."""
    logits = torch.stack([network(images.double() * masks[:, k, None]) for k in range(masks.shape[1])], 1).detach()
    return (values[range(len(images)), :, targets] for values in (logits, logits.softmax(2)))


@pytest.mark.parametrize("weighting", ["softmax", "increase", "probability"])
def test_score_cam(probe, parts, placed_network, images, targets, weighting):
    activations, _ = parts
    network = deepcopy(placed_network).double()
    logits, probabilities = scores_of(network, images, targets, masks_of(activations, (24, 36)))
    black = network(torch.zeros(1, 3, 24, 36).double()).detach()[0, targets]
    weights = {"softmax": logits.softmax(1), "increase": logits - black[:, None], "probability": probabilities}
    varied = activations.flatten(2).std(2) > 0
    chosen = weights[weighting] * (varied if weighting == "probability" else 1)
    expected = torch.einsum("nk,nkij->nij", chosen, activations).clamp(min=0)
    assert_close(native("score_cam", probe, weighting=weighting), expected)


def test_ss_cam_and_is_cam(probe, parts, placed_network, images, targets):
    activations, _ = parts
    network, masks = deepcopy(placed_network).double(), masks_of(activations, (24, 36))
    noisy = [masks + 0.5 * draw[:, :1] for draw in gaussian(probe, 2)]
    steps = [masks / 3, masks * 2 / 3, masks]
    for variants, found in (
        (noisy, native("ss_cam", probe, samples=2, noise=0.5)),
        (steps, native("is_cam", probe, steps=3)),
    ):
        logits = [next(scores_of(network, images, targets, variant)) for variant in variants]
        weights = torch.stack(logits).mean(0).softmax(1)
        assert_close(found, torch.einsum("nk,nkij->nij", weights, activations).clamp(min=0))


def test_one_step_of_is_cam_and_silent_ss_cam_are_score_cam(probe):
    for name, params in (("is_cam", {"steps": 1}), ("ss_cam", {"samples": 1, "noise": 0.0})):
        assert_close(native(name, probe, **params), native("score_cam", probe), 1e-6)


def scores_without(network, layer, probe):
    """Scores by a hook that clears one channel after the other, the whole network run on the images."""
    rows, scores = torch.arange(len(probe.images)), []
    for channel in range(probe.trace.activations.shape[1]):

        def clear(_module, _inputs, output, channel=channel):
            output = output.clone()
            output[:, channel] = 0
            return output

        handle = network.get_submodule(layer).register_forward_hook(clear)
        scores.append(probe.classifier.logits(probe.images).detach()[rows, probe.targets])
        handle.remove()
    return torch.stack(scores, 1)


def by_weights(network, layer, probe):
    """Ablation-CAM by these scores."""
    score = probe.logits.gather(1, probe.targets[:, None])
    weights = (score - scores_without(network, layer, probe)) / score.abs()
    return (weights[:, :, None, None] * probe.trace.activations).sum(1).relu()


class Crossed(nn.Module):
    """What is behind `inner` also sees what is in front of it, by a sum, a concatenation and the size of the batch."""

    def __init__(self, way):
        super().__init__()
        self.way, self.outer = way, nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.inner, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(12 if way == "cat" else 6, 5)

    def forward(self, images):
        count, before = len(images), self.outer(images).relu()
        features = self.inner(before)
        if self.way == "sum":
            features = features + before
        if self.way == "cat":
            features = torch.cat([features, before], 1)
        return self.head(features.relu().mean((2, 3)).view(count, -1))


@pytest.mark.parametrize("way", ["sum", "cat", "size"])
def test_features_in_another_place_where_something_crosses_the_cut(images, targets, way):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Crossed(way)
    probe = vb.Probe(vb.Classifier(network, target_layer="inner"), images, targets, batch_size=8)
    found, expected = probe.scores_from(ablated(probe.trace.activations)), scores_without(network, "inner", probe)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert expected.std(1).min() > 1e-4
    assert probe.passes.forward >= 6 * 9  # the whole network


def test_ablation_cam_by_passes(placed_network, probe):
    assert_close(native("ablation_cam", probe), by_weights(placed_network, "3", probe), 1e-4)
    assert probe.passes.partial >= 8 * 9
    assert probe.passes.forward < 3 * 9  # the images, a trial, and one image in front of each batch


def test_ablation_cam_of_a_layer_that_is_used_again(inplace_network, images, targets):
    """The target layer is the ReLU in front of the pooling, its fourth use of five."""
    probe = vb.Probe(vb.Classifier(inplace_network), images, targets)
    assert probe.classifier.layer(images)[0] == "relu"
    features, rows = probe.trace.activations, torch.arange(9)
    head = lambda values: inplace_network.head(inplace_network.hidden(values.mean((2, 3))).relu()).detach()  # noqa: E731
    expected = torch.stack([head(values)[rows, targets] for values in ablated(features)], 1)
    torch.testing.assert_close(probe.scores_from(ablated(features)), expected, atol=1e-6, rtol=1e-5)


def test_closed_form_and_passes_agree(gap_network, images, targets):
    probe = vb.Probe(vb.Classifier(gap_network), images, targets)
    assert_close(native("ablation_cam", probe), by_weights(gap_network, "5", probe))
    assert probe.passes.forward == 9


def test_ablation_cam_of_negative_scores_is_not_upside_down(gap_network, images, targets):
    """The same weights by a bias that lowers all logits: only their unit changes."""
    targets = vb.Classifier(gap_network).logits(images).argmax(1)
    expected = normalised(native("ablation_cam", vb.Probe(vb.Classifier(gap_network), images, targets)))
    with torch.no_grad():
        gap_network[-1].bias -= 100
    maps = normalised(native("ablation_cam", vb.Probe(vb.Classifier(gap_network), images, targets)))
    assert_close(maps, expected)


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("finer_cam", {"classes": 0}, "classes must be at least 1"),
        ("finer_cam", {"strength": float("nan")}, "strength at least 0"),
        ("finer_cam", {"weighting": "equl"}, "did you mean equal"),
        ("score_cam", {"weighting": "softmx"}, "did you mean softmax"),
        ("score_cam", {"baseline": "blck"}, "did you mean black"),
        ("ss_cam", {"samples": 0}, "ss_cam: samples must be at least 1"),
        ("ss_cam", {"noise": float("inf")}, "noise at least 0"),
        ("is_cam", {"steps": 0}, "steps must be at least 1"),
        ("smooth_grad_cam_plus_plus", {"noise": -1.0}, "noise at least 0"),
        ("full_grad", {"rescaling": "chanel"}, "did you mean channel"),
    ],
)
def test_parameters_out_of_range(gap_network, images, targets, method, params, words):
    with pytest.raises(vb.VexbenchError, match=words):
        vb.explain(vb.Classifier(gap_network), images, targets, method, **params)

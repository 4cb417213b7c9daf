"""FullGrad, input × gradient and Guided Grad-CAM: what adds up, and what is the product of what."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import vexbench as vb
from vexbench.methods.gradient import bias_shares
from vexbench.registry import METHODS

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


class Norms(nn.Module):
    """Norms whose biases are found, channels first and last; batch norm as module and as both functions."""

    def __init__(self):
        super().__init__()
        self.first = nn.ConvTranspose2d(3, 6, 3, stride=2)
        self.norm, self.plain = nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False)
        self.last, self.head = nn.Linear(6, 8), nn.Linear(8, 5, bias=False)
        for norm in (self.norm, self.plain):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, images):
        norm = self.norm
        features = self.plain(norm(self.first(images)).relu_())
        features = torch.batch_norm(
            features, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.1, 1e-5, False
        )
        features = functional.relu(self.last(features.permute(0, 2, 3, 1)), inplace=True)
        return self.head(features.mean((1, 2)))


@pytest.fixture
def norms():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Norms().eval()


def assert_complete(network, images, targets):
    """Srinivas & Fleuret 2019, eq. 3: input times gradient and all biases times theirs are the logit."""
    probe = vb.Probe(vb.Classifier(network, mean=MEAN, std=STD), images, targets)
    shares = []
    (gradients,) = probe.input_gradients(
        [images], lambda: bias_shares(lambda share: shares.append(share.flatten(1).sum(1)[: len(images)]))
    )
    way = (images - torch.tensor(MEAN)[:, None, None]) * gradients
    total = way.flatten(1).sum(1) + torch.stack(shares).sum(0)
    torch.testing.assert_close(total, probe.logits[range(len(images)), targets], atol=1e-5, rtol=1e-4)
    assert torch.stack(shares).abs().sum() > 0.1


def test_input_and_bias_gradients_sum_to_the_logit(network, images, targets):
    assert_complete(network, images, targets)


def test_biases_of_norms_and_of_channels_last_count(norms, images, targets):
    assert_complete(norms, images, targets)


def rescaled(shares, dims):
    sizes = shares.abs() - shares.abs().amin(dims, keepdim=True)
    return (sizes / sizes.amax(dims, keepdim=True)).nan_to_num(0)


@pytest.mark.parametrize(("rescaling", "dims"), [("channel", (2, 3)), ("layer", (1, 2, 3))])
def test_full_grad(placed_network, images, targets, rescaling, dims):
    """The two convolutions by hand, without hooks, in batches of four."""
    classifier = vb.Classifier(placed_network, mean=MEAN, std=STD)
    first, last = placed_network[0], placed_network[2]
    inputs = classifier.normalise(images).requires_grad_()
    early = first(inputs)
    late = last(early.relu())
    logits = placed_network[3:](late)[range(9), targets]
    slopes = torch.autograd.grad(logits.sum(), [inputs, early, late])
    terms = [inputs.detach() * slopes[0]]
    terms += [g * part.bias.detach()[:, None, None] for g, part in zip(slopes[1:], (first, last), strict=True)]
    expected = sum(functional.interpolate(rescaled(term, dims), (24, 36), mode="bilinear").sum(1) for term in terms)
    maps = vb.explain(classifier, images, targets, "full_grad", rescaling=rescaling, batch_size=4)
    assert (maps - expected).abs().max() <= 1e-4 * expected.max()


def test_full_grad_of_a_network_without_biases_is_its_input_term(images, targets):
    network = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = vb.explain(vb.Classifier(network), images, targets, "full_grad")
    (gradients,) = vb.Probe(vb.Classifier(network), images, targets).input_gradients([images])
    assert (maps - rescaled(images * gradients, (2, 3)).sum(1)).abs().max() <= 1e-4 * maps.max()


def test_shares_that_differ_by_rounding_only_are_left_out(images):
    """Behind averaging over windows that overlap, gradients are the same everywhere but for their last digits."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    inner = vb.Classifier(network)
    maps = vb.explain(inner, images[:, :, :8, :8].contiguous(), [0] * 9, "full_grad")
    assert maps.isfinite().all()


def test_input_x_gradient_of_a_linear_network_is_the_logit(score, weights, images):
    network = score(lambda pictures: (weights * pictures).sum((1, 2, 3)))
    maps = vb.explain(vb.Classifier(network), images, [0] * 9, "input_x_gradient")
    torch.testing.assert_close(maps, (weights * images).sum(1), atol=1e-5, rtol=1e-5)


def test_guided_grad_cam_is_the_product(network, images, targets):
    classifier = vb.Classifier(network)
    maps = vb.explain(classifier, images, targets, ["grad_cam", "guided_backprop", "guided_grad_cam"])
    expected = maps["grad_cam"] * maps["guided_backprop"]
    assert (maps["guided_grad_cam"] - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert METHODS["guided_grad_cam"].signed


def test_guided_grad_cam_is_refused_where_there_are_no_relus(smooth_network, images, targets):
    with pytest.raises(vb.NotApplicable, match="softplus"):
        vb.explain(vb.Classifier(smooth_network, target_layer="2"), images, targets, "guided_grad_cam")

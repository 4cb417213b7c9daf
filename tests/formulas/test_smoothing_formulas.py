"""SmoothGrad's relatives against loops over the same noisy copies."""

import pytest
import torch

import vexbench as vb
from vexbench.perturb.noise import gaussian


@pytest.fixture
def gradients(gap_network, images, targets):
    """Four noisy gradients of each image, (4, 9, 3, 24, 36), by a loop."""
    classifier = vb.Classifier(gap_network)
    rows = []
    for draw in gaussian(vb.Probe(classifier, images, targets), 4):
        sigma = torch.stack([0.15 * (image.max() - image.min()) for image in images])
        leaf = (images + sigma.view(-1, 1, 1, 1) * draw).requires_grad_()
        rows.append(torch.autograd.grad(classifier.logits(leaf)[range(9), targets].sum(), leaf)[0])
    return torch.stack(rows).double()


@pytest.mark.parametrize(
    ("method", "statistic"),
    [
        ("smooth_grad", lambda g: g.mean(0).abs()),
        ("smooth_grad_squared", lambda g: g.square().mean(0)),
        ("var_grad", lambda g: g.var(0, correction=0)),
    ],
)
def test_statistics_of_noisy_gradients(gap_network, images, targets, gradients, method, statistic):
    maps = vb.explain(vb.Classifier(gap_network), images, targets, method, samples=4)
    torch.testing.assert_close(maps.double(), statistic(gradients).amax(1), atol=1e-5, rtol=1e-4)


def test_var_grad_is_smooth_grad_squared_less_the_mean_squared(score, images):
    """Where one colour counts, the identity of the colours is one of the maps."""
    red = vb.Classifier(score(lambda x: torch.sin(9 * x[:, 0]).sum((1, 2))))
    names = ["var_grad", "smooth_grad_squared", "smooth_grad"]
    variance, squares, mean = vb.explain(red, images, [0] * 9, names, seed=3).values()
    torch.testing.assert_close(variance, squares - mean.square(), atol=1e-4, rtol=1e-3)


def test_var_grad_of_a_linear_network_is_nothing(score, images, weights):
    """Exactly nothing: a difference of sums would leave their rounding."""
    linear = vb.Classifier(score(lambda x: (1e3 * x * weights).sum((1, 2, 3))))
    assert vb.explain(linear, images, [0] * 9, "var_grad").max() == 0


def test_one_sample_has_no_variance(gap_network, images, targets):
    with pytest.raises(vb.VexbenchError, match="var_grad: samples must be at least 2"):
        vb.explain(vb.Classifier(gap_network), images, targets, "var_grad", samples=1)

"""Saliency and integrated gradients on networks whose gradients are known."""

from itertools import product

import pytest
import torch

import vexbench as vb
from vexbench.methods.path import quadrature
from vexbench.perturb.baselines import BASELINES, baseline
from vexbench.registry import METHODS


@pytest.fixture
def zeros():
    return [0] * 9


def test_saliency_of_a_linear_network(score, images, zeros, weights):
    """The gradient in [0, 1] is w/σ where the network sees (x − μ)/σ."""
    std = torch.tensor([0.2, 0.5, 0.9])
    linear = vb.Classifier(score(lambda x: (x * weights).sum((1, 2, 3))), mean=(0.1, 0.2, 0.3), std=std.tolist())
    maps = vb.explain(linear, images, zeros, "saliency")
    torch.testing.assert_close(maps, (weights / std[:, None, None]).abs().amax(0).expand(9, -1, -1))


def test_saliency_explains_the_target_alone(gap_network, images):
    """The logit, not its probability: no other class takes part."""
    expected = vb.explain(vb.Classifier(gap_network), images, [2] * 9, "saliency")
    with torch.no_grad():
        gap_network[-1].weight[[0, 1, 3, 4]] *= 10
    assert torch.equal(vb.explain(vb.Classifier(gap_network), images, [2] * 9, "saliency"), expected)


@pytest.mark.parametrize("rule", ["gauss_legendre", "riemann"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_quadrature_is_a_mean(rule, steps):
    positions, shares = quadrature(rule, steps)
    assert len(positions) == len(shares) == steps
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert all(0 < position < 1 for position in positions)
    assert sum(share * position for share, position in zip(shares, positions, strict=True)) == pytest.approx(0.5)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_gauss_legendre_is_exact_up_to_its_degree(steps):
    positions, shares = quadrature("gauss_legendre", steps)

    def integral(degree):
        return sum(share * position**degree for share, position in zip(shares, positions, strict=True))

    for degree in range(2 * steps):
        assert integral(degree) == pytest.approx(1 / (degree + 1), abs=1e-12)
    assert abs(integral(2 * steps) - 1 / (2 * steps + 1)) > 1e-13


@pytest.mark.parametrize("rule", ["gauss_legendre", "riemann"])
def test_integrated_gradients_of_a_linear_network(score, images, zeros, weights, rule):
    """w·(x − x₀), whatever the number of steps."""
    linear = vb.Classifier(score(lambda x: (x * weights).sum((1, 2, 3))))
    for steps, (name, start) in product((1, 5), (("black", 0), ("white", 1), ("grey", 0.5))):
        maps = vb.explain(linear, images, zeros, "integrated_gradients", steps=steps, baseline=name, rule=rule)
        torch.testing.assert_close(maps, (weights * (images - start)).sum(1), atol=1e-6, rtol=1e-5)


def test_integrated_gradients_of_a_quadratic_network(score, images, zeros, weights):
    """w·(x² − x₀²) pixel by pixel, with one step of Gauss-Legendre: the integrand is linear."""
    quadratic = vb.Classifier(score(lambda x: (x**2 * weights).sum((1, 2, 3))))
    maps = vb.explain(quadratic, images, zeros, "integrated_gradients", steps=1, baseline="white")
    torch.testing.assert_close(maps, (weights * (images**2 - 1)).sum(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_integrated_gradients_are_complete_on_a_smooth_network(smooth_network, images, targets, name):
    """The map sums to y(x) − y(x₀); the gap is below 1e-5 of it at 200 steps."""
    probe = vb.Probe(vb.Classifier(smooth_network), images[:3], targets[:3], seed=4)
    maps = METHODS["integrated_gradients"].function(probe, steps=200, baseline=name)
    smooth_network.double()
    ends = [smooth_network(x.double())[range(3), targets[:3]] for x in (probe.images, baseline(probe, name))]
    rise = ends[0] - ends[1]
    # the float32 gradients themselves are good to about 1e-6 of the way's terms, which may cancel in the sum
    size = maps.double().abs().sum((1, 2))
    assert ((maps.double().sum((1, 2)) - rise).abs() <= 1e-5 * torch.maximum(rise.abs(), 0.1 * size)).all()


def test_integrated_gradients_of_few_steps_are_not_complete(smooth_network, images, targets):
    """The test above could fail."""
    classifier = vb.Classifier(smooth_network, std=(0.05, 0.05, 0.05))
    logits = [classifier.logits(x).detach()[range(9), targets] for x in (images, torch.zeros_like(images))]
    gaps = []
    for steps in (1, 5, 40):
        maps = vb.explain(classifier, images, targets, "integrated_gradients", steps=steps)
        gaps.append((maps.sum((1, 2)) - (logits[0] - logits[1])).abs().mean())
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]


def test_integrated_gradients_averaged_over_baselines(smooth_network, images, targets):
    def maps(name):
        classifier = vb.Classifier(smooth_network)
        return vb.explain(classifier, images, targets, "integrated_gradients", steps=8, baseline=name, seed=1)

    names = ("black", "mean", "uniform")
    expected = sum(maps(name) for name in names) / 3
    torch.testing.assert_close(maps("+".join(names)), expected, atol=1e-6, rtol=1e-5)


def test_baselines(images):
    """Each in [0, 1], of the images' shape, and without what it is meant to hide."""
    probe = vb.Probe(vb.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 36, 2))), images)
    starts = {name: baseline(probe, name) for name in BASELINES}
    for name, start in starts.items():
        assert start.shape == images.shape, name
        assert start.min() >= 0, name
        assert start.max() <= 1, name
    assert starts["grey"].eq(0.5).all()
    assert starts["white"].eq(1).all()
    assert starts["mean"].std((2, 3)).max() < 1e-6
    torch.testing.assert_close(starts["mean"].mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(starts["blur"].mean(), images.mean(), atol=0.01, rtol=0)
    assert starts["blur"].std() < images.std()
    flat = probe.of(images=torch.full_like(images, 0.25))
    torch.testing.assert_close(baseline(flat, "blur"), flat.images)
    assert not torch.equal(starts["uniform"][0], starts["uniform"][1])
    assert torch.equal(baseline(probe.of(images=images), "uniform"), starts["uniform"])

"""Metrics of robustness beside Quantus, fed the same noisy copies; captum's sensitivity is in test_metric_peers."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from vexbench.metrics.robustness import (
    average_sensitivity,
    copies,
    local_lipschitz,
    max_sensitivity,
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
)
from vexbench.models.base import Classifier
from vexbench.probe import Explain, Probe

pytestmark = pytest.mark.filterwarnings("ignore")  # the peer's own
quantus = pytest.importorskip("quantus")

ACTIVATION = nn.Softplus  # smooth, so that no feature and no value of a map is exactly zero
RADIUS, SAMPLES = 0.02, 6
QUIET = {"disable_warnings": True, "display_progressbar": False}


@pytest.fixture
def network(small_network):
    return small_network


@pytest.fixture
def images():
    return 0.1 + 0.8 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def probe(network, images):
    return Probe(Classifier(network, target_layer="1"), images)


def gradient(network, images, targets):
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        chosen = network(leaf).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(chosen, leaf)[0].sum(1)


@pytest.fixture
def explain(network):
    return lambda other: gradient(network, other.images, other.targets)


def theirs(metric, probe, network, images=None, draws=None, **options):
    """The peer's scores, with our noisy copies where it would draw its own."""
    images = probe.images if images is None else images
    chosen = iter(list(copies(probe, RADIUS, SAMPLES)) if draws is None else draws)
    built = metric(
        nr_samples=SAMPLES,
        normalise=options.pop("normalise", False),
        abs=False,
        perturb_func=lambda arr, **_: next(chosen).flatten(1).numpy().astype(arr.dtype),
        **options,
        **QUIET,
    )
    return called(built, network, images, probe.targets)


def called(metric, network, images, targets):
    scores = metric(
        model=network,
        x_batch=images.numpy().copy(),
        y_batch=targets.numpy(),
        a_batch=gradient(network, images, targets).numpy()[:, None],
        explain_func=lambda model, inputs, targets, **_: gradient(
            network, torch.as_tensor(inputs), torch.as_tensor(targets)
        ).numpy()[:, None],
        channel_first=True,
        softmax=False,
    )
    return torch.tensor(np.asarray(scores, dtype=np.float32))


def ours(metric, probe, explain, **options):
    return metric(explain(probe), probe, Explain(explain), radius=RADIUS, samples=SAMPLES, **options)


@pytest.mark.parametrize(
    ("metric", "name", "options"),
    [
        (max_sensitivity, "MaxSensitivity", {}),
        (average_sensitivity, "AvgSensitivity", {}),
        (partial(local_lipschitz, relative=False), "LocalLipschitzEstimate", {}),
        (relative_input_stability, "RelativeInputStability", {}),
        (relative_output_stability, "RelativeOutputStability", {}),
        (relative_representation_stability, "RelativeRepresentationStability", {"layer_names": ["1"]}),
    ],
)
def test_scores_are_those_of_quantus(probe, network, explain, metric, name, options):
    expected = theirs(getattr(quantus, name), probe, network, **options)
    found = ours(metric, probe, explain)
    assert (found > 0).all()
    assert torch.allclose(found, expected, rtol=1e-4)


def test_quantus_gives_no_stability_where_any_copy_loses_the_class(probe, network, explain):
    """Agarwal et al. 2022, section 3.3: the maximum is over the copies that keep it, and a maximum over NaN is none."""
    first, second = probe.logits.topk(2, 1).indices.T[..., None]

    def margins(logits):
        return (logits.gather(1, first) - logits.gather(1, second))[:, 0]

    away = torch.stack([margins(probe.of(images=copy).logits) for copy in copies(probe, RADIUS, SAMPLES)])
    mixed = ((away > margins(probe.logits)).float().mean(0) - 0.5).abs().argmin()  # copies go both ways
    with torch.no_grad():  # so near the boundary that some of them cross it
        network[4].bias[second[mixed]] += margins(probe.logits)[mixed] - 1e-5
    edge = Probe(Classifier(network, target_layer="1"), probe.images[mixed : mixed + 1])
    label = edge.logits.argmax(1)
    kept = [edge.of(images=copy).logits.argmax(1).eq(label).item() for copy in copies(edge, RADIUS, SAMPLES)]
    assert 0 < sum(kept) < SAMPLES
    for metric, name in (
        (relative_input_stability, "RelativeInputStability"),
        (relative_output_stability, "RelativeOutputStability"),
    ):
        expected = theirs(getattr(quantus, name), edge, network)
        assert expected.isnan().all()
        found = ours(metric, edge, explain)
        assert found.isfinite().all()
        # with the copies that keep the class alone it agrees
        good = [copy for copy, keeps in zip(copies(edge, RADIUS, SAMPLES), kept) if keeps]
        repeated = (good * SAMPLES)[:SAMPLES]
        # the logits' change is a small difference of large numbers, rounded otherwise in a pass of one image
        assert torch.allclose(found, theirs(getattr(quantus, name), edge, network, draws=repeated), rtol=1e-3)


def test_quantus_only_brightens_where_a_neighbourhood_is_asked_for(probe, network):
    """Agarwal et al. 2022: x' is near x. Its default noise is uniform in [0.02, 0.2]: every pixel gets brighter."""
    seen = []
    metric = quantus.RelativeInputStability(nr_samples=3, **QUIET)
    drawn = metric.perturb_func

    def watching(arr, indices):
        seen.append(drawn(arr=arr, indices=indices) - arr)
        return seen[-1] + arr

    metric.perturb_func = watching
    called(metric, network, probe.images, probe.targets)
    noise = np.stack(seen)
    assert noise.min() > 0.0199
    assert noise.max() == pytest.approx(0.2, abs=0.001)
    for copy in copies(probe, RADIUS, 3):
        change = copy - probe.images
        assert change.abs().max() <= RADIUS + 1e-6
        assert change.mean().abs() < 0.002


def test_quantus_leaves_the_range_of_images(probe, network):
    """Yeh et al. 2019 leave the domain open; ours are images, so copies stay within [0, 1] like all that is asked."""
    white = Probe(probe.classifier, torch.ones_like(probe.images), probe.targets)
    seen = []
    metric = quantus.MaxSensitivity(nr_samples=2, **QUIET)
    drawn = metric.perturb_func

    def watching(arr, indices):
        seen.append(drawn(arr=arr, indices=indices))
        return seen[-1]

    metric.perturb_func = watching
    called(metric, network, white.images, white.targets)
    assert np.stack(seen).max() > 1.1
    assert all(copy.max() <= 1 for copy in copies(white, 0.2, 2))


@pytest.mark.parametrize(
    ("metric", "name"), [(max_sensitivity, "MaxSensitivity"), (local_lipschitz, "LocalLipschitzEstimate")]
)
def test_quantus_scores_hang_on_the_company_of_an_image(probe, network, explain, metric, name):
    """It divides by the largest value of the whole call by default, so that a score depends on the other images."""
    together = theirs(getattr(quantus, name), probe, network, normalise=True)
    rows = torch.arange(2)
    few = Probe(probe.classifier, probe.images[rows], probe.targets[rows])
    alone = theirs(getattr(quantus, name), few, network, normalise=True)
    assert not torch.allclose(together[:2], alone, rtol=1e-3)
    assert torch.allclose(ours(metric, probe, explain)[:2], ours(metric, few, explain), rtol=1e-5)


def test_quantus_and_the_paper_where_the_divisor_is_tiny(probe, network, explain):
    """Agarwal et al. 2022, section 3.3: max(·, ε). Quantus puts ε in place of an exact zero only."""
    eps = 1e6  # larger than any change, so that the maximum is seen
    found = ours(relative_output_stability, probe, explain, eps=eps)
    maps = explain(probe)
    changes = [((maps - explain(probe.of(images=copy))) / maps).flatten(1) for copy in copies(probe, RADIUS, SAMPLES)]
    assert torch.allclose(found, torch.stack(changes).norm(dim=2).amax(0) / eps, rtol=1e-4)
    expected = theirs(quantus.RelativeOutputStability, probe, network, eps_min=eps)
    assert torch.allclose(expected, ours(relative_output_stability, probe, explain), rtol=1e-4)
    assert (expected > 1e3 * found).all()


def test_quantus_and_zeros_of_a_map(probe, explain):
    """Agarwal et al. 2022: relative changes have no scale. With an absolute ε for zeros, larger maps change more."""

    def rectified(factor):
        return lambda other: factor * explain(other).relu()

    found = ours(relative_input_stability, probe, rectified(1.0))
    assert torch.allclose(found, ours(relative_input_stability, probe, rectified(1e5)), rtol=1e-3)
    metric = quantus.RelativeInputStability(normalise=False, **QUIET)
    (copy,) = copies(probe, 0.2, 1)
    near = probe.of(images=copy)
    one, many = (
        metric.relative_input_stability_objective(
            probe.images.numpy().copy(),
            copy.numpy().copy(),
            method(probe).numpy()[:, None],
            method(near).numpy()[:, None],
        )
        for method in (rectified(1.0), rectified(1e5))
    )
    assert (many > 100 * one).all()

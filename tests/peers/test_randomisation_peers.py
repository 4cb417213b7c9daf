"""Randomisation and axioms beside Quantus: its networks, noise and classes are ours, its defects are told by name."""

from itertools import cycle

import numpy as np
import pytest
import torch
from torch import nn

from vexbench.methods.gradient import input_x_gradient, saliency
from vexbench.metrics import randomisation
from vexbench.metrics.axiomatic import completeness_gap, input_invariance, recoded
from vexbench.metrics.randomisation import efficient_mprt, mprt, mprt_curve, random_logit, smooth_mprt
from vexbench.models.base import Classifier
from vexbench.models.surgery import cascade
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

PLAIN = {"normalise": False, "disable_warnings": True, "return_aggregate": False}


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)
        )
    return module.eval()


@pytest.fixture
def images():
    return 0.2 + 0.6 * torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def probe(network, images):
    return Probe(Classifier(network), images, [0, 1, 2, 3, 0, 1])


def slope(module, images, targets):
    """The gradient itself, which no shift changes."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        chosen = module(leaf).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(chosen, leaf)[0].sum(1)


def gradient(module, images, targets):
    """Input × gradient: signed, without ties, and another map for another network, image or class."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        chosen = module(leaf).gather(1, targets[:, None]).sum()
    return (images * torch.autograd.grad(chosen, leaf)[0]).sum(1)


def ours(other):
    return gradient(other.classifier.module, other.images, other.targets)


def theirs(model, inputs, targets, **_):
    """The same method as Quantus calls it."""
    images = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
    return gradient(model, images, torch.as_tensor(np.asarray(targets)))[:, None].numpy()


def ask(metric, network, probe, maps, **given):
    if maps is not None:
        maps = (maps[:, None] if maps.ndim == 3 else maps).numpy()
    return metric(
        model=network,
        x_batch=probe.images.numpy(),
        y_batch=probe.targets.numpy(),
        a_batch=maps,
        explain_func=theirs,
        channel_first=True,
        **{"softmax": False, **given},
    )


@pytest.fixture
def same_networks(probe, monkeypatch):
    """Quantus gets our random networks, in the order that it asks for."""
    interface = pytest.importorskip("quantus.helpers.model.pytorch_model").PyTorchModel

    def networks(_, order="top_down", seed=42):
        for names, classifier in cascade(probe.classifier, probe.images, seed=0, order=order):
            yield "+".join(sorted(names)), classifier.module

    monkeypatch.setattr(interface, "get_random_layer_generator", networks)


@pytest.mark.parametrize("order", ["top_down", "bottom_up"])
def test_the_curve_of_parameter_randomisation_is_that_of_quantus(network, probe, same_networks, order):
    quantus = pytest.importorskip("quantus")
    maps = ours(probe)
    curve = ask(quantus.MPRT(layer_order=order, abs=True, **PLAIN), network, probe, maps)
    points = torch.tensor(np.array(list(curve.values()))).float().T
    found = mprt_curve(maps, probe, Explain(ours), similarity="spearman", order=order)
    assert found.shape == (6, 3)
    assert found.std() > 0.05
    assert torch.allclose(points[:, 1:], found, atol=1e-4)


def test_the_average_of_quantus_counts_the_network_as_it_is(network, probe, same_networks):
    """Adebayo et al. 2018 compare with randomised networks; Quantus' loop skips "orig", but its key is "original"."""
    quantus = pytest.importorskip("quantus")
    maps = ours(probe)
    metric = quantus.MPRT(return_average_correlation=True, layer_order="bottom_up", abs=True, **PLAIN)
    average = torch.tensor(ask(metric, network, probe, maps)).float()
    found = mprt(maps, probe, Explain(ours), similarity="spearman")
    assert torch.allclose(average, (1 + 3 * found) / 4, atol=1e-4)
    assert (average - found).min() > 0.05


def test_quantus_draws_layers_of_one_shape_alike_and_top_down_by_default(network):
    """One seed for all layers; and the default order differs between MPRT and its two repairs."""
    quantus = pytest.importorskip("quantus")
    wrapper = pytest.importorskip("quantus.helpers.model.pytorch_model").PyTorchModel
    twins = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 12)).eval()
    with torch.random.fork_rng():
        *_, (_, random) = wrapper(twins, False, True).get_random_layer_generator(seed=3)
        assert random[1].weight.equal(random[2].weight)
    orders = [metric(disable_warnings=True).layer_order for metric in (quantus.MPRT, quantus.SmoothMPRT)]
    assert [*orders, quantus.EfficientMPRT(disable_warnings=True).layer_order] == ["top_down", "bottom_up", "bottom_up"]
    *_, (_, other) = cascade(Classifier(twins), torch.rand(1, 3, 2, 2), seed=3)
    assert not other.module[1].weight.equal(other.module[2].weight)


def test_quantus_resets_the_global_generators(network, probe):
    """Scores must not change what a caller draws next: torch's generator in MPRT, numpy's in RandomLogit."""
    quantus = pytest.importorskip("quantus")
    maps = ours(probe)

    def after(metric, draw):
        drawn = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)
            metric()
            drawn.append(float(draw()))
        return drawn[0] == drawn[1]

    state, numpy_state = torch.get_rng_state(), np.random.get_state()
    try:
        assert after(lambda: ask(quantus.MPRT(abs=True, **PLAIN), network, probe, maps), lambda: torch.rand(()))
        logit = quantus.RandomLogit(num_classes=4, **PLAIN)
        assert after(lambda: ask(logit, network, probe, maps), np.random.rand)
        for metric in (mprt, random_logit):
            for draw in (lambda: torch.rand(()), np.random.rand):
                assert not after(lambda metric=metric: metric(maps, probe, Explain(ours)), draw)
    finally:
        torch.set_rng_state(state)
        np.random.set_state(numpy_state)


@pytest.fixture
def same_noise(probe, monkeypatch):
    """Quantus gets our noise for three copies, each time it smooths, and our method, which it would not ask."""
    quantus = pytest.importorskip("quantus")
    drawn = cycle([draw.numpy() for draw in noise.gaussian(probe, 3)])
    monkeypatch.setattr(np.random, "randn", lambda *_: next(drawn))
    monkeypatch.setattr(quantus, "explain", theirs)


def test_smooth_randomisation_of_quantus_smooths_with_a_last_copy_that_is_not_noisy(
    network, probe, same_networks, same_noise
):
    """Hedström et al. 2024 average over noisy copies; of Quantus' N, one is the image itself."""
    quantus = pytest.importorskip("quantus")
    metric = quantus.SmoothMPRT(nr_samples=4, noise_magnitude=0.1, abs=True, **PLAIN)
    points = torch.tensor(np.array(list(ask(metric, network, probe, None).values()))).float().T

    def with_the_image(other):
        """What theirs amounts to: a method that is asked for three copies and gives a share of the image's map."""
        clean = gradient(other.classifier.module, probe.images, other.targets)
        return (3 * ours(other) + clean) / 4

    explain = Explain(with_the_image)
    matched = smooth_mprt(probe, explain, samples=3, noise=0.1, similarity="spearman")
    assert torch.allclose(points[:, 1:].mean(1), matched, atol=1e-4)
    paper = smooth_mprt(probe, Explain(ours), samples=3, noise=0.1, similarity="spearman")
    assert (matched - paper).abs().max() > 1e-3


def test_smooth_randomisation_of_quantus_does_not_ask_the_method_that_is_given(network, probe, same_networks):
    quantus = pytest.importorskip("quantus")
    asked = []
    quantus.SmoothMPRT(nr_samples=2, abs=True, **PLAIN)(
        model=network,
        x_batch=probe.images.numpy(),
        y_batch=probe.targets.numpy(),
        a_batch=None,
        explain_func=lambda *given, **named: asked.append(1) or theirs(*given, **named),
        explain_func_kwargs={"method": "Saliency"},
        channel_first=True,
    )
    assert not asked


def test_the_rise_of_entropy_is_that_of_quantus(network, probe, same_networks):
    quantus = pytest.importorskip("quantus")
    maps = ours(probe)
    metric = quantus.EfficientMPRT(complexity_func_kwargs={"n_bins": 20}, **PLAIN)
    rise = torch.tensor(ask(metric, network, probe, maps, softmax=True)).float()
    assert rise.abs().max() > 0.01
    assert torch.allclose(efficient_mprt(maps, probe, Explain(ours), bins=20), rise, atol=1e-4)
    # the entropy of the output has no part in Ψ_eMPRT, and logits are no distribution
    with pytest.raises(AssertionError, match="non-negative"):
        ask(metric, network, probe, maps)


def test_random_logit_is_that_of_quantus_for_the_same_classes(network, probe, monkeypatch):
    quantus, maps = pytest.importorskip("quantus"), ours(probe).abs()
    similarity = pytest.importorskip("quantus.functions.similarity_func")
    classes = []

    def listening(model, inputs, targets, **_):
        classes.append(torch.as_tensor(np.asarray(targets)))
        return np.abs(theirs(model, inputs, targets))

    def score(func):
        classes.clear()
        state = np.random.get_state()
        values = quantus.RandomLogit(num_classes=4, similarity_func=func, **PLAIN)(
            model=network,
            x_batch=probe.images.numpy(),
            y_batch=probe.targets.numpy(),
            a_batch=maps[:, None].numpy(),
            explain_func=listening,
            channel_first=True,
        )
        np.random.set_state(state)
        return torch.tensor(np.array(values)).float()

    ranked = score(similarity.correlation_spearman)
    assert not (classes[-1] == probe.targets).any()
    monkeypatch.setattr(randomisation, "other_classes", lambda _: classes[-1])
    explain = Explain(lambda other: ours(other).abs())
    assert torch.allclose(random_logit(maps, probe, explain, similarity="spearman"), ranked, atol=1e-4)
    # SSIM is of images (Wang et al. 2004, section III.B: a window of pixels); Quantus' is of a row of 144 values
    flat = score(similarity.ssim)
    assert (random_logit(maps, probe, explain) - flat).abs().max() > 0.02


class TestCompleteness:
    """On (N, 3, H, W) attributions where it says so, since Quantus hides as many values as a map has."""

    @pytest.fixture
    def linear(self):
        """Logits that are sums of whole numbers for images of zeros and ones: no rounding anywhere."""
        network = nn.Sequential(nn.Flatten(), nn.Linear(432, 4, bias=False)).eval()
        with torch.no_grad():
            network[1].weight.copy_(torch.arange(4 * 432).view(4, 432) % 7 - 2.0)
        return network

    @staticmethod
    def shares(network, probe):
        """x·w, colour by colour: complete with respect to black."""
        return (probe.images * network[1].weight[probe.targets].view(-1, 3, 12, 12)).detach()

    def test_whole_numbers_agree(self, linear, probe):
        exact = Probe(Classifier(linear), (probe.images > 0.5).float(), probe.targets)
        maps = self.shares(linear, exact) + torch.tensor([0.0, 1, 0, 1, 0, 1])[:, None, None, None]
        quantus = pytest.importorskip("quantus")
        verdict = ask(quantus.Completeness(perturb_baseline=0.0, **PLAIN), linear, exact, maps)
        gap = completeness_gap(maps.sum(1), exact)
        assert [bool(value) for value in verdict] == gap.lt(1e-6).tolist() == [True, False] * 3

    def test_quantus_denies_what_adds_up_to_rounding(self, linear, probe):
        """Equality of floating-point numbers; Sundararajan et al. 2017, proposition 1, is an equation of reals."""
        quantus = pytest.importorskip("quantus")
        exact = Probe(Classifier(linear), probe.images, probe.targets)
        maps = self.shares(linear, exact)
        assert completeness_gap(maps.sum(1), exact).max() < 5e-6
        assert not all(ask(quantus.Completeness(perturb_baseline=0.0, **PLAIN), linear, exact, maps))

    def test_a_map_of_one_channel_hides_one_colour_in_quantus(self, linear, probe):
        """f(x₀) is the logit of the baseline, not of an image that has lost its red."""
        quantus = pytest.importorskip("quantus")
        exact = Probe(Classifier(linear), (probe.images > 0.5).float(), probe.targets)
        maps, seen = self.shares(linear, exact).sum(1), []
        handle = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        verdict = ask(quantus.Completeness(perturb_baseline=0.0, **PLAIN), linear, exact, maps)
        handle.remove()
        assert seen[-1][:, 0].eq(0).all()
        assert seen[-1][:, 1:].equal(exact.images[:, 1:])
        assert not any(verdict)
        assert completeness_gap(maps, exact).max() < 1e-6

    def test_black_is_the_darkest_value_of_the_images_in_quantus(self, linear, probe):
        """And its default divides the map by its largest value first, so that no sum can hold."""
        quantus = pytest.importorskip("quantus")
        seen = []
        handle = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        ask(quantus.Completeness(**PLAIN), linear, probe, probe.images)
        handle.remove()
        assert seen[-1].min() > 0.1
        assert quantus.Completeness(disable_warnings=True).normalise


class TestInputInvariance:
    def verdict(self, network, probe, method):
        metric = pytest.importorskip("quantus").InputInvariance(input_shift=0.2, disable_warnings=True)

        def explained(model, inputs, targets, **_):
            images = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
            return method(model, images, torch.as_tensor(np.asarray(targets)))[:, None].numpy()

        return [
            bool(value)
            for value in metric(
                model=network,
                x_batch=probe.images.numpy(),
                y_batch=probe.targets.numpy(),
                a_batch=method(network, probe.images, probe.targets)[:, None].numpy(),
                explain_func=explained,
                channel_first=True,
            )
        ]

    def test_verdicts_agree_where_no_convolution_pads(self, network, probe):
        assert self.verdict(network, probe, slope) == [True] * 6
        assert input_invariance(probe, Explain(saliency), shift=0.2).max() < 1e-4
        assert self.verdict(network, probe, gradient) == [False] * 6
        assert input_invariance(probe, Explain(input_x_gradient), shift=0.2).min() > 0.1

    def test_the_bias_of_a_padded_convolution_does_not_undo_the_shift(self, images):
        """f₂(x + m) = f₁(x) (Kindermans et al. 2017) does not hold for the network that Quantus makes."""
        wrapper = pytest.importorskip("quantus.helpers.model.pytorch_model").PyTorchModel
        with torch.random.fork_rng():
            torch.manual_seed(0)
            padded = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 4)).eval()
        shifted = wrapper(padded, False, True).add_mean_shift_to_first_layer(0.2, (1, 3, 12, 12))
        with torch.no_grad():
            assert not torch.allclose(shifted(images + 0.2), padded(images), atol=1e-2)
        probe = Probe(Classifier(padded), images, [0, 1, 2, 3, 0, 1])
        assert torch.allclose(recoded(probe, 0.2, 0.2).logits, probe.logits, atol=1e-5)
        assert input_invariance(probe, Explain(saliency), shift=0.2).max() < 1e-4

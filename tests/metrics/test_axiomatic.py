"""Axioms: known answers, and which methods keep them on the demo network."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from vexbench.datasets.scenes import scenes
from vexbench.errors import VexbenchError
from vexbench.explaining import maps_of, reexplain
from vexbench.methods.gradient import input_x_gradient, saliency
from vexbench.methods.path import integrated_gradients
from vexbench.metrics.axiomatic import completeness_gap, input_invariance, recoded
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier
from vexbench.perturb.noise import gaussian
from vexbench.probe import Explain, Probe
from vexbench.registry import METHODS


@pytest.fixture
def weights():
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def small():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class TestCompletenessGap:
    def test_the_gap_is_a_share_of_the_change(self, linear_probe, small, weights):
        """Of a linear network, x·w is complete with respect to black, and (x − ½)·w to grey."""
        probe = linear_probe(small, weights, bias=0.7)
        exact = (small * weights).sum(1)
        assert completeness_gap(exact, probe).max() < 1e-5
        assert torch.allclose(completeness_gap(1.25 * exact, probe), torch.full((5,), 0.25), atol=1e-4)
        assert torch.allclose(completeness_gap(0.75 * exact, probe), torch.full((5,), 0.25), atol=1e-4)
        assert torch.allclose(completeness_gap(-exact, probe), torch.full((5,), 2.0), atol=1e-4)
        assert completeness_gap(0 * exact, probe).tolist() == [1] * 5
        grey = ((small - 0.5) * weights).sum(1)
        assert completeness_gap(grey, probe, baseline="grey").max() < 1e-4
        assert completeness_gap(grey, probe).min() > 0.01

    def test_the_baseline_may_be_a_mean_of_several_or_none(self, linear_probe, small, weights):
        probe = linear_probe(small, weights, bias=0.7)
        both = ((small - 0.5) * weights).sum(1)
        assert completeness_gap(both, probe, baseline="black+white").max() < 1e-4
        whole = (small * weights).sum(1)
        assert torch.allclose(
            completeness_gap(whole, probe, baseline="none"), (0.7 / probe.logits[:, 0]).abs(), rtol=1e-4
        )
        assert completeness_gap(whole + 0.7 / 64, probe, baseline="none").max() < 1e-5

    def test_a_baseline_that_changes_nothing_is_not_defined(self, linear_probe, small, weights):
        black = linear_probe(torch.cat([small[:1], 0 * small[:1]]), weights, bias=3.0)
        assert completeness_gap(torch.ones(2, 8, 8), black).isnan().tolist() == [False, True]
        flat = linear_probe(small, 0 * weights, bias=3.0)
        assert completeness_gap((small * weights).sum(1), flat).isnan().all()

    def test_the_logit_of_a_baseline_is_asked_once_for_all_methods(self, classifier, images, maps):
        known = {}
        first, second = (Probe(classifier, images, [0] * 6, known=known) for _ in range(2))
        once = completeness_gap(maps, first)
        assert first.passes.forward == 12
        assert completeness_gap(maps, second).equal(once)
        assert second.passes.forward == 0
        assert not completeness_gap(maps, second, baseline="white").equal(once)

    def test_integrated_gradients_of_a_smooth_network(self, images):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            smooth = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(1152, 4)
            )
        probe = Probe(Classifier(smooth), images, [0, 1, 2, 3, 0, 1])
        gap = completeness_gap(integrated_gradients(probe, steps=200), probe)
        assert gap.max() < 1e-5
        assert completeness_gap(integrated_gradients(probe, steps=200), probe, baseline="white").min() > 1e-3

    def test_mistakes_are_told(self, classifier, images, maps):
        with pytest.raises(VexbenchError, match="did you mean black"):
            completeness_gap(maps, Probe(classifier, images, [0] * 6), baseline="blck")


def without_biases(classifier):
    """The same weights and no constant anywhere: relevance has nowhere else to go than to the image."""
    module = deepcopy(classifier.module)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.zero_()
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()
    return classifier.around(module)


@pytest.fixture(scope="module")
def pictures():
    """One scene of each class, as the demo network sees them."""
    drawn = scenes(split="test", per_class=1, size=96)
    images = torch.stack([torch.from_numpy(drawn.image(index)) for index in range(6)])
    return images.permute(0, 3, 1, 2).float() / 255, list(drawn.labels)


class TestOnTheDemoNetwork:
    @pytest.mark.parametrize(
        ("method", "most"), [("integrated_gradients", 0.02), ("deep_lift", 1e-4), ("saliency", None)]
    )
    def test_methods_with_a_baseline(self, pictures, method, most):
        probe = Probe(demo_classifier(), *pictures)
        gap = completeness_gap(maps_of(probe, METHODS[method].bind()), probe)
        assert gap.max() < most if most else gap.min() > 1

    def test_relevance_is_kept_but_for_what_biases_hold(self, pictures):
        """LRP shares out the logit, not a difference; what a bias added to an output is the bias's part of it."""
        choice = METHODS["lrp_epsilon"].bind()
        free = Probe(without_biases(demo_classifier()), *pictures)
        assert completeness_gap(maps_of(free, choice), free, baseline="none").max() < 1e-3
        assert completeness_gap(maps_of(free, choice), free).median() > 0.1
        whole = Probe(demo_classifier(), *pictures)
        assert completeness_gap(maps_of(whole, choice), whole, baseline="none").min() > 0.1


class TestInputInvariance:
    def test_both_networks_do_the_same(self, classifier, images):
        """At the border too, where convolutions pad with zeros."""
        probe = Probe(classifier, images, [0, 1, 2, 3, 0, 1])
        before, after = recoded(probe, 0.25, 0.0), recoded(probe, 0.25, 0.25)
        assert torch.allclose(after.images - before.images, torch.full_like(images, 0.25), atol=1e-6)
        assert after.images.max() <= 1
        for other in (before, after):
            assert torch.allclose(other.logits, probe.logits, atol=1e-4)
            assert torch.allclose(other.trace.activations, probe.trace.activations, atol=1e-4)
        assert classifier.mean == (0.5, 0.4, 0.3)

    def test_what_multiplies_by_the_image_changes_by_the_shift(self, linear_probe, small, weights):
        """Of a linear network: ‖m·w‖ over ‖x·w‖ at the contrast 1 − m, for all colours together."""
        probe = linear_probe(small, weights)
        score = input_invariance(probe, Explain(input_x_gradient), shift=0.25)
        # the gradient is w / (1 − m) in both, and both maps have it
        expected = (3 * 0.25 * weights).norm() / (0.75 * small.sum(1) * weights).flatten(1).norm(dim=1)
        assert torch.allclose(score, expected, rtol=1e-4)
        stronger = input_invariance(probe, Explain(input_x_gradient), shift=0.5)
        assert torch.allclose(stronger, 3 * expected, rtol=1e-3)

    def test_who_keeps_it(self, classifier, images):
        """As the paper reports: gradients do, integrated gradients by their reference."""
        probe = Probe(classifier, images, [0, 1, 2, 3, 0, 1])
        assert input_invariance(probe, Explain(saliency)).max() < 1e-4

        def integrated(baseline):
            return input_invariance(probe, Explain(lambda other: integrated_gradients(other, baseline=baseline)))

        assert integrated("black").min() > 0.2
        assert integrated("mean").max() < 1e-4

    def test_noise_is_not_taken_for_the_shift(self, classifier, images):
        probe = Probe(classifier, images, [0] * 6)
        explain = Explain(lambda other: next(gaussian(other, 1)).sum(1))
        assert input_invariance(probe, explain).tolist() == [0] * 6
        # the control alone is drawn anew for every image
        assert input_invariance(probe, reexplain("random")).min() > 0.1

    def test_a_map_of_zeros_is_not_defined_and_scale_does_not_count(self, classifier, images):
        probe = Probe(classifier, images, [0] * 6)
        assert input_invariance(probe, Explain(lambda other: torch.zeros(6, 16, 16))).isnan().all()
        once, thousand = (
            input_invariance(probe, Explain(lambda other, scale=scale: scale * input_x_gradient(other)))
            for scale in (1, 1000)
        )
        assert torch.allclose(once, thousand, rtol=1e-4)

    @pytest.mark.parametrize("shift", [0.0, 1.0, -0.5, float("nan")])
    def test_mistakes_are_told(self, classifier, images, shift):
        with pytest.raises(VexbenchError, match="shift must lie between 0 and 1"):
            input_invariance(Probe(classifier, images, [0] * 6), Explain(saliency), shift=shift)

"""Known answers of the metrics over subsets of pixels."""

import pytest
import torch
from torch import nn

from vexbench.errors import VexbenchError
from vexbench.metrics.subsets import (
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity,
    sensitivity_n,
)
from vexbench.models.base import Classifier
from vexbench.perturb import noise
from vexbench.perturb.masks import squares, subsets
from vexbench.probe import Probe


@pytest.fixture
def weights():
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def linear(linear_probe, images, weights):
    return linear_probe(images, weights, bias=3.0)


@pytest.fixture
def worth(images, weights):
    """What each pixel adds to the logit of the linear network, on black."""
    return weights * images.sum(1)


class Function(nn.Module):
    """Logits (f(x), 0)."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        score = self.function(images)
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("metric", "given"),
    [
        (faithfulness_correlation, {}),
        (faithfulness_correlation, {"share": 0.5, "samples": 20}),
        (sensitivity_n, {"samples": 20}),
        (faithfulness_estimate, {"output": "logit"}),
        (faithfulness_estimate, {"output": "logit", "features": "ranked"}),
        (faithfulness_estimate, {"output": "logit", "correlation": "spearman"}),
    ],
)
def test_what_each_pixel_is_worth_correlates_fully_and_its_negative_fully_the_other_way(
    metric, given, linear, worth, sign
):
    assert torch.allclose(metric(sign * worth, linear, **given), torch.full((6,), float(sign)), atol=1e-4)


def test_a_sum_of_pixels_is_explained_by_the_image(linear_probe, images):
    probe = linear_probe(images, torch.ones(16, 16))
    assert torch.allclose(faithfulness_correlation(images.sum(1), probe), torch.ones(6), atol=1e-5)
    assert torch.allclose(faithfulness_correlation(-images.sum(1), probe), -torch.ones(6), atol=1e-5)


def test_the_gradient_is_not_what_a_pixel_is_worth(linear, weights):
    maps = weights.expand(6, -1, -1).contiguous()
    for metric in (faithfulness_correlation, sensitivity_n):
        scores = metric(maps, linear)
        assert (scores > 0.5).all()
        assert (scores < 0.99).all()


def test_what_is_hidden_is_replaced_by_the_baseline(linear, images, weights):
    maps = weights * (images - images.mean((2, 3), keepdim=True)).sum(1)
    assert torch.allclose(faithfulness_correlation(maps, linear, baseline="mean"), torch.ones(6), atol=1e-4)
    assert (faithfulness_correlation(maps, linear, baseline="black") < 0.99).all()


def test_correlation_is_that_of_the_sums_with_the_drops(classifier, images, maps):
    probe = Probe(classifier, images, [0, 1, 2, 3, 0, 1])
    masks = torch.stack(list(subsets(probe, 26, 40)), 1)
    logits = torch.stack([classifier.logits(images * mask[:, None]) for mask in masks.unbind(1)], 1)
    drops = (probe.logits[:, None] - logits).gather(2, probe.targets[:, None, None].expand(-1, 40, 1))[:, :, 0]
    sums = ((1 - masks) * maps[:, None]).sum((2, 3))
    expected = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in zip(sums, drops)]
    ours = faithfulness_correlation(maps, probe, samples=40, share=0.1)
    assert ours.tolist() == pytest.approx(expected, abs=1e-4)


def test_sensitivity_is_the_mean_over_sizes_from_one_pixel_to_the_largest_share(classifier, images, maps):
    probe = Probe(classifier, images, [0] * 6)
    each = [faithfulness_correlation(maps, probe, samples=20, share=size / 256) for size in (1, 14, 205)]
    assert torch.allclose(sensitivity_n(maps, probe, sizes=3, samples=20), torch.stack(each).nanmean(0), atol=1e-6)
    alone = sensitivity_n(maps, probe, sizes=1, samples=20)
    assert torch.allclose(alone, each[-1], atol=1e-6)


def test_a_feature_is_hidden_alone():
    """Hidden together, the second of a pair would change nothing: the estimate would not see its worth."""
    images = torch.full((1, 3, 4, 4), 1.0)
    probe = Probe(Classifier(Function(lambda x: x[:, 0, 0, 0] * 2 * x[:, 0, 3, 3])), images, [0])
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0] = maps[0, 3, 3] = 1
    assert faithfulness_estimate(maps, probe, count=16) == pytest.approx(1, abs=1e-6)
    assert faithfulness_estimate(maps, probe, count=16, features="ranked") == pytest.approx(1, abs=1e-6)


def test_pixels_are_added_from_the_least_important_on():
    """f = a·(2b − 1): to add b first lowers nothing, to add a first does."""
    images = torch.full((1, 3, 1, 2), 1.0)
    probe = Probe(Classifier(Function(lambda x: x[:, 0, 0, 0] * (2 * x[:, 0, 0, 1] - 1))), images, [0])
    assert monotonicity(torch.tensor([[[2.0, 1.0]]]), probe, steps=2) == 1
    assert monotonicity(torch.tensor([[[1.0, 2.0]]]), probe, steps=2) == 0.5
    assert monotonicity(torch.tensor([[[2.0, -3.0]]]), probe, steps=2) == 1


def test_the_step_from_the_baseline_alone_counts(linear_probe, images):
    weights = torch.ones(16, 16)
    weights[5, 6] = -1
    probe = linear_probe(images, weights)
    maps = torch.rand(6, 16, 16, generator=torch.Generator().manual_seed(0)) + 1
    maps[:, 5, 6] = 0
    assert monotonicity(maps, probe, steps=256, output="logit").tolist() == [1 - 1 / 256] * 6
    assert monotonicity(maps, probe, steps=1000, output="logit").tolist() == [1 - 1 / 256] * 6


def test_each_step_that_falls_counts(linear_probe, images):
    weights = torch.where(torch.arange(256).view(16, 16) % 4 == 0, -1.0, 1.0)
    probe = linear_probe(images, weights)
    scores = monotonicity(images.sum(1), probe, steps=256, output="logit")
    assert scores.tolist() == [0.75] * 6


def test_monotonicity_by_correlation_ranks_by_the_size_of_the_effect(linear_probe, images):
    weights = torch.linspace(-1, 1, 256).view(16, 16)
    probe = linear_probe(images, weights)
    size = weights.expand(6, -1, -1).contiguous()
    given = {"form": "correlation", "steps": 16, "output": "logit", "samples": 20}
    assert (monotonicity(size, probe, **given) > 0.7).all()  # by absolute value, whatever the sign
    assert (monotonicity(2 - size.abs(), probe, **given) < -0.7).all()


@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
def test_the_gradient_of_a_linear_network_has_no_infidelity(linear, weights, worth, perturbation):
    maps = weights.expand(6, -1, -1).contiguous()
    for scale in ("raw", "fitted"):
        score = infidelity(maps, linear, perturbation=perturbation, scale=scale)
        assert score.tolist() == pytest.approx([0] * 6, abs=1e-6)
    for factor in (3, -3):
        assert infidelity(factor * maps, linear, perturbation=perturbation).tolist() == pytest.approx([0] * 6, abs=1e-6)
        assert (infidelity(factor * maps, linear, perturbation=perturbation, scale="raw") > 0.1).all()
    assert (infidelity(worth, linear, perturbation=perturbation) > 0.01).all()


@pytest.mark.parametrize("baseline", ["white", "mean"])
def test_a_perturbation_is_what_the_baseline_takes_away(linear, weights, baseline):
    score = infidelity(weights.expand(6, -1, -1), linear, scale="raw", baseline=baseline)
    assert score.tolist() == pytest.approx([0] * 6, abs=1e-6)


def test_infidelity_is_the_mean_square_over_fresh_squares(linear, images, weights, worth):
    change = torch.stack([((1 - mask) * worth).sum((1, 2)) for mask in squares(linear, 8, 50)], 1)
    zero = infidelity(torch.zeros(6, 16, 16), linear)
    assert torch.allclose(zero, change.square().mean(1), rtol=1e-4)
    double = infidelity(2 * weights.expand(6, -1, -1), linear, scale="raw")
    assert torch.allclose(double, change.square().mean(1), rtol=1e-4)
    noisy = torch.stack([(0.2 * draw * weights).sum((1, 2, 3)) for draw in noise.gaussian(linear, 50)], 1)
    zero = infidelity(torch.zeros(6, 16, 16), linear, perturbation="gaussian", sigma=0.2, scale="raw")
    assert torch.allclose(zero, noisy.square().mean(1), rtol=1e-4)


def test_a_fitted_scale_is_never_worse_and_knows_no_scale(classifier, images, maps):
    probe = Probe(classifier, images, [0] * 6)
    fitted, raw = (infidelity(maps, probe, scale=scale) for scale in ("fitted", "raw"))
    assert (fitted < raw).all()
    assert torch.allclose(infidelity(1e4 * maps, probe), fitted, rtol=1e-4)
    assert (fitted <= infidelity(torch.zeros_like(maps), probe) + 1e-9).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
def test_a_constant_map_has_no_correlation(classifier, images, value):
    probe, maps = Probe(classifier, images, [0] * 6), torch.full((6, 16, 16), value)
    for metric in (faithfulness_correlation, sensitivity_n, faithfulness_estimate):
        assert metric(maps, probe).isnan().all()
    # 256 pixels are no multiple of 9 groups, whose sums differ
    assert faithfulness_estimate(maps, probe, count=9).isnan().all()
    assert faithfulness_estimate(maps, probe, count=9, features="ranked").isnan().all()
    assert monotonicity(maps, probe, form="correlation", steps=9).isnan().all()
    assert monotonicity(maps, probe).isfinite().all()
    assert infidelity(maps, probe).isfinite().all()


def test_a_network_that_looks_at_nothing_follows_no_map(linear_probe, images, maps):
    probe = linear_probe(images, torch.zeros(16, 16), bias=1.0)
    for metric in (faithfulness_correlation, sensitivity_n, faithfulness_estimate):
        assert metric(maps, probe).isnan().all()
    assert monotonicity(maps, probe, form="correlation").isnan().all()
    assert monotonicity(maps, probe).tolist() == [1] * 6
    assert infidelity(maps, probe).tolist() == pytest.approx([0] * 6)


def test_an_image_of_one_pixel(linear_probe):
    probe = linear_probe(torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 1))
    maps = torch.ones(1, 1, 1)
    for metric in (faithfulness_correlation, sensitivity_n, faithfulness_estimate):
        assert metric(maps, probe).isnan().all()
    assert monotonicity(maps, probe) == 1
    assert infidelity(maps, probe, scale="raw") == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", [faithfulness_correlation, infidelity, sensitivity_n, faithfulness_estimate])
def test_many_methods_pay_once(metric, classifier, images):
    known, passes = {}, []
    for number in range(8):
        probe = Probe(classifier, images, [0] * 6, known=known)
        maps = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(number))
        given = {} if metric is faithfulness_estimate else {"samples": 50}
        metric(maps, probe, **given)
        passes.append(probe.passes.forward)
    draws = {faithfulness_estimate: 64, sensitivity_n: 5 * 50}.get(metric, 50)
    assert passes[0] <= 6 * (draws + 1)
    assert passes[1:] == [0] * 7


@pytest.mark.parametrize("metric", [faithfulness_correlation, infidelity, sensitivity_n, faithfulness_estimate])
def test_an_answer_to_another_question_is_not_taken(metric, classifier, images, maps):
    known = {}
    few = {} if metric is faithfulness_estimate else {"samples": 8}
    for given in ({}, {"output": "log_probability"}, {"baseline": "white"}):
        fresh = metric(maps, Probe(classifier, images, [0] * 6), **few, **given)
        shared = metric(maps, Probe(classifier, images, [0] * 6, known=known), **few, **given)
        assert torch.equal(fresh, shared)


def test_each_subset_is_as_likely_and_hangs_on_seed_image_and_draw_alone(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    masks = torch.stack(list(subsets(probe, 64, 400)))
    assert ((masks == 0).sum((2, 3)) == 64).all()
    share = (1 - masks).mean(0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 400) ** 0.5
    pairs = masks.flatten(2)  # no two images, and no two draws, hide the same pixels
    assert not any(pairs[:, 0].equal(pairs[:, other]) for other in range(1, 6))
    assert len(pairs[:, 0].unique(dim=0)) == 400
    assert torch.stack(list(subsets(Probe(classifier, images[3:4], [1]), 64, 5)))[:, 0].equal(masks[:5, 3])
    assert not torch.stack(list(subsets(Probe(classifier, images, [0] * 6, seed=1), 64, 5))).equal(masks[:5])


def test_squares_lie_within_the_image_and_are_drawn_afresh(classifier):
    images = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(3))
    probe = Probe(classifier, images, [0, 0])
    hidden = 1 - torch.stack(list(squares(probe, 4, 300))).flatten(0, 1)
    counts = hidden.sum((1, 2))
    assert set(counts.tolist()) == {1, 4, 9, 16}
    assert all(150 * 0.7 < (counts == count).sum() < 150 * 1.3 for count in (1, 4, 9, 16))
    tall, wide = hidden.amax(2).sum(1), hidden.amax(1).sum(1)
    assert (tall == wide).all()
    assert (tall * wide == counts).all()
    reached = hidden.amax(0)
    assert (reached == 1).all()  # corners, too


@pytest.mark.parametrize(
    ("metric", "given", "words"),
    [
        (faithfulness_correlation, {"samples": 1}, "samples must be 2 or more, not 1"),
        (faithfulness_correlation, {"share": 1.0}, "share must lie between 0 and 1, not 1.0"),
        (faithfulness_correlation, {"baseline": "blak"}, "did you mean black"),
        (faithfulness_correlation, {"output": "logits"}, "did you mean logit"),
        (sensitivity_n, {"sizes": 0}, "sizes must be 1 or more, not 0"),
        (sensitivity_n, {"largest": 0.0}, "largest must lie between 0 and 1, not 0.0"),
        (faithfulness_estimate, {"count": 1}, "count must be 2 or more, not 1"),
        (faithfulness_estimate, {"features": "rank"}, "did you mean ranked"),
        (faithfulness_estimate, {"correlation": "pearsen"}, "did you mean pearson"),
        (monotonicity, {"steps": 0}, "steps must be 1 or more, not 0"),
        (monotonicity, {"form": "shares"}, "did you mean share"),
        (monotonicity, {"form": "correlation", "samples": 0}, "samples must be 1 or more, not 0"),
        (infidelity, {"samples": 0}, "samples must be 1 or more, not 0"),
        (infidelity, {"perturbation": "squares"}, "did you mean square"),
        (infidelity, {"scale": "fit"}, "did you mean fitted"),
        (infidelity, {"sigma": float("nan")}, "sigma above 0, not 0.5 and nan"),
        (infidelity, {"output": "logits"}, "did you mean logit"),
    ],
)
def test_mistakes_are_told(metric, given, words, classifier, images, maps):
    with pytest.raises(VexbenchError, match=words):
        metric(maps, Probe(classifier, images, [0] * 6), **given)

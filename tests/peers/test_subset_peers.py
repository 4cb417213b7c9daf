"""Faithfulness over subsets beside Quantus and captum: their subsets are ours, their defects are told by name."""

import numpy as np
import pytest
import torch
from torch import nn

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

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

NAMED = {"normalise": False, "abs": False, "disable_warnings": True, "return_aggregate": False}


@pytest.fixture
def network(small_network):
    return small_network


@pytest.fixture
def images():
    return 0.1 + 0.8 * torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def maps():
    """Signed, without ties, also by absolute value."""
    source = torch.Generator().manual_seed(2)
    sizes = torch.stack([torch.randperm(144, generator=source).view(12, 12) + 1.0 for _ in range(6)]) / 144
    return sizes * (2.0 * torch.randint(2, sizes.shape, generator=source) - 1)


@pytest.fixture
def probe(network, images):
    return Probe(Classifier(network), images, [0, 1, 2, 3, 0, 1])


def score(metric, network, probe, maps):
    """What a Quantus metric gives: it takes arrays, one channel per map."""
    scores = metric(
        model=network,
        x_batch=probe.images.numpy(),
        y_batch=probe.targets.numpy(),
        a_batch=maps[:, None].numpy(),
        softmax=False,
        channel_first=True,
    )
    return torch.tensor(np.array(scores, dtype=np.float64), dtype=torch.float32)


def colours(pixels):
    """Indices of pixels in an image laid out (3, H, W)."""
    return np.concatenate([pixels + channel * 144 for channel in range(3)])


def test_faithfulness_correlation_is_that_of_quantus(network, probe, maps, monkeypatch):
    quantus = pytest.importorskip("quantus")
    drawn = iter([mask.flatten().eq(0).nonzero()[:, 0].numpy() for masks in subsets(probe, 14, 30) for mask in masks])
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: colours(next(drawn)))
    metric = quantus.FaithfulnessCorrelation(subset_size=3 * 14, nr_runs=30, perturb_baseline=0.0, **NAMED)
    theirs = score(metric, network, probe, maps)
    ours = faithfulness_correlation(maps, probe, samples=30, share=0.1)
    assert theirs.abs().max() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_quantus_hides_colours_where_the_map_has_pixels(network, probe, maps, monkeypatch):
    """Its subsets are of the values (C·H·W); Bhatt et al. 2020, section 3.1: of the features that Φ attributes to."""
    quantus = pytest.importorskip("quantus")
    asked, choose = [], np.random.choice
    monkeypatch.setattr(np.random, "choice", lambda *given, **more: asked.append(given) or choose(*given, **more))
    score(quantus.FaithfulnessCorrelation(nr_runs=2, subset_size=14, **NAMED), network, probe, maps)
    assert set(asked) == {(3 * 144, 14)}


def test_what_quantus_calls_black_is_the_darkest_value(network, probe, maps):
    quantus = pytest.importorskip("quantus")
    black, zero, darkest = (
        score(
            quantus.FaithfulnessEstimate(features_in_step=3 * 6, perturb_baseline=value, **NAMED),
            network,
            Probe(probe.classifier, probe.images[:1], [0]),
            maps[:1],
        )
        for value in ("black", 0.0, probe.images[0].min().item())
    )
    assert torch.equal(black, darkest)
    assert not torch.equal(black, zero)


@pytest.mark.parametrize("correlation", ["spearman", "pearson"])
def test_faithfulness_estimate_is_that_of_quantus(network, probe, maps, correlation):
    quantus = pytest.importorskip("quantus")
    measure = getattr(pytest.importorskip("quantus.functions.similarity_func"), f"correlation_{correlation}")
    metric = quantus.FaithfulnessEstimate(
        similarity_func=measure, features_in_step=3 * 6, perturb_baseline=0.0, **NAMED
    )
    theirs = score(metric, network, probe, maps)
    ours = faithfulness_estimate(
        maps, probe, features="ranked", count=24, correlation=correlation, baseline="black", output="logit"
    )
    assert theirs.abs().max() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_monotonicity_by_correlation_is_that_of_quantus(network, probe, maps):
    quantus = pytest.importorskip("quantus")
    draws = [((draw + 1) / 2).flatten(1).numpy() for draw in noise.uniform(probe, 5)]
    calls = []

    def replaced(arr, indices, **_):
        fresh = draws[len(calls) % 5]  # the samples of a step follow one another
        calls.append(indices)
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(fresh, indices, 1), 1)
        return changed

    metric = quantus.MonotonicityCorrelation(
        nr_samples=5, features_in_step=3 * 6, perturb_func=replaced, **NAMED | {"abs": True}
    )
    theirs = score(metric, network, probe, maps)
    ours = monotonicity(maps, probe, form="correlation", steps=24, samples=5, output="logit")
    assert len(calls) == 24 * 5
    assert theirs.abs().max() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4)


def step_wise(*falls):
    """A network whose logit moves by one per row of pixels that is added, down at the given ones."""
    weights = torch.full((6,), 1.0)
    weights[list(falls)] = -1.0

    class Steps(nn.Module):
        def forward(self, images):
            total = (images.mean((1, 3)) * weights).sum(1)
            return torch.stack([total, torch.zeros_like(total)], 1)

    return Steps().eval()


@pytest.mark.parametrize(("falls", "ours", "theirs"), [((), 6, 1), ((2,), 5, 0), ((1, 3), 4, 0), ((0,), 5, 1)])
def test_quantus_gives_a_yes_or_no_without_the_step_from_the_baseline(falls, ours, theirs):
    """Arya et al. 2019: the score should rise as each feature is added; the first to be added is a feature, too."""
    quantus = pytest.importorskip("quantus")
    network = step_wise(*falls)
    probe = Probe(Classifier(network), torch.ones(2, 3, 6, 6), [0, 0])
    maps = torch.arange(36.0).view(1, 6, 6).expand(2, -1, -1).contiguous()
    metric = quantus.Monotonicity(features_in_step=3 * 6, perturb_baseline=0.0, **NAMED)
    # as it comes, it shows no pixels: the next test
    metric.perturb_func = Shown(probe.images.flatten(1).numpy())
    assert score(metric, network, probe, maps).tolist() == [theirs] * 2
    assert monotonicity(maps, probe, steps=6, output="logit").tolist() == pytest.approx([ours / 6] * 2)


class Shown:
    """What Quantus should replace a baseline's pixels by: the image's."""

    def __init__(self, images):
        self.images, self.keywords = images, {"perturb_baseline": 0.0}

    def __call__(self, arr, indices, **_):
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(self.images, indices, 1), 1)
        return changed


def test_quantus_monotonicity_never_shows_the_image(network, probe, maps):
    """It fills an image that is the baseline with the baseline: every map of every network is monotonous."""
    quantus = pytest.importorskip("quantus")
    metric = quantus.Monotonicity(features_in_step=3 * 6, perturb_baseline=0.0, **NAMED)
    assert score(metric, network, probe, maps).tolist() == [1] * 6
    assert (monotonicity(maps, probe, baseline="black", output="logit") < 1).all()


@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
@pytest.mark.parametrize(("scale", "normalised"), [("raw", False), ("fitted", True)])
def test_infidelity_is_that_of_captum(network, probe, maps, perturbation, scale, normalised):
    metrics = pytest.importorskip("captum.metrics")
    if perturbation == "square":
        moves = torch.stack([(1 - mask)[:, None] * probe.images for mask in squares(probe, 6, 20)], 1).flatten(0, 1)
    else:
        moves = torch.stack([0.1 * draw for draw in noise.gaussian(probe, 20)], 1).flatten(0, 1)
    theirs = metrics.infidelity(
        network,
        lambda copies: (moves, copies - moves),
        probe.images,
        maps[:, None].expand(-1, 3, -1, -1),
        target=probe.targets,
        n_perturb_samples=20,
        normalize=normalised,
    )
    ours = infidelity(maps, probe, perturbation=perturbation, scale=scale, samples=20)
    assert (ours > 0).all()
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_quantus_infidelity_leaves_patches_hidden(network, probe, maps):
    """Yeh et al. 2019, definition 2.1: the expectation is over I, each drawn afresh; there each is the last one, grown.

    And it draws nothing: ten samples are ten times the same number.
    """
    quantus = pytest.importorskip("quantus")
    theirs = score(
        quantus.Infidelity(perturb_baseline=0.0, perturb_patch_sizes=[4], n_perturb_samples=3, **NAMED),
        network,
        probe,
        maps,
    )
    patch = torch.arange(12) // 4
    number = patch[:, None] * 3 + patch

    def mean_square(masks):
        said = torch.stack([((1 - mask) * maps * probe.images.sum(1)).sum((1, 2)) for mask in masks], 1)
        asked = probe.scores_masked(iter(masks), torch.zeros_like(probe.images))
        change = probe.scores([probe.images]) - asked
        return (said - change).square().mean(1)

    grown = mean_square([(number > last).float().expand(6, -1, -1) for last in range(9)])
    afresh = mean_square([(number != one).float().expand(6, -1, -1) for one in range(9)])
    assert torch.allclose(theirs, grown, rtol=1e-4)
    assert ((theirs / afresh - 1).abs() > 0.4).all()
    once = score(
        quantus.Infidelity(perturb_baseline=0.0, perturb_patch_sizes=[4], n_perturb_samples=1, **NAMED),
        network,
        probe,
        maps,
    )
    assert torch.allclose(once, theirs, rtol=1e-5)


def test_quantus_infidelity_fails_at_150_pixels(network):
    quantus = pytest.importorskip("quantus")
    probe = Probe(Classifier(network), torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(0)), [0])
    maps = probe.images.mean(1)
    with pytest.raises(ValueError, match="cannot reshape array of size 67500"):
        score(quantus.Infidelity(**NAMED), network, probe, maps)
    assert infidelity(maps, probe, samples=2).isfinite().all()


def test_quantus_sensitivity_n_draws_no_subsets_and_compares_images(network, probe, maps):
    """Ancona et al. 2018, section 4: for one image, over random subsets of n.

    There it is one number for each n, over the images: of the sum of the map's n-th group of pixels, in falling order,
    with the drop when all groups so far are hidden.
    """
    quantus = pytest.importorskip("quantus")
    metric = quantus.SensitivityN(features_in_step=3 * 6, n_max_percentage=0.8, perturb_baseline=0.0, **NAMED)
    theirs = score(metric, network, probe, maps)
    group = maps.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view(maps.shape) // 6
    masks = [(group > last).float() for last in range(6)]
    drops = probe.scores([probe.images]) - probe.scores_masked(iter(masks), torch.zeros_like(probe.images))
    sums = torch.stack([(maps * (group == one)).sum((1, 2)) for one in range(6)], 1)
    expected = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(sums.T, drops.T)]
    assert torch.allclose(theirs, torch.stack(expected), atol=1e-4)
    assert sensitivity_n(maps, probe, samples=20).isfinite().all()
    with pytest.raises(ValueError, match="at least 2"):
        score(metric, network, Probe(probe.classifier, probe.images[:1], [0]), maps[:1])

"""LIME and Kernel SHAP on models that are additive over segments, and against Shapley's formula."""

from itertools import combinations
from math import exp, factorial

import pytest
import torch

import vexbench as vb
from vexbench.methods.surrogate import coalitions, fitted
from vexbench.perturb.segments import painted, segmented
from vexbench.seeds import fingerprint, generator


def additive(score, labels, coefficients, baseline):
    """f = Σ_i c_i · share of segment i that is white, on white images against a baseline."""
    sizes = labels.flatten().bincount().float()
    field = (coefficients / sizes)[labels] / (1 - baseline)
    return vb.Classifier(score(lambda x: ((x.mean(1) - baseline) * field).sum((1, 2))))


@pytest.fixture
def coefficients():
    return torch.randn(16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("lime", {"samples": 100, "ridge": 0.0, "output": "logit"}),
        ("kernel_shap", {"samples": 100}),  # of 65534: drawn
    ],
)
def test_coefficients_of_an_additive_model(score, coefficients, method, params):
    labels = segmented(torch.ones(1, 3, 24, 36), "grid", 16)[0]
    classifier = additive(score, labels, coefficients, 0.5)
    maps = vb.explain(classifier, torch.ones(1, 3, 24, 36), [0], method, segmentation="grid", segments=16, **params)
    torch.testing.assert_close(maps[0], coefficients[labels], atol=1e-4, rtol=1e-4)


def test_coefficients_over_superpixels(score, images, coefficients):
    """Each image by its own segments; what a segment adds is its weighted sum."""
    weights = torch.randn(24, 36, generator=torch.Generator().manual_seed(5))
    classifier = vb.Classifier(score(lambda x: (x.sum(1) * weights).sum((1, 2)) / 10))
    labels = segmented(images, "slic", 12)
    pixels = images.sum(1) * weights / 10
    sums = [
        torch.zeros(int(lab.max()) + 1).scatter_add(0, lab.flatten(), px.flatten()) for lab, px in zip(labels, pixels)
    ]
    for method, more in (("lime", {"ridge": 0.0, "output": "logit"}), ("kernel_shap", {})):
        maps = vb.explain(classifier, images, [0] * 9, method, segments=12, samples=60, baseline="black", **more)
        torch.testing.assert_close(maps, painted(sums, labels), atol=2e-4, rtol=1e-3)


def scores_of_sets(classifier, image, target, labels, count):
    """The logit with each set of segments shown, the rest grey."""
    found = {}
    for size in range(count + 1):
        for members in combinations(range(count), size):
            mask = torch.isin(labels, torch.tensor(members, dtype=torch.int64)).float()
            found[members] = classifier.logits((0.5 + mask * (image - 0.5))[None]).detach()[0, target].item()
    return found


def test_kernel_shap_is_exact_where_all_coalitions_are_seen(placed_network, images):
    """Shapley's sum over all sets, of four segments, on a network that is far from additive."""
    classifier = vb.Classifier(placed_network, std=(0.1, 0.1, 0.1))
    (found,) = vb.explain(classifier, images[:1], [2], "kernel_shap", segmentation="grid", segments=4, samples=14)
    (labels,) = segmented(images[:1], "grid", 4)
    worth = scores_of_sets(classifier, images[0], 2, labels, 4)
    expected = torch.zeros(4)
    for one in range(4):
        for members in worth:
            if one not in members:
                weight = factorial(len(members)) * factorial(3 - len(members)) / factorial(4)
                expected[one] += weight * (worth[tuple(sorted((*members, one)))] - worth[members])
    torch.testing.assert_close(found, expected[labels], atol=1e-6, rtol=1e-4)
    alone = torch.tensor([worth[(one,)] - worth[()] for one in range(4)])
    assert (alone - expected).abs().max() > 1e-3  # not additive, or anything would do


@pytest.mark.parametrize("samples", [20, 333])
def test_kernel_shap_is_efficient(placed_network, images, targets, samples):
    """Values sum to f(x) − f(∅) however few coalitions are drawn; a segment's value counts once, not per pixel."""
    classifier = vb.Classifier(placed_network)
    maps = vb.explain(classifier, images, targets, "kernel_shap", samples=samples, segments=20)
    labels = segmented(images, "slic", 20)
    for index in range(9):
        firsts = [maps[index][labels[index] == segment][0] for segment in range(int(labels[index].max()) + 1)]
        ends = [
            classifier.logits(x)[0, targets[index]].item() for x in (images[index : index + 1], 0.5 + 0 * images[:1])
        ]
        assert float(torch.stack(firsts).sum()) == pytest.approx(ends[0] - ends[1], abs=1e-4)


def test_coalitions_are_drawn_by_the_kernel():
    """Sizes with probability ∝ 1/(s (d − s)), no favourite segment, each with its complement."""
    design, weights = coalitions(15, 20000, torch.Generator().manual_seed(0))
    sizes = torch.arange(1, 15)
    expected = 1 / (sizes * (15 - sizes))
    shares = design.sum(1).long().bincount(minlength=16)[1:15] / 20000
    torch.testing.assert_close(shares, expected / expected.sum(), atol=0.01, rtol=0)
    assert (design.mean(0) - 0.5).abs().max() < 1e-6
    assert torch.equal(design[::2], 1 - design[1::2])
    assert weights.unique().tolist() == [1]


def test_lime_sample_by_sample(functional_network, images):
    """Ridge regression on the scores by its normal equations, intercept and all."""
    classifier, samples = vb.Classifier(functional_network), 40
    key = fingerprint(images[4])
    (labels,) = segmented(images[4:5], "grid", 9)
    design = torch.randint(0, 2, (samples, 9), generator=generator(5, "lime", key)).double()
    rows, weights = [], []
    for row in design:
        mask = row[labels].float()
        rows.append(classifier.logits((0.5 + mask * (images[4] - 0.5))[None]).detach().softmax(1)[0, 1].double())
        ones = torch.ones(9).double()
        norm = row.norm() * ones.norm()
        distance = 1 - float(row @ ones / norm) if norm > 0 else 1.0
        weights.append(exp(-((distance / 0.4) ** 2)))
    columns = torch.cat([torch.ones(samples, 1).double(), design], 1)
    scale, penalty = torch.tensor(weights).double().diag(), 0.3 * torch.eye(10).double()
    penalty[0, 0] = 0
    expected = torch.linalg.solve(columns.T @ scale @ columns + penalty, columns.T @ scale @ torch.stack(rows))[1:]
    params = {"samples": samples, "segments": 9, "segmentation": "grid", "width": 0.4, "ridge": 0.3}
    maps = vb.explain(classifier, images, [1] * 9, "lime", seed=5, **params)
    torch.testing.assert_close(maps[4].double(), expected[labels], atol=1e-6, rtol=1e-4)


def test_a_fit_without_enough_samples_is_the_smallest(score):
    design = torch.tensor([[1.0, 0, 0], [0, 0, 0]]).double()
    found = fitted(design, torch.tensor([3.0, 1]).double(), torch.ones(2).double(), 0.0)
    torch.testing.assert_close(found, torch.tensor([2.0, 0, 0]).double())


def test_one_segment_takes_everything(score, images):
    linear = vb.Classifier(score(lambda x: x.sum((1, 2, 3))))
    maps = vb.explain(linear, images, [0] * 9, "kernel_shap", segmentation="grid", segments=3, baseline="black")
    torch.testing.assert_close(maps, images.sum((1, 2, 3))[:, None, None].expand(9, 24, 36))


def test_superpixels_follow_colours():
    """Two halves of one colour each: no segment crosses, and none is missing."""
    image = torch.zeros(1, 3, 40, 60)
    image[:, 0, :, 27:] = 1
    (labels,) = segmented(image, "slic", 12)
    assert not set(labels[:, :27].unique().tolist()) & set(labels[:, 27:].unique().tolist())
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    assert 6 <= labels.max() <= 20


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("lime", {"samples": 0}, "samples must be at least 1"),
        ("lime", {"width": float("nan")}, "width above 0"),
        ("lime", {"ridge": -1.0}, "ridge at least 0"),
        ("lime", {"segments": 0}, "segments must be at least 1"),
        ("lime", {"segmentation": "slick"}, "did you mean slic"),
        ("lime", {"output": "prob"}, "unknown output 'prob'"),
        ("kernel_shap", {"samples": 0}, "samples must be at least 1"),
        ("kernel_shap", {"segments": -3}, "segments must be at least 1"),
        ("kernel_shap", {"baseline": "blu"}, "did you mean blur"),
    ],
)
def test_parameters_out_of_range(gap_network, images, targets, method, params, words):
    with pytest.raises(vb.VexbenchError, match=words) as caught:
        vb.explain(vb.Classifier(gap_network), images[:1], targets[:1], method, **params)
    assert "\n" not in str(caught.value)

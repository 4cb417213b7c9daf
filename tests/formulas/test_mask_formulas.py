"""RISE, Sobol indices and extremal perturbation against closed forms and loops."""

from itertools import product

import pytest
import torch

import vexbench as vb
from vexbench.methods.perturbation import ranked, smooth_maximum
from vexbench.perturb.baselines import baseline
from vexbench.perturb.masks import shifted_grids
from vexbench.perturb.segments import grid
from vexbench.registry import METHODS

WHITE = torch.ones(1, 3, 24, 36)


def correlation(left, right):
    return float(torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1])


@pytest.fixture
def patchy():
    """Weights that are constant in the cells of a 4 × 6 grid."""
    cells = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    return cells.repeat_interleave(6, 0).repeat_interleave(6, 1)


def test_rise_recovers_the_weights_of_an_additive_network(score, patchy):
    """Up to scale and offset, as fine as its masks are: E[f m(u)] is the weights seen through the masks' covariance."""
    additive = vb.Classifier(score(lambda x: (x * patchy).sum((1, 2, 3)) / 100))
    params = {"masks": 3000, "cells": 12, "baseline": "black", "output": "logit"}
    (found,) = vb.explain(additive, WHITE, [0], "rise", **params)
    probe = vb.Probe(additive, WHITE, [0], seed=1)
    masks = torch.stack(list(shifted_grids(probe, 3000, cells=12, keep=0.5))).flatten(1)
    expected = torch.cov(masks.T) @ patchy.flatten()
    assert correlation(found, expected) > 0.95
    assert correlation(found, patchy) > 0.85


def test_rise_mask_by_mask(functional_network, images, targets):
    """Σ f(x ⊙ m) m / (masks · p), the hidden part being blurred."""
    classifier = vb.Classifier(functional_network)
    probe = vb.Probe(classifier, images, targets, seed=2)
    expected, hidden = torch.zeros(9, 24, 36), baseline(probe, "blur")
    for mask in shifted_grids(probe, 5, cells=7, keep=0.3):
        chances = classifier.logits(hidden + mask * (images - hidden)).detach().softmax(1)[range(9), targets]
        expected += chances[:, None, None] * mask / (5 * 0.3)
    maps = vb.explain(classifier, images, targets, "rise", masks=5, keep=0.3, baseline="blur", seed=2)
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-5)


def test_shifted_grids_are_fair(gap_network, images):
    """In [0, 1], each pixel as often seen as any other, no two alike, and the same for other images."""
    probe = vb.Probe(vb.Classifier(gap_network), images)
    masks = torch.stack(list(shifted_grids(probe, 2000, cells=5, keep=0.3)))
    assert masks.shape == (2000, 24, 36)
    assert 0 <= masks.min() < 0.01 < 0.99 < masks.max() <= 1 + 1e-6
    assert (masks.mean(0) - 0.3).abs().max() < 0.06
    assert (masks[0] - masks[1]).abs().max() > 0.5
    others = shifted_grids(vb.Probe(probe.classifier, 1 - images[:2]), 3, cells=5, keep=0.3)
    assert torch.equal(torch.stack(list(others)), masks[:3])


def test_sobol_indices_of_an_additive_network_are_its_shares_of_variance(score):
    """f = Σ w_i a_i with a_i uniform and independent: w_i² / Σ w²."""
    cells = torch.tensor([[3.0, -1, 0], [2, 0.5, -2]])
    field = cells.repeat_interleave(12, 0).repeat_interleave(12, 1)
    additive = vb.Classifier(score(lambda x: (x * field).sum((1, 2, 3)) / 432))
    params = {"samples": 1024, "cells": 6, "baseline": "black"}
    (found,) = METHODS["sobol"].function(vb.Probe(additive, WHITE, [0]), **params)
    shares = found.view(2, 3, 3, 2).sum((1, 3))
    torch.testing.assert_close(shares, cells.square() / cells.square().sum(), atol=0.03, rtol=0)


def test_sobol_indices_count_what_cells_do_together(score):
    """f = a·b of two uniform cells: the total index is (Var + interaction) = 4/7 each, and 0 elsewhere."""
    product_of_two = vb.Classifier(score(lambda x: x[:, 0, 0, 0] * x[:, 0, -1, -1]))
    params = {"samples": 4096, "cells": 2, "baseline": "black"}
    (found,) = METHODS["sobol"].function(vb.Probe(product_of_two, torch.ones(1, 3, 4, 6), [0]), **params)
    torch.testing.assert_close(found, torch.tensor([[4 / 7, 0], [0, 4 / 7]]), atol=0.02, rtol=0)


def test_sobol_of_a_network_that_never_changes(score):
    constant = vb.Classifier(score(lambda x: 0 * x.sum((1, 2, 3)) + 2))
    assert vb.explain(constant, WHITE, [0], "sobol", samples=2, cells=2).abs().max() == 0


@pytest.mark.parametrize("area", [0.1, 0.3])
def test_extremal_perturbation_finds_what_the_score_is_made_of(score, area):
    """The score sees one disc: the mask of any smaller area lies in it, and one of its size is it."""
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    disc = ((rows - 30) ** 2 + (columns - 16) ** 2 < 14.8**2).float()  # 0.3 of the image
    one = vb.Classifier(score(lambda x: 5 * (x * disc).mean((1, 2, 3))))
    params = {"areas": str(area), "steps": 80, "cells": 16, "baseline": "black"}
    (found,) = vb.explain(one, torch.ones(1, 3, 48, 48), [0], "extremal_perturbation", **params)
    assert found.mean() == pytest.approx(area, abs=0.04)
    assert disc[found > 0.5].mean() > 0.9
    assert ((found < 0.2) | (found > 0.8)).float().mean() > 0.75


def test_extremal_perturbation_does_not_hang_on_the_unit_of_logits(placed_network, images, targets):
    names = {"areas": "0.2", "steps": 15, "cells": 12}
    first = vb.explain(vb.Classifier(placed_network), images[:2], targets[:2], "extremal_perturbation", **names)
    with torch.no_grad():
        placed_network[-1].weight *= 64
        placed_network[-1].bias *= 64
    again = vb.explain(vb.Classifier(placed_network), images[:2], targets[:2], "extremal_perturbation", **names)
    torch.testing.assert_close(again, first, atol=1e-3, rtol=0)


def test_extremal_perturbation_counts_its_passes(gap_network, images, targets):
    probe = vb.Probe(vb.Classifier(gap_network), images, targets)
    METHODS["extremal_perturbation"].function(probe, areas="0.1+0.2", steps=3)
    assert (probe.passes.forward, probe.passes.backward) == (9 * 2 * 3, 9 * 2 * 3)


def test_smooth_maximum_cell_by_cell():
    seeds = torch.rand(2, 4, 7, generator=torch.Generator().manual_seed(0))
    found = smooth_maximum(seeds)
    for batch, row, column in product(range(2), range(4), range(7)):
        values = []
        for down, across in product(range(-5, 6), repeat=2):
            inside = 0 <= row + down < 4 and 0 <= column + across < 7
            seed = seeds[batch, row + down, column + across] if inside else torch.tensor(0.0)
            distance = (down**2 + across**2) ** 0.5
            values.append(seed * torch.exp(torch.tensor(-(max(0.0, distance - 1) ** 2) / 4)))
        values = torch.stack(values)
        weights = torch.exp(20 * values)
        torch.testing.assert_close(found[batch, row, column], (values * weights).sum() / weights.sum())


def test_equal_cells_are_ranked_by_what_is_wanted():
    masks, wanted = torch.tensor([[0.5, 0.9, 0.5, 0.5]]), torch.tensor([[1.0, -5, 3, 2]])
    assert ranked(masks, wanted, torch.tensor([[0.0, 0, 1, 1]])).tolist() == [[0, 1, 1, 0]]


def test_grid_cells_differ_by_no_more_than_a_row():
    labels = grid(24, 37, 7)
    counts = labels.flatten().bincount()
    assert len(counts) == 49
    assert set(counts.tolist()) <= {3 * 5, 3 * 6, 4 * 5, 4 * 6}
    assert grid(2, 3, 9).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("rise", {"masks": 0}, "masks must be at least 1"),
        ("rise", {"keep": float("nan")}, "keep in"),
        ("rise", {"keep": 1.0}, "keep in"),
        ("rise", {"cells": 0}, "cells must be between 1 and 24"),
        ("rise", {"output": "logits"}, "did you mean logit"),
        ("sobol", {"samples": 20}, "power of two"),
        ("sobol", {"samples": 1}, "power of two"),
        ("sobol", {"cells": 25}, "cells must be between 1 and 24"),
        ("sobol", {"baseline": "blu"}, "did you mean blur"),
        ("extremal_perturbation", {"areas": "0.1,0.2"}, "joined by"),
        ("extremal_perturbation", {"areas": "0.1+1"}, "joined by"),
        ("extremal_perturbation", {"areas": "nan"}, "joined by"),
        ("extremal_perturbation", {"steps": 0}, "steps must be at least 1"),
        ("extremal_perturbation", {"cells": 99}, "cells between 1 and 36"),
    ],
)
def test_parameters_out_of_range(gap_network, images, targets, method, params, words):
    with pytest.raises(vb.VexbenchError, match=words) as caught:
        vb.explain(vb.Classifier(gap_network), images[:1], targets[:1], method, **params)
    assert "\n" not in str(caught.value)

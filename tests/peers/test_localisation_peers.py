"""Localisation and complexity beside Quantus 0.6.0: agreement, and disagreements with the equation that decides."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from vexbench.metrics.complexity import effective_complexity, entropy_complexity, file_size, sparseness
from vexbench.metrics.localisation import (
    auc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # the peer's own

SIDE, PIXELS = 16, 256


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("quantus")


@pytest.fixture(scope="module")
def maps():
    """Positive, without two equal values."""
    source = torch.Generator().manual_seed(2)
    return torch.stack([1 + torch.randperm(PIXELS, generator=source).view(SIDE, SIDE) for _ in range(6)]) / PIXELS


@pytest.fixture(scope="module")
def regions():
    return torch.rand(6, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) > 0.5


def peer(metric, maps, regions=None):
    """The peer's scores of maps as they are."""
    images = np.zeros((len(maps), 3, SIDE, SIDE), np.float32)
    masks = None if regions is None else regions[:, None].numpy()
    with warnings.catch_warnings(action="ignore"):
        scores = metric(
            model=nn.Identity(),
            x_batch=images,
            y_batch=np.zeros(len(maps), int),
            a_batch=maps[:, None].numpy().copy(),
            s_batch=masks,
            device="cpu",
        )
    return torch.tensor(np.array(scores, dtype=np.float64))


PLAIN = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}


def close(ours, theirs):
    return torch.allclose(ours.double(), theirs, atol=1e-5, equal_nan=True)


def test_pointing_game(quantus, maps, regions):
    theirs = peer(quantus.PointingGame(**PLAIN), maps, regions)
    assert 0 < theirs.mean() < 1
    assert close(pointing_game(maps, regions), theirs)


def test_relevance_mass_accuracy(quantus, maps, regions):
    assert close(relevance_mass_accuracy(maps, regions), peer(quantus.RelevanceMassAccuracy(**PLAIN), maps, regions))


def test_relevance_rank_accuracy(quantus, maps, regions):
    assert close(relevance_rank_accuracy(maps, regions), peer(quantus.RelevanceRankAccuracy(**PLAIN), maps, regions))


@pytest.mark.parametrize("k", [1, 20, 200])
def test_top_k_intersection(quantus, maps, regions, k):
    assert close(top_k_intersection(maps, regions, k=k), peer(quantus.TopKIntersection(k=k, **PLAIN), maps, regions))
    # "concept influence" is a constant of the region: its share of the image
    influence = peer(quantus.TopKIntersection(k=k, concept_influence=True, **PLAIN), maps, regions)
    assert close(top_k_intersection(maps, regions, k=k) * PIXELS / regions.sum((1, 2)), influence)


@pytest.mark.parametrize("levels", [PIXELS, 5])
def test_auc(quantus, maps, regions, levels):
    coarse = (maps * levels).ceil()  # with five levels, most pixels are equal to others
    assert close(auc(coarse, regions), peer(quantus.AUC(**PLAIN), coarse, regions))


def test_attribution_localisation_is_the_mass_of_absolute_values(quantus, maps, regions):
    signed = maps - 0.5
    metric = quantus.AttributionLocalisation(**{**PLAIN, "abs": True})
    assert close(relevance_mass_accuracy(signed.abs(), regions), peer(metric, signed, regions))
    metric = quantus.AttributionLocalisation(positive_attributions=True, **PLAIN)
    assert close(relevance_mass_accuracy(signed, regions), peer(metric, signed, regions))


@pytest.mark.parametrize("name", ["plain", "signed"])
def test_sparseness_and_entropy(quantus, maps, name):
    given = maps if name == "plain" else maps - 0.5
    settings = {**PLAIN, "abs": True}
    theirs = peer(quantus.Sparseness(**settings), given)
    assert close(sparseness(given), theirs)
    # in nats, where ours is a share of the largest, ln n (Bhatt et al. 2020, definition 3, has no such division)
    assert close(entropy_complexity(given) * np.log(PIXELS), peer(quantus.Complexity(**settings), given))


def test_effective_complexity(quantus, maps):
    """Its threshold is absolute and its score a count; ours are shares of the map's maximum and of its pixels."""
    signed = maps - 0.5
    theirs = peer(quantus.EffectiveComplexity(eps=0.1, **{**PLAIN, "abs": True}), signed)
    assert close(effective_complexity(signed, threshold=0.1 / signed.abs().max().item()) * PIXELS, theirs)


# The peer's defects


def test_quantus_pointing_game_scores_an_empty_mask_as_a_hit(quantus, maps, regions):
    """NaN is written into an array of booleans, where it is True. Zhang et al. 2016 (section 4.2) count hits and misses
    of an object that is there, #hits / (#hits + #misses): without one there is neither."""
    half = torch.cat([regions[:3] & False, regions[3:]])
    assert peer(quantus.PointingGame(**PLAIN), maps, half)[:3].tolist() == [1.0] * 3
    assert pointing_game(maps, half)[:3].isnan().all()


def test_quantus_pointing_game_fails_when_weighted(quantus, maps, regions):
    with pytest.raises(TypeError, match="boolean array indexing"):
        peer(quantus.PointingGame(weighted=True, **PLAIN), maps, regions)


def test_quantus_pointing_game_counts_one_of_many_equal_maxima_as_a_hit(quantus, regions):
    """A constant map points nowhere, and is right by chance only: the share of its maxima that lie in the region."""
    flat = torch.arange(2.0, 8)[:, None, None].expand(6, SIDE, SIDE).contiguous()  # it refuses maps that are all alike
    assert peer(quantus.PointingGame(**PLAIN), flat, regions).tolist() == [1.0] * 6
    assert torch.allclose(pointing_game(flat, regions), regions.float().mean((1, 2)))


def test_quantus_rank_accuracy_orders_equal_values_by_their_place(quantus):
    """A flat map scores by where in the frame the region is; over all orders of equals it is the region's share."""
    flat = torch.arange(2.0, 4)[:, None, None].expand(2, SIDE, SIDE).contiguous()
    halves = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    halves[0, :8], halves[1, 8:] = True, True
    assert peer(quantus.RelevanceRankAccuracy(**PLAIN), flat, halves).tolist() == [1.0, 0.0]
    assert relevance_rank_accuracy(flat, halves).tolist() == [0.5, 0.5]


def test_quantus_mass_accuracy_leaves_zero_to_one_on_signed_maps(quantus):
    """Arras et al. 2022 pool relevance to positive values first; with both signs the total can be next to nothing."""
    maps, where = torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    maps[0, 0, 0], maps[0, 5, 5], where[0, 0, 0] = 1.0, -0.9, True
    assert peer(quantus.RelevanceMassAccuracy(**PLAIN), maps, where).item() == pytest.approx(10, rel=1e-4)
    assert relevance_mass_accuracy(maps, where).item() == 1


def test_quantus_weighted_localisation_depends_on_the_batch(quantus, maps, regions):
    """Its "image size" is the size of all images from the third on (`x_batch[2:].size`). Kohlbrenner et al. 2020 weight
    by the image's own size over the region's: μ_w = μ · S_total / S_in."""
    metric = quantus.AttributionLocalisation(weighted=True, **PLAIN)
    six, three = peer(metric, maps, regions), peer(metric, maps[:3], regions[:3])
    assert torch.allclose(three, 4 * six[:3], rtol=1e-4)
    share = relevance_mass_accuracy(maps, regions)
    assert close(share * regions.sum((1, 2)) / (4 * 3 * PIXELS), six)  # four images, three colours, and upside down


@pytest.mark.parametrize("name", ["Sparseness", "Complexity"])
def test_quantus_writes_into_the_callers_array(quantus, maps, name):
    """Adds its 1e-7, or divides by the sum, in place, where neither `abs` nor `normalise` has made a copy before."""
    given = maps[:, None].numpy().copy()
    metric = getattr(quantus, name)(**PLAIN)
    images = np.zeros((6, 1, SIDE, SIDE), np.float32)
    with warnings.catch_warnings(action="ignore"):
        metric(model=nn.Identity(), x_batch=images, y_batch=np.zeros(6, int), a_batch=given, device="cpu")
    assert (given != maps[:, None].numpy()).any()
    kept = maps.clone()
    for ours in (sparseness, entropy_complexity, effective_complexity, file_size):
        ours(maps)
    assert maps.equal(kept)


def test_quantus_sparseness_hangs_on_the_scale(quantus, maps):
    """1e-7 is added to every value, so that small ones, as the gradients of a sure network are, come out flat. The Gini
    index (Chalasani et al. 2020, section 4) is a ratio, the same at every scale."""
    small = 1e-8 * maps
    assert peer(quantus.Sparseness(**{**PLAIN, "abs": True}), small).max() < 0.05
    assert torch.allclose(sparseness(small), sparseness(maps))
    assert sparseness(maps).min() > 0.3


def test_quantus_scores_depend_on_the_other_maps_of_the_call(quantus, maps):
    """By default each map is divided by the largest value of the call, so a threshold means something else beside
    another map; ours is relative to the map's own maximum."""
    both = torch.cat([maps[:1], 100 * maps[1:2]])
    metric = quantus.EffectiveComplexity(eps=0.1, disable_warnings=True, display_progressbar=False)
    assert peer(metric, maps[:1]).item() == 231
    assert peer(metric, both)[0].item() == 0
    assert (effective_complexity(both, threshold=0.1) * PIXELS).tolist() == pytest.approx([231, 231])

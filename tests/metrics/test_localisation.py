import pytest
import torch
from torch.nn import functional

from vexbench.datasets.scenes import scenes
from vexbench.errors import VexbenchError
from vexbench.metrics.localisation import (
    auc,
    boxed,
    energy_pointing_game,
    iou_at_best_threshold,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
    widened,
)
from vexbench.registry import METRICS


def point(row, column, value=1.0, side=12):
    maps = torch.zeros(1, side, side)
    maps[0, row, column] = value
    return maps


def region(rows, columns, side=12):
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[0, rows, columns] = True
    return mask


def test_pointing_game_asks_where_the_maximum_is():
    box = region(slice(2, 5), slice(6, 9))
    assert pointing_game(point(2, 8), box).item() == 1
    assert pointing_game(point(8, 2), box).item() == 0  # rows and columns in the right order
    # the largest value, not the largest size
    assert pointing_game(point(2, 8) + point(10, 10, value=-5.0), box).item() == 1


def test_tolerance_is_a_euclidean_distance_around_the_region():
    one = region(5, 5)
    assert pointing_game(point(9, 8), one, tolerance=5).item() == 1  # 3-4-5
    assert pointing_game(point(9, 8), one, tolerance=4).item() == 0
    assert pointing_game(point(9, 9), one, tolerance=5).item() == 0  # within the square, not within the disc
    assert pointing_game(point(5, 6), one).item() == 0


def test_widened_regions_do_not_wrap_around():
    corner = widened(region(0, 0), 2)
    assert corner.sum().item() == 6
    assert corner[0, :3, :3].tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_equal_maxima_score_their_share():
    quarter = region(slice(0, 6), slice(0, 6))
    assert pointing_game(torch.zeros(1, 12, 12), quarter).item() == 0.25
    assert pointing_game(torch.full((1, 12, 12), -3.0), quarter).item() == 0.25
    two = point(0, 0) + point(11, 11)
    assert pointing_game(two, quarter).item() == 0.5


def test_mass_in_the_region():
    maps = torch.tensor([[[1.0, 2.0], [-10.0, 5.0]]])
    assert relevance_mass_accuracy(maps, region(0, slice(0, 2), side=2)).item() == pytest.approx(3 / 8)
    # a negative value in the region is no evidence there
    assert relevance_mass_accuracy(maps, region(1, slice(0, 2), side=2)).item() == pytest.approx(5 / 8)
    assert relevance_mass_accuracy(maps, region(slice(0, 2), slice(0, 2), side=2)).item() == 1
    assert relevance_mass_accuracy(torch.ones(1, 12, 12), region(0, 0)).item() == pytest.approx(1 / 144)


def test_not_defined_without_a_region_or_without_mass():
    maps = torch.cat([point(1, 1), point(1, 1), -point(1, 1), torch.zeros(1, 12, 12)])
    regions = torch.cat([torch.zeros(1, 12, 12, dtype=torch.bool), *[region(1, 1)] * 3])
    assert relevance_mass_accuracy(maps, regions).isnan().tolist() == [True, False, True, True]
    assert pointing_game(maps, regions).isnan().tolist() == [True, False, False, False]
    assert pointing_game(maps, regions, tolerance=3).isnan().tolist() == [True, False, False, False]
    assert pointing_game(-point(1, 1), region(1, 1)).item() == 0


def test_mistakes_are_told():
    with pytest.raises(VexbenchError, match="tolerance must be 0 or more"):
        pointing_game(point(1, 1), region(1, 1), tolerance=-1)


def test_energy_counts_the_region_or_the_box_around_it():
    corners = region(2, 2) | region(4, 7)
    maps = point(3, 5) + point(4, 7, 2.0) + point(5, 5) + point(2, 8, 4.0) + point(0, 0, -9.0)
    assert energy_pointing_game(maps, corners, box=True).item() == pytest.approx(3 / 8)
    assert energy_pointing_game(maps, corners).item() == pytest.approx(2 / 8)
    assert relevance_mass_accuracy(maps, corners).item() == pytest.approx(2 / 8)


def test_boxes_around_regions():
    found = boxed(torch.cat([region(2, 2) | region(4, 7), region(0, 11), torch.zeros(1, 12, 12, dtype=torch.bool)]))
    assert found[0].equal(region(slice(2, 5), slice(2, 8))[0])
    assert found[1].equal(region(0, 11)[0])
    assert not found[2].any()


def test_rank_accuracy_takes_as_many_pixels_as_the_region_has():
    maps = torch.tensor([[[9.0, 8.0, 1.0], [7.0, -20.0, 0.0]]])
    row = torch.tensor([[[True, True, True], [False, False, False]]])
    # 9, 8 and 7 are the three most salient; −20 is the least, whatever its size
    assert relevance_rank_accuracy(maps, row).item() == pytest.approx(2 / 3)
    assert relevance_rank_accuracy(maps, ~row).item() == pytest.approx(1 / 3)
    assert relevance_rank_accuracy(-maps, ~row).item() == pytest.approx(2 / 3)


def test_equal_values_share_the_places_that_are_left():
    # one certain hit, then two places for four zeros of which one lies in the region
    maps = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 0.0, -1.0]]])
    where = torch.tensor([[[True, True, False], [False, False, True]]])
    assert relevance_rank_accuracy(maps, where).item() == pytest.approx((1 + 2 / 4) / 3)
    assert top_k_intersection(maps, where, k=2).item() == pytest.approx((1 + 1 / 4) / 2)
    # whichever way the frame is turned
    assert relevance_rank_accuracy(maps.flip(1, 2), where.flip(1, 2)).item() == pytest.approx(0.5)


def test_top_k_is_a_share_of_k():
    maps = torch.arange(144.0).view(1, 12, 12)
    last = region(11, slice(0, 12))
    assert top_k_intersection(maps, last, k=12).item() == 1
    assert top_k_intersection(maps, last, k=24).item() == 0.5  # the region cannot fill more
    assert top_k_intersection(-maps, last, k=12).item() == 0
    assert top_k_intersection(maps, last).item() == pytest.approx(1 / 12)  # 1000 of 144 are all


def test_iou_at_the_best_of_all_thresholds():
    # thresholds 4, 3, 2: {a} 1/3, {a, b} 2/3 , {a, b, c} 2/4 with c outside
    maps = torch.tensor([[[4.0, 3.0, 2.0], [1.0, 0.0, -5.0]]])
    where = torch.tensor([[[True, True, False], [False, True, False]]])
    assert iou_at_best_threshold(maps, where).item() == pytest.approx(2 / 3)
    assert iou_at_best_threshold(-maps, where).item() == pytest.approx(1 / 2)  # nothing better than the whole image
    # a threshold takes all of its equals: 3/6 for the constant map, not 3/3
    assert iou_at_best_threshold(torch.zeros(1, 2, 3), where).item() == pytest.approx(1 / 2)


def test_iou_of_boxes_fills_the_outline_of_an_object():
    ring = torch.zeros(1, 12, 12)
    ring[0, 2, 3:8] = ring[0, 6, 3:8] = 1
    ring[0, 2:7, 3] = ring[0, 2:7, 7] = 1
    inside = region(slice(2, 7), slice(3, 8))
    assert iou_at_best_threshold(ring, inside, box=True).item() == 1
    assert iou_at_best_threshold(ring, inside).item() == pytest.approx(16 / 25)
    # beside it: boxes of 5 × 5 and 5 × 4 that share 5 × 2
    aside = region(slice(2, 7), slice(6, 10))
    assert iou_at_best_threshold(ring, aside, box=True).item() == pytest.approx(10 / 35)


def test_auc_is_the_chance_that_inside_is_larger():
    maps = torch.tensor([[[3.0, 2.0], [1.0, 2.0]]])
    where = torch.tensor([[[True, False], [False, True]]])
    # 3 > 2, 3 > 1, 2 = 2 counts half, 2 > 1
    assert auc(maps, where).item() == pytest.approx(3.5 / 4)
    assert auc(-maps, where).item() == pytest.approx(0.5 / 4)
    assert auc(torch.zeros(1, 2, 2), where).item() == 0.5
    assert auc(maps, torch.ones(1, 2, 2, dtype=torch.bool)).isnan().item()
    large = torch.rand(1, 400, 400, generator=torch.Generator().manual_seed(0))
    assert auc(large, large > 0.5).item() == 1  # sums of 10¹⁰ places are exact


REGIONAL = sorted(
    name for name, entry in METRICS.items() if entry.family == "localisation" and "regions" in entry.needs
)


@pytest.mark.parametrize("name", REGIONAL)
def test_the_exact_mask_wins_and_random_loses(name):
    """On drawn scenes, whose masks are exact: 12 images, each metric at its defaults."""
    data = scenes(per_class=2, size=48)
    regions = torch.stack([torch.from_numpy(data.region(row, label, 48)) for row, label in enumerate(data.labels)])
    metric = METRICS[name].function
    random = torch.rand(regions.shape, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(regions[:, None].float(), 9, 1, 4)[:, 0]
    shifted = regions.roll(12, 2)
    exact = metric(regions.float(), regions)
    for other in (random, shifted.float(), 1 - regions.float(), blurred + 0.1 * random, -regions.float()):
        scores = metric(other, regions)
        assert (scores.isnan() | (exact >= scores - 1e-6)).all()
    for other in (random, shifted.float(), 1 - regions.float()):
        assert exact.mean() > metric(other, regions).mean() + 0.05
    if name != "top_k_intersection":  # whose k is larger than some of these regions
        assert exact.tolist() == pytest.approx([1.0] * 12)
    assert metric(random, regions).mean() < metric(blurred, regions).mean()


@pytest.mark.parametrize("name", REGIONAL)
def test_an_empty_region_is_never_a_hit(name):
    regions = torch.cat([torch.zeros(1, 12, 12, dtype=torch.bool), region(1, 1)])
    metric = METRICS[name].function
    for maps in (torch.zeros(2, 12, 12), torch.ones(2, 12, 12), torch.cat([point(1, 1)] * 2), -torch.ones(2, 12, 12)):
        assert metric(maps, regions)[0].isnan()
    assert metric(torch.cat([point(1, 1)] * 2), regions)[1] > 0
    assert metric(point(1, 1), regions[1:]).shape == (1,)


@pytest.mark.parametrize("name", REGIONAL)
def test_a_map_of_one_pixel(name):
    one, here = torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    score = METRICS[name].function(one, here)
    assert score.isnan() if name == "auc" else score == 1
    assert METRICS[name].function(one, ~here).isnan()


def test_k_below_one_is_told():
    with pytest.raises(VexbenchError, match="k must be 1 pixel or more"):
        top_k_intersection(point(1, 1), region(1, 1), k=0)

import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.metrics.localisation import pointing_game, relevance_mass_accuracy, widened


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

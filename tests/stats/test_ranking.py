import numpy as np
import pytest

from vexbench.stats.bootstrap import bootstrap, weights
from vexbench.stats.ranking import better, rank, rank_table

UP, DOWN = np.array([True]), np.array([False])


def ranks(values: list[float], higher: np.ndarray = UP) -> list[float]:
    return rank(np.array(values)[:, None], higher)[:, 0].tolist()


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ([0.1, 0.9, 0.5], UP, [3, 1, 2]),
        ([0.1, 0.9, 0.5], DOWN, [1, 3, 2]),
        ([0.5, 0.5, 0.1], UP, [1.5, 1.5, 3]),
        ([0.5, 0.5, 0.5], DOWN, [2, 2, 2]),
        ([0.5, np.nan, 0.1], UP, [1, 3, 2]),
        ([0.5, np.nan, 0.1], DOWN, [2, 3, 1]),
        ([np.nan, 0.3, np.nan], UP, [2.5, 1, 2.5]),
        ([0.123456, 0.1234561, 0.2], UP, [2.5, 2.5, 1]),
        ([-1.0, 0.0, 1.0], DOWN, [1, 2, 3]),
        ([0.0, 0.0], DOWN, [1.5, 1.5]),
        ([0.7], UP, [1]),
    ],
)
def test_known_ranks(values: list[float], higher: np.ndarray, expected: list[float]) -> None:
    assert ranks(values, higher) == expected


def test_ranks_of_every_draw_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(20, 6, 3))
    found = rank(values, np.array([True, False, True]))
    assert np.allclose(found.sum(1), 21)
    assert np.array_equal(found[4], rank(values[4], np.array([True, False, True])))


def scores(*means: list[float], noise: float = 0.01, images: int = 60) -> np.ndarray:
    """Scores of methods (rows of `means`) on metrics, with noise of their own on every image."""
    return np.array(means) + noise * np.random.default_rng(0).normal(size=(images, len(means), len(means[0])))


def test_axes_weigh_the_same_however_many_metrics_they_have() -> None:
    # method 0 wins the axis of three metrics, method 1 the axis of one
    table = rank_table(bootstrap(scores([1, 1, 1, 0], [0, 0, 0, 1])), np.array([True] * 4))
    overall = table.over([0, 1, 2], [3])
    assert overall.mean.tolist() == [1.5, 1.5]
    assert table.over([0, 1, 2]).mean.tolist() == [1, 2]


def test_a_clear_leader_stands_alone() -> None:
    table = rank_table(bootstrap(scores([0.9], [0.5], [0.1])), UP).over([0])
    assert table.leaders([0, 1, 2]) == [0]
    assert table.leaders([1, 2]) == [1]
    assert table.order == [0, 1, 2]
    assert table.first.tolist() == [1, 0, 0]
    assert table.intervals.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_overlapping_methods_are_all_named() -> None:
    table = rank_table(bootstrap(scores([0.5], [0.5], [0.1], noise=0.2)), UP).over([0])
    assert sorted(table.leaders([0, 1, 2])) == [0, 1]
    assert table.first[:2].sum() == pytest.approx(1, abs=0.01)
    assert 0.02 < table.first[0] < 0.98


@pytest.mark.parametrize("images", [1, 4])
def test_few_images_rank_without_a_leader(images: int) -> None:
    table = rank_table(bootstrap(scores([0.9], [0.5], [0.1], images=images)), UP).over([0])
    assert table.mean.tolist() == [1, 2, 3]
    assert np.isnan(table.intervals).all()
    assert np.isnan(table.first).all()
    assert table.leaders([0, 1, 2]) == [0, 1, 2]


def test_a_mean_of_few_images_among_many_cannot_win() -> None:
    found = scores([0.9], [0.5], [0.1])
    found[4:, 0] = np.nan
    table = rank_table(bootstrap(found), UP).over([0])
    assert table.mean.tolist() == [3, 1, 2]
    assert table.leaders([0, 1, 2]) == [1]


def test_equal_methods_share_the_first_place() -> None:
    same = scores([0.9], noise=0.3)
    table = rank_table(bootstrap(np.concatenate([same, same, same - 1], axis=1)), UP).over([0])
    assert table.first.tolist() == [0.5, 0.5, 0]
    assert table.mean.tolist() == [1.5, 1.5, 3]


def test_pairing_finds_what_the_spread_of_the_images_hides() -> None:
    difficulty = np.random.default_rng(0).normal(0, 5, size=(40, 1, 1))
    gain = np.random.default_rng(1).normal(0.3, 0.2, size=(40, 1, 1))
    found = better(np.concatenate([difficulty + gain, difficulty - gain], 1), difficulty[:, 0], UP, draws=weights(40))
    assert found[:, 0].tolist() == [1, -1]
    reversed_ = better(difficulty + gain, difficulty[:, 0], DOWN, draws=weights(40))
    assert reversed_[0, 0] == -1


def test_comparison_uses_only_images_that_both_have() -> None:
    method, rival = np.full((10, 1, 1), 5.0), np.zeros((10, 1))
    method[:5], rival[5:] = np.nan, np.nan
    assert np.isnan(better(method, rival, UP, draws=weights(10))[0, 0])
    rival[6:] = 9.0  # the only images in common, and there the rival is better
    assert np.isnan(better(method, rival, UP, draws=weights(10))[0, 0])  # but they are four
    rival[5] = 9.0
    assert better(method, rival, UP, draws=weights(10))[0, 0] == -1


def test_noise_is_not_told_apart() -> None:
    generator = np.random.default_rng(3)
    method, rival = generator.normal(size=(50, 1, 1)), generator.normal(size=(50, 1))
    assert better(method, rival, UP, draws=weights(50))[0, 0] == 0

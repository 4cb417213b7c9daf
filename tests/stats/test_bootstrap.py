import numpy as np
import pytest
from scipy import stats

from vexbench.stats.bootstrap import FEWEST, bootstrap, interval, weights


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None, None]


def test_each_draw_holds_as_many_images_as_there_are() -> None:
    drawn = weights(7, draws=50)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(1) == 7).all()
    assert np.array_equal(drawn, weights(7, draws=50))
    assert not np.array_equal(drawn, weights(7, draws=50, seed=1))


def test_mean_and_interval_agree_with_scipy() -> None:
    sample = np.random.default_rng(0).gamma(2, size=80)
    ours = bootstrap(sample[:, None, None], draws=4000).estimate(0, 0)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours.mean == pytest.approx(sample.mean())
    assert ours.low == pytest.approx(theirs.low, rel=0.03)
    assert ours.high == pytest.approx(theirs.high, rel=0.03)


def test_undefined_scores_are_left_out_and_counted() -> None:
    estimate = bootstrap(column(1, np.nan, 3, np.inf, 1, 3, 1, 3)).estimate(0, 0)
    assert estimate.mean == 2
    assert (estimate.defined, estimate.total) == (6, 8)
    assert 1 <= estimate.low < estimate.high <= 3


def test_nothing_defined_is_nan_not_zero() -> None:
    estimate = bootstrap(column(np.nan, np.nan)).estimate(0, 0)
    assert np.isnan([estimate.mean, estimate.low, estimate.high]).all()
    assert estimate.defined == 0


@pytest.mark.parametrize("missing", [0, 40])
def test_few_scores_have_a_mean_but_no_interval(missing: int) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, *[np.nan] * missing]
    assert bootstrap(column(*values)).estimate(0, 0).high > 3
    few = bootstrap(column(*values[1:])).estimate(0, 0)
    assert (few.mean, few.defined) == (3.5, FEWEST - 1)
    assert np.isnan([few.low, few.high]).all()


def test_methods_share_their_draws() -> None:
    scores = np.random.default_rng(0).normal(size=(30, 1, 2))
    both = np.concatenate([scores, scores + 1], axis=1)
    draws = bootstrap(both).draws
    assert np.allclose(draws[:, 1] - draws[:, 0], 1)


def test_equal_scores_have_no_spread() -> None:
    estimate = bootstrap(column(*[0.5] * 10)).estimate(0, 0)
    assert estimate.low == estimate.mean == estimate.high == 0.5


def test_interval_covers_the_middle_95_percent() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))

"""Judging the judges: published worked examples, and studies whose answers are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from vexbench.results.frame import Group
from vexbench.results.record import MethodRecord, MetricRecord
from vexbench.stats.judging import Judgement, Judges, agreement, krippendorff
from vexbench.stats.summary import summarise

NAN = np.nan
# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C and D: four observers, twelve units
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


@pytest.mark.parametrize(("level", "alpha"), [("ordinal", 0.815), ("interval", 0.849)])
def test_published_example(level, alpha):
    assert krippendorff(PUBLISHED, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_one_for_one_order_zero_by_chance_and_below_for_contradiction():
    assert krippendorff(np.tile([0.1, 0.7, 0.3], (5, 1))) == pytest.approx(1)
    assert abs(krippendorff(np.random.default_rng(0).random((60, 8)))) < 0.03
    assert krippendorff(np.array([[1.0, 2, 3], [3, 2, 1]])) < 0
    assert np.isnan(krippendorff(np.ones((4, 3))))
    assert np.isnan(krippendorff(np.array([[1.0, NAN], [NAN, 2.0]])))


def test_ordinal_alpha_hangs_on_the_order_only():
    values = np.random.default_rng(0).normal(size=(6, 5))
    assert krippendorff(np.exp(values)) == pytest.approx(krippendorff(values))
    assert krippendorff(np.exp(values), "interval") != pytest.approx(krippendorff(values, "interval"))


def method(name: str, family: str = "cam", **params: object) -> MethodRecord:
    label = name + "".join(f" {value}" for value in params.values())
    return MethodRecord(name, label, label, name, family, "", "", 1, params, signed=False)


def metric(name: str, direction: str = "higher", family: str = "faithfulness") -> MetricRecord:
    return MetricRecord(name, name, name, name, family, "", "", 1, {}, direction)


def judged(methods: Sequence[MethodRecord], metrics: Sequence[MetricRecord], scores: np.ndarray) -> Judges:
    images = pl.DataFrame({"image": [f"{i:03d}" for i in range(len(scores))]})
    cells = {
        (one.key, other.key): images.with_columns(score=pl.Series(scores[:, i, j]))
        for i, one in enumerate(methods)
        for j, other in enumerate(metrics)
    }
    group = Group(Path(), "d", "m", {}, {}, images, tuple(methods), tuple(metrics), cells, (), ())
    return Judges(summarise(group))


REAL = [method(name) for name in "abcd"]
RANDOM = method("random", "control")
SPOILT = [method("degraded", "control", of="a", noise=noise) for noise in (0.25, 0.5, 1.0)]


def told(quality: Sequence[float], *, noise: float = 0.05, images: int = 40, down: bool = False) -> np.ndarray:
    """Scores (images, methods, 1) of this mean."""
    values = np.array(quality) + noise * np.random.default_rng(0).normal(size=(images, len(quality)))
    return (-values if down else values)[..., None]


def one(methods: Sequence[MethodRecord], scores: np.ndarray, direction: str = "higher") -> Judgement:
    (found,) = judged(methods, [metric("x", direction)], scores).judgements
    return found


@pytest.mark.parametrize("down", [False, True])
def test_a_good_metric_passes_whatever_its_direction(down):
    scores = told([0.9, 0.8, 0.7, 0.6, 0.1, 0.7, 0.5, 0.1], down=down)
    found = one([*REAL, RANDOM, *SPOILT], scores, "lower" if down else "higher")
    assert found.reliability is not None
    assert found.separation is not None
    assert 0.5 < found.reliability.low < found.reliability.alpha < found.reliability.high <= 1
    assert (found.separation.better, found.separation.worse, found.separation.compared) == (4, 0, 4)
    assert found.separation.chance == pytest.approx(1)
    (fall,) = found.degradations
    assert (fall.fall, fall.steps, fall.levels) == ("every step", 3, (0, 0.25, 0.5, 1))
    assert fall.chance > 0.98
    assert found.checks == {"reliability": True, "separation": True, "degradation": True}
    assert found.passes is True


def test_a_metric_of_noise_fails_everything():
    scores = np.random.default_rng(3).normal(size=(60, 8, 1))
    found = one([*REAL, RANDOM, *SPOILT], scores)
    assert found.reliability is not None
    assert found.separation is not None
    assert abs(found.reliability.alpha) < 0.1
    assert found.separation.better < 2
    assert found.separation.chance == pytest.approx(0.5, abs=0.1)
    assert found.degradations[0].fall == "no"
    assert found.passes is False


def test_a_metric_that_prefers_noise_is_upside_down():
    found = one([*REAL, RANDOM, *SPOILT], told([0.1, 0.2, 0.3, 0.4, 0.9, 0.5, 0.6, 0.9]))
    assert found.separation is not None
    assert (found.separation.better, found.separation.worse) == (0, 4)
    assert found.separation.chance == 0
    assert found.degradations[0].fall == "upside down"
    assert found.degradations[0].chance < 0.02


def test_a_dip_between_levels_is_a_fall_in_the_end_only():
    (fall,) = one([*REAL, *SPOILT], told([0.9, 0.8, 0.7, 0.6, 0.5, 0.7, 0.3])).degradations
    assert (fall.fall, fall.steps) == ("in the end", 2)


def test_the_clean_map_may_be_a_level_of_its_own():
    clean = method("degraded", "control", of="b", noise=0.0)
    spoilt = method("degraded", "control", of="b", noise=0.5)
    found = one([REAL[0], clean, spoilt], told([0.5, 0.9, 0.2]))
    assert [fall.fall for fall in found.degradations] == ["every step"]
    assert found.degradations[0].of == 1


def test_reliability_is_that_of_the_real_methods():
    """Random and spoilt maps, which every metric tells, would make all metrics look reliable."""
    scores = np.random.default_rng(0).normal(size=(40, 8, 1))
    scores[:, 4:] -= 100
    found = one([*REAL, RANDOM, *SPOILT], scores)
    assert found.reliability is not None
    assert abs(found.reliability.alpha) < 0.1


def test_the_interval_is_not_lifted_by_images_drawn_twice():
    """An image drawn twice agrees with itself; counted as two raters, it would lift alpha of noise above zero."""
    scores = np.random.default_rng(1).normal(size=(6, 5, 1))
    found = one([method(name) for name in "abcde"], scores)
    assert found.reliability is not None
    assert (found.reliability.low + found.reliability.high) / 2 == pytest.approx(found.reliability.alpha, abs=0.1)


def test_what_the_study_does_not_hold_is_none():
    found = one(REAL, told([0.9, 0.8, 0.7, 0.6]))
    assert found.separation is None
    assert found.degradations == ()
    assert set(found.checks) == {"reliability"}
    alone = one(REAL[:1], told([0.9]))
    assert alone.reliability is None
    assert np.isnan(alone.agreement)
    assert alone.passes is None
    without_clean = one([*REAL[1:], *SPOILT], told([0.8, 0.7, 0.6, 0.5, 0.4, 0.3]))
    assert without_clean.degradations == ()


@pytest.mark.parametrize("images", [1, 3])
def test_few_images_pass_no_judgement(images):
    found = one([*REAL, RANDOM, *SPOILT], told([0.9, 0.8, 0.7, 0.6, 0.1, 0.7, 0.5, 0.1], images=images))
    assert found.checks == {}
    assert found.separation is None
    assert found.degradations == ()


@pytest.mark.parametrize(("defined", "checks"), [(4, set()), (5, {"reliability"})])
def test_few_images_with_a_score_pass_no_judgement_in_a_large_study(defined, checks):
    scores = told([0.9, 0.8, 0.7, 0.6], noise=0.001)
    scores[defined:] = NAN
    found = one(REAL, scores)
    assert found.reliability.alpha > 0.9
    assert np.isfinite(found.reliability.low) == bool(checks)
    assert set(found.checks) == checks


def test_undefined_scores_are_left_out():
    scores = told([0.9, 0.8, 0.7, 0.6, 0.1, 0.7, 0.5, 0.1])
    scores[::3] = NAN
    scores[1, :2] = NAN
    found = one([*REAL, RANDOM, *SPOILT], scores)
    assert found.passes is True
    assert one([*REAL, RANDOM, *SPOILT], np.full_like(scores, NAN)).checks == {}
    lone = told([0.9, 0.8, 0.7, 0.6, 0.1])
    lone[:, 4] = NAN  # the random map has no score
    assert one([*REAL, RANDOM], lone).separation is None


def test_equal_scores_say_nothing():
    found = one([*REAL, RANDOM, *SPOILT], np.ones((20, 8, 1)))
    assert found.reliability is None
    assert found.separation is not None
    assert (found.separation.better, found.separation.worse, found.separation.chance) == (0, 0, 0.5)
    assert (found.degradations[0].fall, found.degradations[0].steps, found.degradations[0].chance) == ("no", 0, 0.5)


def test_agreement_is_kendalls_tau_b_in_the_metrics_directions():
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 4, (7, 6, 3)).astype(float)
    higher = np.array([True, False, True])
    found = agreement(scores, higher)
    for a in range(3):
        for b in range(3):
            taus = [
                kendalltau(image[:, a] * (1 if higher[a] else -1), image[:, b] * (1 if higher[b] else -1)).statistic
                for image in scores
            ]
            assert found[a, b] == pytest.approx(np.nanmean(taus))


def test_agreement_leaves_out_what_one_of_them_does_not_score():
    scores = np.random.default_rng(0).normal(size=(5, 6, 2))
    gaps = scores.copy()
    gaps[:, 0, 1] = NAN
    gaps[0] = NAN
    expected = np.mean([kendalltau(image[1:, 0], image[1:, 1]).statistic for image in scores[1:]])
    assert agreement(gaps, np.array([True, True]))[0, 1] == pytest.approx(expected)
    gaps[:, 1:, 1] = 1.0
    assert np.isnan(agreement(gaps, np.array([True, True]))[0, 1])


def test_costs_are_not_judged():
    scores = np.concatenate([told([0.9, 0.8, 0.7, 0.6])] * 2, 2)
    found = judged(REAL, [metric("x"), metric("passes", "lower", "cost")], scores)
    assert found.metrics == (0,)
    assert found.agreement.shape == (1, 1)
    assert len(found.judgements) == 1

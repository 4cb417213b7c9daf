from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtri

from vexbench.stats.bootstrap import bootstrap, weights
from vexbench.stats.race import LEAST, TOP, mistaken, race, spending
from vexbench.stats.ranking import rank_raced, rank_table

UP = np.array([True])
IMAGES, METHODS, STUDIES, LEVEL = 192, 12, 200, 0.95
LOOKS = range(16, IMAGES, 16)


def settled(
    scores: np.ndarray, higher: np.ndarray = UP, *, seen: int | None = None, level: float = LEVEL
) -> np.ndarray:
    return race(scores[:seen], higher, total=len(scores), looks=LOOKS, level=level)


def spread(draw: np.random.Generator, lead: float, *, noise: float = 1.0, methods: int = METHODS) -> np.ndarray:
    """Each method ahead of the next by `lead`, on images of which some are harder for all."""
    quality = -lead * np.arange(methods)
    return (draw.normal(size=(IMAGES, 1)) + quality + noise * draw.normal(size=(IMAGES, methods)))[..., None]


def close(draw: np.random.Generator, errors: np.ndarray) -> np.ndarray:
    """Methods of random quality, often close to each other, with such errors on each image."""
    quality = draw.normal(size=METHODS) * draw.choice([0.0, 0.05, 0.15, 0.4])
    return (draw.normal(size=(IMAGES, 1)) + quality + errors - errors.mean(0))[..., None]


def size() -> tuple[int, int]:
    return IMAGES, METHODS


def rare(draw: np.random.Generator, size_of_one: float) -> np.ndarray:
    """Outliers on one image in 33, up for some methods and down for others."""
    return size_of_one * (draw.random(size()) < 0.03) * draw.choice([-1, 1], METHODS)


KINDS = {
    "normal": lambda draw: close(draw, draw.normal(size=size())),
    "skewed": lambda draw: close(draw, draw.exponential(size=size()) * draw.uniform(0.2, 2, METHODS)),
    "heavy": lambda draw: close(draw, draw.standard_t(3, size=size())),
    "lognormal": lambda draw: close(draw, -np.exp(draw.normal(0, 1.2, size=size())) * draw.uniform(0.1, 1, METHODS)),
    "mostly zero": lambda draw: close(draw, draw.exponential(size=size()) * (draw.random(size()) < 0.25)),
    "outliers": lambda draw: close(draw, draw.normal(0, 0.3, size()) + rare(draw, 4)),
    "yes or no": lambda draw: (
        (draw.random(size()) < 0.5 + 0.2 * draw.normal(size=METHODS).clip(-2, 2))[..., None] * 1.0
    ),
}


def told(scores_of: Callable[[np.random.Generator], np.ndarray], level: float = LEVEL) -> tuple[int, int]:
    """Of 200 studies: the places settled, and how many of them are not those of all images."""
    draw, places, wrong = np.random.default_rng(0), 0, 0
    for _ in range(STUDIES):
        scores = scores_of(draw)
        found = settled(scores, level=level)
        places, wrong = places + int((found > 0).sum()), wrong + int(mistaken(scores, UP, found).sum())
    return places, wrong


@pytest.mark.parametrize("kind", KINDS)
def test_settled_places_are_wrong_no_more_often_than_stated(kind):
    places, wrong = told(KINDS[kind])
    assert places > STUDIES
    assert wrong <= (1 - LEVEL) * places


def test_simulation_can_tell_a_bound_that_is_too_narrow():
    places, wrong = told(KINDS["normal"], level=-8.0)
    assert wrong > (1 - LEVEL) * places


def test_what_hardly_ever_happens_is_beyond_it():
    """The limit: methods that differ on one image in 33 alone, but there by all that matters, look equal before."""
    places, wrong = told(lambda draw: close(draw, rare(draw, 8)))
    assert wrong > (1 - LEVEL) * places


def test_a_method_of_another_scale_makes_no_others_equal():
    """As stabilities of random maps: a thousand times what others have, and theirs are not the same for that."""

    def scores_of(draw: np.random.Generator) -> np.ndarray:
        scores = close(draw, draw.normal(size=size()))
        scores[:, 0] = -1e6 * draw.gamma(4.0, size=scores[:, 0].shape)
        return scores

    places, wrong = told(scores_of)
    assert places > STUDIES
    assert wrong <= (1 - LEVEL) * places
    few = settled(scores_of(np.random.default_rng(0)))
    assert (few[1:] == 0).any()


def test_a_method_with_a_score_of_two_images_is_last_in_a_race_too():
    draw = np.random.default_rng(0)
    scores = np.stack([draw.normal(level, 0.1, 48) for level in (3, 2, 1, 9)], 1)[:, :, None]
    scores[2:, 3] = scores[16:, 0] = np.nan
    raced = rank_raced(
        rank_table(bootstrap(scores), UP[:1]), scores, np.array([[16], [48], [48], [48]]), UP[:1], draws=weights(48)
    )
    assert raced.mean[:, 0].tolist() == [1, 2, 3, 4]


def test_clear_ranking_is_settled_at_the_first_look():
    assert (settled(spread(np.random.default_rng(0), 3.0, noise=0.3)) == LEAST).all()


def test_lower_may_be_better():
    scores = spread(np.random.default_rng(0), 0.4)
    assert np.array_equal(settled(-scores, ~UP), settled(scores))


def test_methods_out_of_the_top_do_not_wait_for_each_other():
    draw = np.random.default_rng(0)
    scores = spread(draw, 0.0, noise=0.2)
    scores[:, :TOP] += np.array([9.0, 6.0, 3.0])[:, None]
    assert (settled(scores) == LEAST).all()


def test_methods_that_cannot_be_told_apart_at_the_border_go_on():
    scores = spread(np.random.default_rng(3), 0.0)
    assert (settled(scores) == 0).sum() >= METHODS / 2


def test_methods_with_equal_scores_settle_as_one():
    scores = spread(np.random.default_rng(0), 3.0, noise=0.3)
    scores[:, 1] = scores[:, 0]
    assert (settled(scores) == LEAST).all()


def test_equal_scores_of_few_values_settle_nothing():
    """Sixteen hits of the pointing game do not say that two methods always hit; with their maps' sparseness they do."""
    draw = np.random.default_rng(0)
    hits, maps = np.ones((IMAGES, 2, 1)), np.repeat(draw.random((IMAGES, 1, 1)), 2, 1)
    assert (settled(hits) == 0).all()
    both = settled(np.concatenate([hits, maps], 2), np.array([True, True]))
    assert (both == LEAST).all()


def test_verdict_hangs_on_nothing_after_it():
    scores = spread(np.random.default_rng(0), 0.4)
    found = settled(scores)
    assert len(set(found[found > 0].tolist())) > 1
    for n in LOOKS:
        assert np.array_equal(settled(scores, seen=n), np.where(found <= n, found, 0))
    stopped = np.where((np.arange(IMAGES)[:, None] >= found[:, 0]) & (found[:, 0] > 0), np.nan, scores[..., 0])
    assert np.array_equal(settled(stopped[..., None]), found)


def test_method_without_scores_holds_nobody_up():
    scores = spread(np.random.default_rng(0), 3.0, noise=0.3)
    scores[:, 5] = np.nan
    found = settled(scores)[:, 0]
    assert found[5] == 0
    assert (np.delete(found, 5) == LEAST).all()


def test_scores_that_are_seldom_defined_wait():
    scores = spread(np.random.default_rng(0), 3.0, noise=0.3)
    scores[::2] = np.nan
    assert (settled(scores) == 2 * LEAST).all()


def test_all_looks_together_spend_what_may_be_spent():
    """Counted on a random walk: 20,000 studies of normal differences, each against the mean of all its images."""
    draw, n = np.random.default_rng(0), np.array(LOOKS)
    for alpha in (0.01, 0.1):
        differences = draw.normal(size=(20_000, IMAGES))
        far = np.cumsum(differences, 1)[:, n - 1] / n - differences.mean(1, keepdims=True)
        crossed = far / np.sqrt((1 - n / IMAGES) / n) > -ndtri(np.array(spending(alpha, tuple(LOOKS), IMAGES)))
        assert 0.8 * alpha < crossed.any(1).mean() < 1.1 * alpha


def test_mistaken_places_are_found():
    scores = np.zeros((IMAGES, 5, 1))
    scores[:] = np.array([5, 4, 3, 2, 1])[:, None]
    scores[:20, 4] = 9
    scores[:20, 3] = 0
    never = np.zeros((5, 1), dtype=int)
    assert not mistaken(scores, UP, never).any()
    early = never.copy()
    early[4] = 20
    assert mistaken(scores, UP, early)[:, 0].tolist() == [False, False, False, False, True]
    # fourth or fifth is the same: not among the first three
    early[:] = 0
    early[3] = 20
    assert not mistaken(scores, UP, early).any()


def test_stopped_methods_are_ranked_by_the_images_that_both_have_seen():
    """The images after the stop are harder for all: its mean alone would put the stopped one first."""
    draw = np.random.default_rng(0)
    scores = spread(draw, 1.0, noise=0.1, methods=4)
    scores[48:] -= 10
    full, seen = scores.copy(), np.full((4, 1), IMAGES)
    scores[48:, 3], seen[3] = np.nan, 48
    drawn = weights(IMAGES)
    table = rank_table(bootstrap(scores), UP)
    assert table.mean[:, 0].tolist() == [2, 3, 4, 1]
    raced = rank_raced(table, scores, seen, UP, draws=drawn)
    assert raced.mean[:, 0].tolist() == [1, 2, 3, 4]
    assert np.allclose(raced.draws.sum(1), 10)
    complete = rank_table(bootstrap(full), UP)
    same = rank_raced(complete, full, np.full((4, 1), IMAGES), UP, draws=drawn)
    assert np.array_equal(same.mean, complete.mean)
    assert np.array_equal(same.draws, complete.draws)

"""The area between curves, ROAD and IROF, on networks whose curves are known."""

import numpy as np
import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.metrics.faithfulness import deletion, insertion, irof, morf_lerf_gap, ranks, road
from vexbench.perturb.imputation import linear
from vexbench.perturb.segments import grid, segmented
from vexbench.probe import Probe

EXACT = {"baseline": "black", "output": "logit"}


def case(seed=0, count=3, side=6):
    source = torch.Generator().manual_seed(seed)
    images, weights = torch.rand(count, 3, side, side, generator=source), torch.randn(side, side, generator=source)
    return images, weights, (images * weights).sum(1)


# MoRF and LeRF


def test_the_gap_is_the_area_between_the_sums_of_tiles_in_falling_and_in_rising_order(linear_probe):
    images, weights, worth = case()
    tiles = worth.view(3, 3, 2, 3, 2).sum((2, 4)).flatten(1).double().numpy()
    left = np.pad(np.cumsum(-np.sort(-tiles, axis=1), axis=1), ((0, 0), (1, 0)))  # shown, the most relevant first
    hidden = tiles.sum(1, keepdims=True) - left
    expected = np.trapezoid(left[:, ::-1] - hidden, dx=1 / 9, axis=1)
    found = morf_lerf_gap(worth, linear_probe(images, weights), patch=2, steps=9, **EXACT)
    assert found.numpy() == pytest.approx(expected, abs=1e-5)
    assert (found > 0).all()
    turned = morf_lerf_gap(-worth, linear_probe(images, weights), patch=2, steps=9, **EXACT)
    assert torch.allclose(turned, -found, atol=1e-5)


def test_tiles_of_one_pixel_are_the_difference_of_insertion_and_deletion(linear_probe):
    images, weights, _ = case(side=5)
    maps, probe = torch.randn(3, 5, 5), linear_probe(images, weights)
    options = {"steps": 7, "baseline": "grey"}
    areas = insertion(maps, probe, **options) - deletion(maps, probe, **options)
    assert torch.allclose(morf_lerf_gap(maps, probe, patch=1, **options), areas, atol=1e-6)


def test_tiles_go_by_their_mean_not_by_their_best_pixel_and_hide_as_a_whole(linear_probe):
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0] = 2  # mean 1/2: last but one
    maps[0, :2, 2:], maps[0, 2:, :2] = 1, 0.75
    weights = torch.zeros(4, 4)
    weights[:2, 2:] = 1 / 12  # what the map says first
    found = morf_lerf_gap(maps, linear_probe(torch.ones(1, 3, 4, 4), weights), patch=2, steps=4, **EXACT)
    # LeRF keeps it for three of four steps and half the last, MoRF loses it in the first
    assert found.item() == pytest.approx(7 / 8 - 1 / 8, abs=1e-6)


def test_cut_tiles_are_neither_favoured_nor_last_where_all_are_equal(linear_probe):
    images = torch.rand(64, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(5, 5)
    weights[4] = weights[:, 4] = 1 / 27  # all that counts stands in cut tiles
    maps = torch.full((64, 5, 5), 0.1)
    found = morf_lerf_gap(maps, linear_probe(images, weights), patch=2, steps=9, **EXACT)
    assert abs(found.mean().item()) < 0.05  # by sums of pixels it would be near -0.4, whatever the seed
    assert found.std() > 0.05


def test_the_gap_pays_for_the_ends_once(classifier, images, maps):
    probe = Probe(classifier, images, [0] * 6)
    probe.clean("probability")
    before = probe.passes.forward
    morf_lerf_gap(maps, probe, patch=4, steps=32)
    assert probe.passes.forward - before == 6 * (15 + 15 + 1)  # sixteen tiles are no more than sixteen steps
    morf_lerf_gap(-maps, probe, patch=4, steps=32)
    assert probe.passes.forward - before == 6 * (15 + 15 + 1 + 15 + 15)


# ROAD


def test_road_is_the_mean_gap_of_exact_imputations(linear_probe):
    images, weights, worth = case(seed=1, side=10)
    probe = linear_probe(images, weights)
    order = worth.flatten(1).argsort(dim=1, descending=True)
    curves = []
    for chosen in (order, order.flip(1)):
        curve = []
        for percent in (10, 20, 30, 40, 50, 70, 90):
            mask = torch.ones(3, 100).scatter(1, chosen[:, :percent], 0).view(3, 10, 10)
            curve.append((linear(images, mask) * weights).sum((1, 2, 3)))
        curves.append(torch.stack(curve, 1).mean(1))
    most, least = curves
    options = {"output": "logit", "noise": 0.0}
    assert torch.allclose(road(worth, probe, **options), least - most, atol=1e-4)
    assert torch.allclose(road(worth, probe, order="lerf", **options), least, atol=1e-4)
    assert torch.allclose(road(worth, probe, order="morf", **options), -most, atol=1e-4)
    assert (road(worth, probe, **options) > 0).all()
    assert torch.allclose(road(-worth, probe, **options), most - least, atol=1e-4)


def test_road_replaces_the_share_that_it_says_whatever_the_ties(linear_probe):
    """A map of zeros and a few ones: a fifth is replaced at 20 %, not all that equals the percentile."""
    images = torch.ones(8, 3, 10, 10) - torch.rand(8, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.01
    maps = torch.zeros(8, 10, 10)
    maps[:, :, :4] = torch.rand(8, 10, 4, generator=torch.Generator().manual_seed(1)) + 1
    probe = linear_probe(images, torch.full((10, 10), 1 / 300))
    left = road(maps, probe, order="lerf", shares="20", **EXACT)
    assert torch.allclose(left, 0.8 * images.mean((1, 2, 3)), atol=1e-5)


def test_road_of_one_share_and_of_all_pixels(linear_probe):
    images, weights, worth = case(seed=2)
    probe = linear_probe(images, weights)
    assert road(worth, probe, shares="100").tolist() == [0, 0, 0]
    two = road(worth, probe, shares="20") + road(worth, probe, shares="60.5")
    assert torch.allclose(road(worth, probe, shares="20, 60.5"), two / 2, atol=1e-6)


def test_accuracy_counts_where_the_class_stays_the_predicted_one(linear_probe):
    weights = torch.zeros(4, 4)
    weights[:2] = 1 / 24
    maps = torch.arange(16).view(1, 4, 4).flip(1).flip(2).float().expand(2, -1, -1)  # the top rows are most relevant
    images = torch.ones(2, 3, 4, 4) - torch.tensor([0.0, 0.1]).view(2, 1, 1, 1)
    probe = linear_probe(images, weights, bias=-0.3)  # of up to 1, or 0.9
    options = {"output": "accuracy", "baseline": "black", "shares": "25,37.5,75"}
    # MoRF leaves 1/2, 1/4, 0 of the sum; LeRF all of it, all, and half
    assert road(maps, probe, order="morf", **options).tolist() == pytest.approx([-1 / 3, -1 / 3])
    assert road(maps, probe, order="lerf", **options).tolist() == pytest.approx([1, 1])
    assert road(maps, probe, **options).tolist() == pytest.approx([2 / 3, 2 / 3])
    assert deletion(maps, probe, steps=4, baseline="black", output="accuracy").tolist() == pytest.approx([3 / 8, 3 / 8])


def test_road_costs_a_pass_for_each_share_and_order(classifier, images, maps):
    probe = Probe(classifier, images, [0] * 6)
    for output in ("probability", "accuracy"):
        before = probe.passes.forward
        road(maps, probe, shares="10,50", output=output)
        assert probe.passes.forward - before == 6 * 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"order": "mort"}, "did you mean morf"),
        ({"output": "acuracy"}, "did you mean accuracy"),
        ({"baseline": "noisy_line"}, "did you mean noisy_linear"),
        ({"shares": "10;20"}, "shares must be percentages above 0"),
        ({"shares": "0,20"}, "shares must be percentages above 0"),
        ({"shares": "110"}, "not '110'"),
        ({"shares": ""}, "not ''"),
        ({"noise": -0.1}, "noise must be 0 or more"),
    ],
)
def test_mistakes_of_road_are_told(linear_probe, options, told):
    images, weights, worth = case()
    with pytest.raises(VexbenchError, match=told):
        road(worth, linear_probe(images, weights), **options)


# IROF


def test_irof_of_a_score_that_is_not_above_zero_is_not_defined(linear_probe):
    images, weights = torch.full((2, 3, 6, 6), 0.5), torch.ones(6, 6)
    probe = linear_probe(images, weights, bias=-60.0)
    assert irof(weights.expand(2, -1, -1).contiguous(), probe, output="logit", segmentation="grid").isnan().all()
    with pytest.raises(VexbenchError, match="log-probability"):
        irof(weights.expand(2, -1, -1).contiguous(), probe, output="log_probability")


def test_irof_is_the_area_over_the_curve_of_segments_by_their_means(linear_probe):
    images, weights, worth = case(seed=4, side=5)
    weights = weights.abs()
    worth = (images * weights).sum(1)
    maps = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0))
    labels = grid(5, 5, 3).flatten()  # cells of four, two, and one pixel
    expected = []
    for row, value in zip(maps.flatten(1), worth.flatten(1)):
        means = torch.stack([row[labels == cell].mean() for cell in range(9)])
        curve = [value.sum()]
        for cell in means.argsort(descending=True):
            curve.append(curve[-1] - value[labels == cell].sum())
        expected.append(1 - np.trapezoid(np.array(curve), dx=1 / 9) / float(value.sum()))
    found = irof(maps, linear_probe(images, weights), segments=9, segmentation="grid", **EXACT)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    right, wrong = (
        irof(sign * worth, linear_probe(images, weights), segments=9, segmentation="grid", **EXACT) for sign in (1, -1)
    )
    assert (right > 0.5).all()
    assert (wrong < 0.5).all()


def test_irof_by_default_hides_behind_the_mean_colour(linear_probe):
    images, weights, _ = case(seed=5, side=4)
    probe = linear_probe(images, weights)
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    ends = torch.sigmoid((torch.stack([images, mean]) * weights).sum((2, 3, 4)))
    one = irof(torch.randn(3, 4, 4), probe, segments=1, segmentation="grid")
    assert torch.allclose(one, 1 - (ends.sum(0) / 2) / ends[0], atol=1e-6)


def test_irof_of_images_with_other_numbers_of_segments_is_that_of_each_alone(classifier):
    soft = torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(soft, (32, 32), mode="bilinear")
    assert segmented(images, "slic", 16).flatten(1).amax(1).unique().numel() > 1
    maps = torch.zeros(4, 32, 32)  # ties alone
    together = irof(maps, Probe(classifier, images, [0] * 4), segments=16)
    alone = [irof(maps[:1], Probe(classifier, images[i : i + 1], [0]), segments=16).item() for i in range(4)]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)


def test_irof_is_not_defined_where_the_score_is_zero(linear_probe):
    probe = linear_probe(torch.ones(1, 3, 4, 4), torch.zeros(4, 4))
    assert irof(torch.rand(1, 4, 4), probe, segments=4, segmentation="grid", **EXACT).isnan().all()
    with pytest.raises(VexbenchError, match="segments must be at least 1"):
        irof(torch.rand(1, 4, 4), probe, segments=0)


# hard maps


@pytest.mark.parametrize("metric", [morf_lerf_gap, road, irof])
def test_an_image_of_one_pixel(linear_probe, metric):
    probe = linear_probe(torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 1))
    assert metric(torch.ones(1, 1, 1), probe).isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_a_constant_map_says_nothing(classifier, value):
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    probe = Probe(classifier, images, [0] * 32)
    maps = torch.full((32, 16, 16), value)
    assert not ranks(maps, probe)[0].equal(ranks(maps, probe)[1])
    for metric in (morf_lerf_gap, road):
        found = metric(maps, probe)
        assert abs(found.mean().item()) < 3 * found.std().item() / 32**0.5 + 1e-4

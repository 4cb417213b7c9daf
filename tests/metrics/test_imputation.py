import numpy as np
import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.perturb import imputation
from vexbench.perturb.imputation import FILLS, filled, linear
from vexbench.probe import Probe

DIRECT, DIAGONAL = 1 / 6, 1 / 12


def by_hand(image, mask):
    """One dense system, entry by entry, as the paper writes it."""
    height, width = mask.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    system, right = np.eye(len(places)), np.zeros((len(places), 3))
    for row, (y, x) in enumerate(places):
        if mask[y, x] > 0:
            right[row] = image[:, y, x]
            continue
        around = [(y + a, x + b, DIAGONAL if a and b else DIRECT) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
        inside = [(i, j, w) for i, j, w in around if 0 <= i < height and 0 <= j < width]
        total = sum(w for _, _, w in inside)
        for i, j, w in inside:
            system[row, i * width + j] -= w / total
    return np.linalg.solve(system, right).T.reshape(3, height, width)


def drawn(count=3, height=9, width=7, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=source), source


@pytest.mark.parametrize(("height", "width"), [(9, 7), (1, 8), (16, 5), (13, 13)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_exact_against_a_dense_solve(height, width, share):
    images, source = drawn(3, height, width)
    masks = (torch.rand(3, height, width, generator=source) >= share).float()
    masks[:, 0, 0] = 1
    found = linear(images, masks).double().numpy()
    for image, mask, result in zip(images.double().numpy(), masks.numpy(), found):
        assert result == pytest.approx(by_hand(image, mask), abs=1e-6)


def test_exact_in_a_wide_hole_with_one_pixel_left():
    images, _ = drawn(1, 30, 20)
    masks = torch.zeros(1, 30, 20)
    masks[:, 0], masks[:, -1, -1] = 1, 1
    expected = by_hand(images[0].double().numpy(), masks[0].numpy())
    assert linear(images, masks)[0].double().numpy() == pytest.approx(expected, abs=1e-6)


def test_one_hidden_pixel_is_the_weighted_mean_of_eight_of_three_in_a_corner():
    images, _ = drawn(2, 3, 3)
    middle = torch.ones(2, 3, 3)
    middle[:, 1, 1] = 0
    cross = images[:, :, 0, 1] + images[:, :, 1, 0] + images[:, :, 1, 2] + images[:, :, 2, 1]
    corners = images[:, :, ::2, ::2].sum((2, 3))
    assert torch.allclose(linear(images, middle)[:, :, 1, 1], cross / 6 + corners / 12, atol=1e-6)
    corner = torch.ones(2, 3, 3)
    corner[:, 0, 0] = 0
    expected = (2 * images[:, :, 0, 1] + 2 * images[:, :, 1, 0] + images[:, :, 1, 1]) / 5
    assert torch.allclose(linear(images, corner)[:, :, 0, 0], expected, atol=1e-6)


def test_shown_pixels_stay_and_hidden_ones_stay_between_them():
    images, source = drawn(4, 12, 12)
    masks = (torch.rand(4, 12, 12, generator=source) > 0.6).float()
    found = linear(images, masks)
    shown = masks[:, None].expand_as(images) > 0
    assert found[shown].equal(images[shown])
    low = images.where(shown, 2).amin((2, 3), keepdim=True)
    high = images.where(shown, -1).amax((2, 3), keepdim=True)
    assert ((found >= low - 1e-6) & (found <= high + 1e-6)).all()


def test_where_everything_is_hidden_the_mean_colour_is_left_and_where_nothing_is_the_image():
    images, _ = drawn(2)
    masks = torch.stack([torch.zeros(9, 7), torch.ones(9, 7)])
    found = linear(images, masks)
    assert torch.allclose(found[0], images[0].mean((1, 2), keepdim=True).expand_as(images[0]), atol=1e-6)
    assert found[1].equal(images[1])
    one = torch.rand(1, 3, 1, 1)
    assert linear(one, torch.zeros(1, 1, 1)).equal(one)


def test_one_factorisation_per_mask_serves_all_colours(monkeypatch):
    calls = []
    monkeypatch.setattr(imputation, "splu", lambda *a, real=imputation.splu, **k: calls.append(a) or real(*a, **k))
    images, source = drawn(4)
    linear(images, (torch.rand(4, 9, 7, generator=source) > 0.5).float())
    assert len(calls) == 4


@pytest.fixture
def probe(classifier, images):
    return Probe(classifier, images, [0] * 6)


def test_noise_lies_on_the_hidden_pixels_alone_and_is_small(probe, maps):
    mask = (maps < 0).float()
    (noisy,) = filled(probe, [mask], "noisy_linear")
    (plain,) = filled(probe, [mask], "noisy_linear", noise=0.0)
    assert plain.equal(torch.where(mask[:, None] > 0, probe.images, linear(probe.images, mask).clamp(0, 1)))
    hidden = (mask[:, None] == 0).expand_as(noisy)
    assert noisy[~hidden].equal(probe.images[~hidden])
    assert (noisy - plain)[hidden].std().item() == pytest.approx(0.01, rel=0.1)
    assert abs((noisy - plain)[hidden].mean().item()) < 1e-3


@pytest.mark.parametrize("name", FILLS)
def test_every_filling_keeps_what_is_shown_and_stays_in_range(probe, maps, name):
    bright = probe.of(images=probe.images.round())
    (found,) = filled(bright, [(maps < 0).float()], name, noise=0.5)
    shown = (maps < 0)[:, None].expand_as(found)
    assert found[shown].equal(bright.images[shown])
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("name", ["noisy_linear", "gaussian"])
def test_draws_hang_on_the_image_alone(probe, classifier, maps, name):
    mask = (maps < 0).float()
    first, second = filled(probe, [mask, mask], name)
    assert first.equal(second)
    assert not torch.equal(first[0] - probe.images[0], first[1] - probe.images[1])
    (alone,) = filled(Probe(classifier, probe.images[3:4], [0]), [mask[3:4]], name)
    assert torch.allclose(alone, first[3:4], atol=1e-7)
    (other,) = filled(Probe(classifier, probe.images, [0] * 6, seed=1), [mask], name)
    assert not other.equal(first)


def test_an_unknown_filling_is_told(probe):
    with pytest.raises(VexbenchError, match="did you mean noisy_linear"):
        next(filled(probe, [], "noise_linear"))

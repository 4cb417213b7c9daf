import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.metrics.localisation import grid_pointing_game
from vexbench.models.base import Classifier
from vexbench.probe import Explain, Probe
from vexbench.types import References


class Colours(nn.Module):
    """Logits: the mean of each colour, and grey; whatever the size."""

    def forward(self, images):
        means = images.mean((2, 3))
        return torch.cat([means, means.amin(1, keepdim=True)], 1)


@pytest.fixture
def classifier():
    return Classifier(Colours())


def plain(target, seed=0, side=8):
    """A red, green, blue or grey image, with a little noise to be told from others by."""
    image = 0.1 * torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))
    return image + 0.8 * torch.eye(4, 3)[target][:, None, None] + 0.5 * (target == 3)


TARGETS = [0, 1, 2, 0, 1]


@pytest.fixture
def images():
    return torch.stack([plain(target, seed) for seed, target in enumerate(TARGETS)])


@pytest.fixture
def references():
    targets = [0, 0, 1, 1, 2, 2, 3, 3]
    return References(torch.stack([plain(t, 100 + n) for n, t in enumerate(targets)]), torch.tensor(targets))


def own_colour(probe):
    """What a right explanation shows: each pixel's colour that the target is named for."""
    return probe.images[torch.arange(len(probe.images)), probe.targets]


def test_the_right_cell_gets_the_mass_of_the_right_colour(classifier, images, references):
    probe = Probe(classifier, images, TARGETS)
    scores = grid_pointing_game(probe, references, Explain(lambda other: (own_colour(other) > 0.75).float()))
    assert scores.tolist() == [1.0] * 5
    # the other colours lie in two of the other cells
    wrong = grid_pointing_game(probe, references, Explain(lambda other: 0.5 - own_colour(other)))
    assert (wrong < 0.01).all()
    chance = grid_pointing_game(probe, references, Explain(lambda other: torch.ones_like(other.images[:, 0])))
    assert chance.tolist() == [0.25] * 5


def test_negative_values_do_not_count(classifier, images, references):
    probe = Probe(classifier, images, TARGETS)
    right = Explain(lambda other: (own_colour(other) > 0.75).float() - 5 * (own_colour(other) < 0.5).float())
    assert grid_pointing_game(probe, references, right).tolist() == [1.0] * 5
    nothing = grid_pointing_game(probe, references, Explain(lambda other: -other.images[:, 0]))
    assert nothing.isnan().all()


@pytest.mark.parametrize("scaled", [False, True])
def test_a_mosaic_holds_the_image_and_one_reference_of_each_other_class(classifier, images, references, scaled):
    seen = {}
    probe = Probe(classifier, images, TARGETS)

    def method(other):
        seen["images"], seen["targets"] = other.images, other.targets
        return own_colour(other)

    grid_pointing_game(probe, references, Explain(method), scaled=scaled)
    assert seen["images"].shape == (5, 3, 8, 8) if scaled else (5, 3, 16, 16)
    assert seen["targets"].tolist() == TARGETS
    places = set()
    for image, mosaic, target in zip(images, seen["images"], TARGETS):
        side = mosaic.shape[1] // 2
        cells = mosaic.unflatten(1, (2, side)).unflatten(3, (2, side)).permute(1, 3, 0, 2, 4).flatten(0, 1)
        shown = [int(Colours()(cell[None]).argmax()) if cell.amin() < 0.45 else 3 for cell in cells]
        assert sorted(shown) == [0, 1, 2, 3]
        own = shown.index(target)
        places.add(own)
        if not scaled:
            assert cells[own].equal(image)
            rest = [cell for place, cell in enumerate(cells) if place != own]
            assert all(any(cell.equal(reference) for reference in references.images) for cell in rest)
    assert len(places) > 1  # not always the same corner


def test_all_methods_meet_the_same_mosaics(classifier, images, references):
    seen = []

    def method(other):
        seen.append(other.images)
        return own_colour(other)

    for batch in (slice(0, 5), slice(3, 4)):
        probe = Probe(classifier, images[batch], TARGETS[batch])
        grid_pointing_game(probe, references, Explain(method))
    assert seen[0][3:4].equal(seen[1])


def test_the_order_of_the_references_does_not_matter(classifier, images, references):
    seen = []

    def method(other):
        seen.append(other.images)
        return own_colour(other)

    for order in (range(8), reversed(range(8)), (1, 0, 5, 4, 2, 3, 7, 6)):
        rows = torch.tensor(list(order))
        others = References(references.images[rows], references.targets[rows])
        grid_pointing_game(Probe(classifier, images, TARGETS), others, Explain(method))
    assert seen[0].equal(seen[1])
    assert seen[0].equal(seen[2])


def test_a_scaled_mosaic_splits_the_pixels_on_a_border(classifier, references):
    """5 pixels on two cells: the middle row and column belong to both sides by half."""
    images = torch.stack([plain(0, side=5)])
    others = References(torch.nn.functional.interpolate(references.images, (5, 5)), references.targets)
    probe = Probe(classifier, images, [0])
    maps = torch.zeros(1, 5, 5)
    maps[0, 2, 2] = 1  # the very middle
    assert grid_pointing_game(probe, others, Explain(lambda _: maps), scaled=True).item() == 0.25


def test_too_few_other_classes_are_not_defined(classifier, images, references):
    explain = Explain(own_colour)
    few = References(references.images[:6], references.targets[:6])  # 0, 1 and 2: two others for each
    assert grid_pointing_game(Probe(classifier, images, TARGETS), few, explain).isnan().all()
    # an image of a class beyond the references' has three others
    mixed = Probe(classifier, torch.stack([images[0], plain(3)]), [0, 3])
    assert grid_pointing_game(mixed, few, Explain(lambda other: other.images[:, 0])).isnan().tolist() == [True, False]
    assert grid_pointing_game(Probe(classifier, images, TARGETS), references, explain, cells=3).isnan().all()


def test_a_network_of_a_fixed_size_is_told_how(images, references):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    probe = Probe(Classifier(network), images, TARGETS)
    with pytest.raises(NotApplicable, match="mosaic of 16 × 16 pixels; use scaled=true"):
        grid_pointing_game(probe, references, Explain(own_colour))
    assert grid_pointing_game(probe, references, Explain(own_colour), scaled=True).isfinite().all()


def test_it_is_open_to_all(classifier, images, references):
    maps = torch.zeros(5, 8, 8)
    scores = vb.evaluate(
        classifier, images, TARGETS, maps, "grid_pointing_game", references=references, explain="input_x_gradient"
    )
    assert (scores > 0.5).all()  # each pixel's own colour, over its area
    with pytest.raises(VexbenchError, match="cells must be 2 or more"):
        grid_pointing_game(Probe(classifier, images, TARGETS), references, Explain(own_colour), cells=1)


def test_mosaics_go_in_batches_of_no_more_pixels_than_images_do(classifier, images, references):
    passes = []
    classifier.module.register_forward_pre_hook(lambda _, given: passes.append(given[0]))
    probe = Probe(classifier, images.repeat(8, 1, 1, 1)[:32], (TARGETS * 8)[:32], batch_size=16)
    grid_pointing_game(
        probe, references, Explain(lambda other: next(other.input_gradients([other.images])).abs().sum(1))
    )
    assert max(given.numel() for given in passes) <= 16 * images[0].numel()
    assert {len(given) for given in passes if given.shape[-1] == 16} == {4}

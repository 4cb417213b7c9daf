import numpy as np
import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.metrics.faithfulness import average_drop, average_increase, deletion, insertion, ranks
from vexbench.probe import Probe


def contributions(images, weights):
    return (images * weights).sum(1)


def random_case(seed=0, count=3, side=5):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=source), torch.randn(side, side, generator=source)


def test_curves_of_a_linear_network_are_the_cumulative_sums_of_its_signed_contributions(linear_probe):
    images, weights = random_case()
    worth = contributions(images, weights)
    options = {"steps": 25, "baseline": "black", "output": "logit"}
    shown = np.pad(np.cumsum(-np.sort(-worth.flatten(1).double().numpy(), axis=1), axis=1), ((0, 0), (1, 0)))
    expected = np.trapezoid(shown, dx=1 / 25, axis=1)
    probe = linear_probe(images, weights)
    whole = worth.sum((1, 2)).numpy()
    assert insertion(worth, probe, **options).numpy() == pytest.approx(expected, abs=1e-5)
    # hidden ascending = shown descending read backwards: the areas of the negated map are the complements
    assert deletion(worth, probe, **options).numpy() == pytest.approx(whole - expected, abs=1e-5)
    assert (insertion(worth, probe, **options) > insertion(-worth, probe, **options)).all()
    assert (deletion(worth, probe, **options) < deletion(-worth, probe, **options)).all()


def test_the_true_order_beats_every_other_order(linear_probe):
    images, weights = random_case(seed=3, side=3)
    worth = contributions(images, weights)
    probe = linear_probe(images, weights)
    best = deletion(worth, probe, steps=9, baseline="black", output="logit")
    for seed in range(20):
        other = torch.rand(worth.shape, generator=torch.Generator().manual_seed(seed))
        assert (best <= deletion(other, probe, steps=9, baseline="black", output="logit") + 1e-6).all()


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 25, 60])
def test_a_straight_line_has_area_one_half_for_any_number_of_steps(linear_probe, steps):
    # 25 pixels are not divisible by 4 or 7: shares are those of the pixels really hidden
    images, weights = torch.ones(1, 3, 5, 5), torch.full((5, 5), 1 / 75)
    maps = torch.randn(1, 5, 5, generator=torch.Generator().manual_seed(0))
    for area in (deletion, insertion):
        score = area(maps, linear_probe(images, weights), steps=steps, baseline="black", output="logit")
        assert score.item() == pytest.approx(0.5, abs=1e-6)


def test_one_step_sees_the_whole_image_and_the_bare_baseline(linear_probe):
    images, weights = random_case(seed=5)
    probe = linear_probe(images, weights)
    ends = probe.scores([images, torch.full_like(images, 0.5)], "probability").mean(1)
    maps = contributions(images, weights)
    assert torch.allclose(deletion(maps, probe, steps=1), ends, atol=1e-6)
    assert torch.allclose(insertion(maps, probe, steps=1, baseline="grey"), ends, atol=1e-6)


def test_output_is_a_probability_unless_said(linear_probe):
    images, weights = torch.ones(1, 3, 4, 4), torch.full((4, 4), 1 / 12)
    probe, maps = linear_probe(images, weights), torch.rand(1, 4, 4)
    shares = torch.linspace(1, 0, 17)
    expected = {
        "probability": torch.sigmoid(4 * shares),
        "logit": 4 * shares,
        "log_probability": torch.sigmoid(4 * shares).log(),
    }
    for output, curve in expected.items():
        score = deletion(maps, probe, steps=16, baseline="black", output=output).item()
        assert score == pytest.approx(torch.trapezoid(curve, dx=1 / 16).item(), abs=1e-5)
    assert deletion(maps, probe, baseline="black", steps=16).item() == pytest.approx(
        torch.trapezoid(expected["probability"], dx=1 / 16).item(), abs=1e-5
    )


def test_end_points_are_paid_once(classifier, images, maps):
    probe = Probe(classifier, images, [0] * 6)
    before = probe.passes.forward
    deletion(maps, probe, steps=4)
    assert probe.passes.forward - before == 6 * 5
    insertion(maps, probe, steps=4)
    assert probe.passes.forward - before == 6 * 9


def test_equal_pixels_are_not_hidden_from_the_top_down(linear_probe):
    weights = torch.zeros(16, 16)
    weights[:4] = 1 / (4 * 16 * 3)
    images = torch.ones(8, 3, 16, 16) - torch.rand(8, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.01
    options = {"steps": 16, "baseline": "black", "output": "logit"}
    constant = torch.ones(8, 16, 16)
    top = deletion(constant, linear_probe(images, weights), **options)
    bottom = deletion(constant, linear_probe(images, weights.flip(0)), **options)
    # by index the evidence would be gone after a quarter: 0.125 at the top, 0.875 at the bottom
    assert ((top - 0.5).abs() < 0.1).all()
    assert ((bottom - 0.5).abs() < 0.1).all()


def test_ranks_keep_the_order_of_unequal_pixels_and_draw_that_of_equal_ones(linear_probe):
    images, weights = random_case(count=2)
    maps = torch.zeros(2, 5, 5)
    maps[:, 2, 3], maps[:, 4, 4] = 2, -1
    probe = linear_probe(images, weights)
    place = ranks(maps, probe)
    assert place.flatten(1).sort(1).values.equal(torch.arange(25).expand(2, -1))
    assert place[:, 2, 3].tolist() == [0, 0]
    assert place[:, 4, 4].tolist() == [24, 24]
    assert not place[0].equal(place[1])
    assert place.equal(ranks(maps, probe))
    assert place.flip(0).equal(ranks(maps.flip(0), linear_probe(images.flip(0), weights)))
    assert not place.equal(ranks(maps, linear_probe(images, weights, seed=1)))


def test_drop_and_increase_in_closed_form(linear_probe):
    images, weights = torch.ones(4, 3, 2, 2), torch.tensor([[1.0, 2.0], [-3.0, 0.5]]) / 3
    maps = torch.tensor(
        [
            [[1.0, 1.0], [1.0, 1.0]],  # everything
            [[4.0, 2.0], [0.0, 0.0]],  # 1 · 1 + 2 · 1/2
            [[0.5, 1.0], [0.5, 0.5]],  # divided by its maximum, not stretched from its minimum
            [[1.0, -9.0], [-1.0, -2.0]],  # what speaks against the class is not shown
        ]
    )
    y = torch.sigmoid(torch.tensor(0.5))
    o = torch.sigmoid(torch.tensor([0.5, 2.0, 0.5 + 2 - 1.5 + 0.25, 1.0]))
    probe = linear_probe(images, weights)
    assert torch.allclose(average_drop(maps, probe), (y - o).relu() / y, atol=1e-6)
    assert average_increase(maps, probe).tolist() == [0, 1, 1, 1]
    worse = linear_probe(images, -weights)
    assert torch.allclose(average_drop(maps, worse), (o - y).relu() / (1 - y), atol=1e-6)
    assert average_increase(maps, worse).tolist() == [0, 0, 0, 0]


def test_drop_does_not_depend_on_the_scale_of_the_map(classifier, images, maps):
    probe = Probe(classifier, images, [1] * 6)
    scores = average_drop(maps, probe)
    assert torch.allclose(scores, average_drop(maps * 1e-6, probe), atol=1e-5)
    assert torch.allclose(scores, average_drop(maps * 1e6, probe), atol=1e-5)


def test_a_map_without_positive_values_shows_a_black_image(linear_probe):
    images, weights = torch.ones(2, 3, 2, 2), torch.full((2, 2), 0.1)
    maps = torch.stack([torch.zeros(2, 2), -torch.ones(2, 2)])
    expected = 1 - 0.5 / torch.sigmoid(torch.tensor(1.2)).item()
    assert average_drop(maps, linear_probe(images, weights)).tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert average_increase(maps, linear_probe(images, -weights)).tolist() == [1, 1]


def test_drop_is_not_defined_where_the_probability_is_zero(linear_probe):
    probe = linear_probe(torch.ones(1, 3, 2, 2), torch.ones(2, 2), bias=-500.0)
    assert average_drop(torch.ones(1, 2, 2), probe).isnan().all()
    assert average_increase(torch.ones(1, 2, 2), probe).tolist() == [0]


def test_mistakes_are_told(linear_probe):
    images, weights = random_case()
    probe, maps = linear_probe(images, weights), torch.rand(3, 5, 5)
    with pytest.raises(VexbenchError, match="steps must be 1 or more"):
        deletion(maps, probe, steps=0)
    with pytest.raises(VexbenchError, match="did you mean probability"):
        insertion(maps, probe, output="probabilty")
    with pytest.raises(VexbenchError, match="did you mean grey"):
        deletion(maps, probe, baseline="gray")

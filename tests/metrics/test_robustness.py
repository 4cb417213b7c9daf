import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.methods.gradient import input_x_gradient, saliency
from vexbench.metrics.robustness import (
    average_sensitivity,
    copies,
    local_lipschitz,
    max_sensitivity,
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
)
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe

STABILITIES = [relative_input_stability, relative_output_stability, relative_representation_stability]


def brightness(probe):
    return probe.images.sum(1)


def test_a_linear_map_changes_by_the_noise(classifier, images):
    images = images * 0.8 + 0.1
    probe = Probe(classifier, images, [0] * 6)
    maps = brightness(probe)
    changes = torch.stack([(0.05 * draw).sum(1).flatten(1).norm(dim=1) for draw in noise.uniform(probe, 4)])
    expected = changes.amax(0) / maps.flatten(1).norm(dim=1)
    assert torch.allclose(
        max_sensitivity(maps, probe, Explain(brightness), radius=0.05, samples=4), expected, atol=1e-5
    )
    # the first draws of many are the draws of few
    few = max_sensitivity(maps, probe, Explain(brightness), samples=2)
    many = max_sensitivity(maps, probe, Explain(brightness), samples=8)
    assert (many >= few).all()
    assert (many > few).any()


def test_a_map_that_does_not_look_scores_zero_and_scale_does_not_count(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    still = torch.rand(6, 16, 16)
    assert max_sensitivity(still, probe, Explain(lambda _: still)).tolist() == [0] * 6
    once = max_sensitivity(brightness(probe), probe, Explain(brightness))
    thousand = max_sensitivity(1000 * brightness(probe), probe, Explain(lambda p: 1000 * brightness(p)))
    assert torch.allclose(once, thousand, rtol=1e-4)


def test_noise_is_bounded_kept_in_range_and_the_target_is_kept(classifier):
    images = torch.cat([torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)])
    probe, seen = Probe(classifier, images, [3, 1, 2]), []

    def explain(other):
        assert other.targets.tolist() == [3, 1, 2]
        seen.append(other.images)
        return other.images.mean(1)

    max_sensitivity(images.mean(1), probe, Explain(explain), radius=0.1, samples=5)
    stack = torch.stack(seen)
    assert len(stack) == 5
    assert stack.min() >= 0
    assert stack.max() <= 1
    assert (stack - images).abs().max() <= 0.1 + 1e-6
    # uniform in the box: half of the values stay, of the grey image's none, and they fill it
    inner = stack[:, 2] - 0.5
    assert inner.min() < -0.095
    assert inner.max() > 0.095
    assert inner.abs().mean() == pytest.approx(0.05, abs=0.005)


def test_a_map_of_norm_zero_is_not_defined(classifier, images):
    probe = Probe(classifier, images[:2], [0, 0])
    maps = brightness(probe) * torch.tensor([0.0, 1.0])[:, None, None]
    scores = max_sensitivity(maps, probe, Explain(brightness))
    assert scores.isnan().tolist() == [True, False]
    assert max_sensitivity(torch.zeros(2, 16, 16), probe, Explain(lambda _: torch.zeros(2, 16, 16))).isnan().all()


@pytest.mark.parametrize("metric", [max_sensitivity, average_sensitivity, local_lipschitz, *STABILITIES])
@pytest.mark.parametrize("options", [{"samples": 0}, {"radius": -0.1}, {"radius": float("inf")}])
def test_mistakes_are_told(classifier, images, metric, options):
    probe = Probe(classifier, images, [0] * 6)
    with pytest.raises(VexbenchError, match="samples must be 1 or more and radius 0 or more"):
        metric(brightness(probe), probe, Explain(brightness), **options)


@pytest.mark.parametrize("metric", STABILITIES)
@pytest.mark.parametrize("options", [{"norm": 0.5}, {"norm": float("nan")}, {"eps": 0.0}])
def test_wrong_norms_are_told(classifier, images, metric, options):
    probe = Probe(classifier, images, [0] * 6)
    with pytest.raises(VexbenchError, match="norm must be 1 or more and eps above 0"):
        metric(brightness(probe), probe, Explain(brightness), **options)


def test_the_average_is_over_the_noise(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    maps, explain = brightness(probe), Explain(brightness)
    changes = [(copy.sum(1) - maps).flatten(1).norm(dim=1) for copy in copies(probe, 0.02, 10)]
    expected = torch.stack(changes).mean(0) / maps.flatten(1).norm(dim=1)
    average, largest = average_sensitivity(maps, probe, explain), max_sensitivity(maps, probe, explain)
    assert torch.allclose(average, expected, atol=1e-6)
    assert (average < largest).all()
    assert torch.allclose(
        average_sensitivity(maps, probe, explain, samples=1), max_sensitivity(maps, probe, explain, samples=1)
    )
    zeros = average_sensitivity(maps * 0, probe, Explain(lambda other: other.images[:, 0]))
    assert zeros.isnan().all()


def test_the_lipschitz_estimate_of_a_linear_map_is_bounded_by_its_norm(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    red = local_lipschitz(images[:, 0], probe, Explain(lambda other: other.images[:, 0]), samples=30, relative=False)
    # a third of the noise is in one colour, ‖Δ red‖ / ‖Δ‖ ≈ √⅓
    assert torch.allclose(red, torch.tensor(3**-0.5).expand(6), atol=0.05)
    # both norms are of second order: summed absolute values would grow with the number of pixels
    same = local_lipschitz(brightness(probe), probe, Explain(brightness), relative=False)
    assert (same <= 3**0.5).all()
    double = local_lipschitz(2 * brightness(probe), probe, Explain(lambda other: 2 * brightness(other)), relative=False)
    assert torch.allclose(double, 2 * same, rtol=1e-5)
    steep = local_lipschitz(50 * brightness(probe), probe, Explain(lambda o: 50 * brightness(o)), relative=True)
    assert torch.allclose(steep, same / brightness(probe).flatten(1).norm(dim=1), rtol=1e-4)
    # unlike a sensitivity it does not hang on the radius where the map is linear
    wide = local_lipschitz(images[:, 0], probe, Explain(lambda other: other.images[:, 0]), radius=0.1, relative=False)
    assert torch.allclose(wide, red, atol=0.1)


def test_the_lipschitz_estimate_needs_a_copy_that_differs(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    assert local_lipschitz(brightness(probe), probe, Explain(brightness), radius=0.0, relative=False).isnan().all()
    zero = torch.zeros(6, 16, 16)
    assert local_lipschitz(zero, probe, Explain(lambda _: zero), relative=False).tolist() == [0] * 6
    assert local_lipschitz(zero, probe, Explain(lambda _: zero), relative=True).isnan().all()


def by_the_equation(maps, changed, divisor):
    """One copy, no zeros: ‖(Φ − Φ') / Φ‖₂ over a divisor, pixel after pixel."""
    quotients = [((a - b) / a).item() for a, b in zip(maps.flatten(), changed.flatten())]
    return sum(q * q for q in quotients) ** 0.5 / divisor


def test_relative_stabilities_follow_their_equations(classifier, images):
    images = images[:1] * 0.8 + 0.1
    probe = Probe(classifier, images, [2])
    (copy,) = copies(probe, 0.02, 1)
    other = probe.of(images=copy)
    maps, changed = input_x_gradient(probe), input_x_gradient(other)
    explain = Explain(input_x_gradient)
    image = sum(((a - b) / a).item() ** 2 for a, b in zip(images.flatten(), copy.flatten())) ** 0.5
    found = relative_input_stability(maps, probe, explain, samples=1)
    assert found.item() == pytest.approx(by_the_equation(maps, changed, image), rel=1e-4)
    logits = (probe.logits - other.logits).norm().item()  # not relative
    found = relative_output_stability(maps, probe, explain, samples=1)
    assert found.item() == pytest.approx(by_the_equation(maps, changed, logits), rel=1e-4)
    a, b = probe.trace.activations.flatten(), other.trace.activations.flatten()
    divisor = a.where(a != 0, 1e-6 * a.square().mean().sqrt())
    found = relative_representation_stability(maps, probe, explain, samples=1)
    assert found.item() == pytest.approx(by_the_equation(maps, changed, ((a - b) / divisor).norm().item()), rel=1e-4)
    # the smallest divisor, also on a probe that knows the change already
    found = relative_output_stability(maps, probe, explain, samples=1, eps=100.0)
    assert found.item() == pytest.approx(by_the_equation(maps, changed, 100.0), rel=1e-4)
    # ‖·‖₁ and ‖·‖_∞
    change = ((maps - changed) / maps).abs()
    ours = relative_output_stability(maps, probe, explain, samples=1, norm=1.0).item()
    assert ours == pytest.approx((change.sum() / (probe.logits - other.logits).abs().sum()).item(), rel=1e-4)
    ours = relative_output_stability(maps, probe, explain, samples=1, norm=float("inf")).item()
    assert ours == pytest.approx((change.max() / (probe.logits - other.logits).abs().max()).item(), rel=1e-4)


@pytest.mark.parametrize("metric", STABILITIES)
def test_relative_stabilities_do_not_hang_on_a_maps_scale_or_sign_also_where_it_has_zeros(classifier, images, metric):
    probe = Probe(classifier, images, [0, 1, 2, 3, 0, 1])

    def explained(other):
        return other.images.sum(1) - 1.5

    def scaled(other):
        return -1000 * explained(other)

    assert torch.allclose(
        metric(explained(probe), probe, Explain(explained)), metric(scaled(probe), probe, Explain(scaled)), rtol=1e-3
    )

    def rectified(other):
        return explained(other).relu()

    first = metric(rectified(probe), probe, Explain(rectified))
    assert first.isfinite().all()
    again = metric(1000 * rectified(probe), probe, Explain(lambda o: 1000 * rectified(o)))
    assert torch.allclose(first, again, rtol=1e-3)
    # a map of zeros changes by nothing of itself
    assert metric(0 * rectified(probe), probe, Explain(rectified)).isnan().all()


@pytest.mark.parametrize("metric", STABILITIES[:2])  # a linear network has no features
def test_copies_of_another_prediction_do_not_count(linear_probe, metric):
    """The image lies so near the boundary that one noise in two crosses it."""
    weights = torch.zeros(8, 8)
    weights[2, 3] = 1.0
    images = torch.full((2, 3, 8, 8), 0.5)
    images[1] = 0.9
    probe = linear_probe(images, weights, bias=-1.5 - 1e-6)
    labels = [probe.of(images=copy).logits.argmax(1) for copy in copies(probe, 0.02, 10)]
    same = torch.stack(labels)[:, 0] == probe.logits.argmax(1)[0]
    assert 0 < same.sum() < 10

    def spread(other):  # far more where the class is another
        crossed = other.logits.argmax(1) != probe.logits.argmax(1)
        return 1 + other.images[:, 0] + 100 * crossed[:, None, None]

    found = metric(spread(probe), probe, Explain(spread))
    calm = metric(spread(probe), probe, Explain(lambda other: 1 + other.images[:, 0]))
    assert found.equal(calm)
    # a single copy keeps the class on one side of the boundary, and on the other there is no score
    sides = [linear_probe(images, weights, bias=-1.5 + side) for side in (-1e-5, 1e-5)]
    scores = torch.stack([metric(brightness(side), side, Explain(brightness), samples=1) for side in sides])
    assert sorted(scores[:, 0].isnan().tolist()) == [False, True]
    assert scores[:, 1].isfinite().all()


def test_all_metrics_of_noise_share_the_copies_and_their_maps(classifier, images):
    known, calls = {}, []

    def explained(other):
        calls.append(other.images)
        return saliency(other)

    probe = Probe(classifier, images, [0, 1, 2, 3, 0, 1], known=known)
    maps = saliency(probe)
    max_sensitivity(maps, probe, Explain(explained))
    alone = len(calls)
    calls.clear()
    explain = Explain(explained)
    scores = [
        max_sensitivity(maps, probe, explain),
        average_sensitivity(maps, probe, explain),
        local_lipschitz(maps, probe, explain, relative=False),
        local_lipschitz(maps, probe, explain, relative=True),
        relative_input_stability(maps, probe, explain),
        relative_output_stability(maps, probe, explain),
        relative_output_stability(maps, probe, explain, norm=1.0),
        relative_representation_stability(maps, probe, explain),
    ]
    assert len(calls) == alone == 10
    assert torch.stack(scores).isfinite().all()
    # logits of the copies are asked once, for all methods
    before = probe.passes.forward
    relative_input_stability(maps, probe, explain)
    relative_output_stability(maps, probe, Explain(input_x_gradient), samples=5)
    assert probe.passes.forward - before == 5 * 6


def test_metrics_that_name_the_same_variant_share_its_maps(classifier, images):
    probe, calls = Probe(classifier, images[:2], [0, 1]), []
    explain = Explain(lambda other: calls.append(other.images) or other.images.mean(1))
    maps = images[:2].mean(1)
    first = max_sensitivity(maps, probe, explain, radius=0.05, samples=3)
    assert max_sensitivity(maps, probe, explain, radius=0.05, samples=4)[0] >= first[0]
    assert len(calls) == 4
    max_sensitivity(maps, probe, explain, radius=0.06, samples=1)
    explain(probe)
    explain(probe)
    assert len(calls) == 7


def test_what_hangs_on_no_map_is_asked_once(classifier, images):
    known = {}
    first, second = (Probe(classifier, images, [0] * 6, known=known) for _ in range(2))
    assert first.logits.equal(second.logits)
    assert (first.passes.forward, second.passes.forward) == (6, 0)
    other = second.of(images=images.flip(0))
    assert other.logits.equal(first.logits.flip(0))

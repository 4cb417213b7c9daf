import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.metrics.robustness import max_sensitivity
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe


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


@pytest.mark.parametrize("options", [{"samples": 0}, {"radius": -0.1}])
def test_mistakes_are_told(classifier, images, options):
    probe = Probe(classifier, images, [0] * 6)
    with pytest.raises(VexbenchError, match="samples must be 1 or more and radius 0 or more"):
        max_sensitivity(brightness(probe), probe, Explain(brightness), **options)


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

"""What holds for every metric: a new one is tested by existing."""

import pytest
import torch

from vexbench.methods.gradient import saliency
from vexbench.metrics import fine_tuned, randomisation
from vexbench.models.base import Classifier
from vexbench.models.surgery import cascade
from vexbench.probe import Explain, Probe
from vexbench.registry import METRICS, NEEDS
from vexbench.types import References

AXES = {"faithfulness", "localisation", "robustness", "complexity", "randomisation", "axiomatic", "cost"}
COUNTED = sorted(set(METRICS) - {"seconds_ratio"})  # which a clock measures


REFERENCES = References(
    torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(5)), torch.tensor([0, 1, 2, 3] * 2)
)


@pytest.fixture(autouse=True)
def twin(classifier, images, monkeypatch):
    """A network of the same structure that stands for the one that learnt shuffled labels, or masked images."""

    def shipped():
        ((_, random),) = cascade(classifier, images, seed=0, stages=1)
        return Classifier(
            random.module,
            mean=classifier.mean,
            std=classifier.std,
            target_layer=classifier.target_layer,
            card={"training_accuracy": 1.0, "masked_share": 0.1},
        )

    monkeypatch.setattr(randomisation, "shipped", shipped)
    monkeypatch.setattr(randomisation, "is_demo", lambda _: True)
    monkeypatch.setattr(fine_tuned, "_masked_copy", lambda probe, checkpoint: shipped())


def regions_for(images):
    return images.mean(1) > 0.5


def evaluate(name, classifier, images, targets, *, batch_size=64, seed=0, **params):
    """Score maps that need no pass, since rounding could reorder their pixels; the method that explains again does."""
    probe = Probe(classifier, images, targets, batch_size=batch_size, seed=seed)
    given = {
        "maps": images.sum(1) - 1.5,
        "probe": probe,
        "regions": regions_for(images),
        "cues": regions_for(1 - images),
        "references": REFERENCES,
        "explain": Explain(lambda other: other.images.sum(1) - 1.5 + saliency(other)),
    }
    return METRICS[name].function(*(given[need] for need in METRICS[name].needs), **params)


@pytest.mark.parametrize("name", METRICS)
def test_registered_in_full(name):
    entry = METRICS[name]
    assert entry.family in AXES
    assert entry.title
    assert entry.paper
    assert entry.summary
    assert entry.direction in ("higher", "lower")
    assert entry.range[0] < entry.range[1]
    assert set(entry.needs) <= set(NEEDS)
    assert all(isinstance(default, int | float | str | bool) for default in entry.parameters.values())


@pytest.mark.parametrize("name", METRICS)
def test_one_score_per_image_within_the_range(name, classifier, images):
    scores = evaluate(name, classifier, images, [0, 1, 2, 3, 0, 1])
    low, high = METRICS[name].range
    assert scores.shape == (6,)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert (scores >= low - 1e-6).all()
    assert (scores <= high + 1e-6).all()


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_does_not_matter(name, classifier, images, batch_size):
    targets = [0, 1, 2, 3, 0, 1]
    expected = evaluate(name, classifier, images, targets)
    scores = evaluate(name, classifier, images, targets, batch_size=batch_size)
    assert torch.allclose(scores, expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", COUNTED)
def test_the_other_images_and_their_order_do_not_matter(name, classifier, images):
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = evaluate(name, classifier, images, targets)
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    shuffled = evaluate(name, classifier, images[order], targets[order])
    assert torch.allclose(shuffled, expected[order], atol=1e-5, equal_nan=True)
    for i in (0, 5):
        alone = evaluate(name, classifier, images[i : i + 1], targets[i : i + 1])
        assert torch.allclose(alone, expected[i : i + 1], atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", COUNTED)
def test_one_seed_gives_one_result(name, classifier, images):
    torch.manual_seed(0)
    first = evaluate(name, classifier, images, [0] * 6, seed=4)
    torch.manual_seed(1)
    assert evaluate(name, classifier, images, [0] * 6, seed=4).equal(first)


@pytest.mark.parametrize("name", COUNTED)
def test_the_default_precision_does_not_matter(name, classifier, images):
    expected = evaluate(name, classifier, images, [0] * 6)
    torch.set_default_dtype(torch.float64)
    try:
        scores = evaluate(name, classifier, images, [0] * 6)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.allclose(scores.float(), expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", METRICS)
def test_the_network_and_the_global_generator_are_left_alone(name, classifier, images):
    module = classifier.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    evaluate(name, classifier, images, [0] * 6)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._backward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["zero", "constant", "negative", "one pixel"])
@pytest.mark.parametrize("name", sorted(METRICS))
def test_hard_maps_give_a_number_in_range_or_nan(name, classifier, images, kind):
    one = torch.zeros(16, 16)
    one[3, 4] = 1
    row = {
        "zero": torch.zeros(16, 16),
        "constant": torch.ones(16, 16),
        "negative": -torch.ones(16, 16),
        "one pixel": one,
    }
    maps = row[kind].expand(6, -1, -1).contiguous()
    regions = torch.zeros(6, 16, 16, dtype=torch.bool)
    regions[1:, 3, 4] = True  # the first is empty
    given = {
        "maps": maps,
        "probe": Probe(classifier, images, [0] * 6),
        "regions": regions,
        "cues": regions,
        "references": REFERENCES,
        "explain": Explain(lambda other: maps[:1].expand(len(other.images), -1, -1)),
    }
    scores = METRICS[name].function(*(given[need] for need in METRICS[name].needs))
    low, high = METRICS[name].range
    assert ((scores >= low - 1e-6) & (scores <= high + 1e-6) | scores.isnan()).all()
    if {"regions", "cues"} & set(METRICS[name].needs):
        assert scores[0].isnan()

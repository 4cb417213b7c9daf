"""Scores of synthesised images: known answers, on networks whose logits and features are known."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from vexbench.metrics.synthesis import FEWEST, Reality, activation_gain, naturalness, real, transfer
from vexbench.models.base import Classifier
from vexbench.probe import Probe


class Colours(nn.Module):
    """The logits are ten times the mean colours, the features the colours themselves."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, images):
        return 10 * self.features(images).mean((2, 3))


def colours(**options):
    return Classifier(Colours(), target_layer="features", **options)


def noise(count, *, seed=0, spread=0.2, size=8):
    source = torch.Generator().manual_seed(seed)
    flat = 0.5 + spread * (torch.rand(count, 3, 1, 1, generator=source) - 0.5)
    return (flat + 0.1 * torch.rand(count, 3, size, size, generator=source)).clamp(0, 1)


def reality(images, *, seed=0, batch=4, classifier=None):
    parts = images.split(batch)
    known = classifier or colours()
    return real(lambda: (Probe(known, part, [0] * len(part)) for part in parts), len(images), seed=seed)


def frechet(features, mean, covariance):
    """By the whole product's eigenvalues, with the covariance of each image written out."""
    rows = features.flatten(1).T.double().numpy()
    own = np.cov(rows.T, bias=True)
    roots = np.sqrt(np.linalg.eigvals(own @ covariance).astype(complex)).real.sum()
    return ((rows.mean(0) - mean) ** 2).sum() + np.trace(own) + np.trace(covariance) - 2 * roots


def test_the_gain_is_over_the_best_real_image_of_the_same_class():
    logits = torch.tensor([[3.0, 0.0, 9.0], [1.0, -4.0, 0.0]])
    known = Reality(logits, None, None, float("nan"))
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0], images[1, 1] = 0.5, 0.1
    # logits 5 and 1, against 3 (not the mean 2, not the highest of all, 9) and 0 (not abs(-4))
    assert activation_gain(Probe(colours(), images, [0, 1]), known).tolist() == pytest.approx([2, 1])


def test_transfer_is_the_probability_of_the_other_network():
    images = noise(3)
    probabilities = (10 * images.mean((2, 3))).softmax(1)
    found = transfer(images, torch.tensor([2, 0, 1]), colours(), batch_size=2)
    assert torch.allclose(found, probabilities[[0, 1, 2], [2, 0, 1]])


def test_the_judge_sees_its_own_size():
    images = noise(2, size=16)
    seen = []
    judge = colours(input_size=8)
    judge.module.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    transfer(images, torch.tensor([0, 1]), judge)
    assert set(seen) == {(8, 8)}


def test_naturalness_is_the_frechet_distance_over_that_of_real_images():
    images = noise(14)
    known = reality(images, seed=3)
    assert known.mean is not None
    assert known.root is not None
    covariance = (known.root @ known.root).numpy()
    others = noise(3, seed=9, spread=1.0)
    expected = [frechet(image, known.mean.numpy(), covariance) / known.typical for image in others]
    found = naturalness(Probe(colours(), others, [0] * 3), known)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_one_half_describes_and_the_other_is_compared():
    """The yardstick is out of sample: images that describe would be nearer to themselves than any new one."""
    images = noise(14)
    known = reality(images, seed=3)
    assert known.mean is not None
    assert known.root is not None
    covariance = (known.root @ known.root).numpy()
    distances = [frechet(image, known.mean.numpy(), covariance) for image in images]
    means = images.double().mean((2, 3)).numpy()
    described = [half for half in combinations(range(14), 7) if np.allclose(means[list(half)].mean(0), known.mean)]
    assert len(described) == 1
    compared = [distance for i, distance in enumerate(distances) if i not in described[0]]
    assert known.typical == pytest.approx(np.median(compared), rel=1e-6)


def test_real_images_are_about_one_and_strange_ones_are_far():
    known = reality(noise(60))
    fresh = naturalness(Probe(colours(), noise(40, seed=5), [0] * 40), known)
    assert 0.6 < fresh.median() < 1.6
    strange = naturalness(Probe(colours(), torch.rand(4, 3, 8, 8), [0] * 4), known)
    assert strange.min() > 3 * fresh.median()


def test_batches_do_not_matter():
    images = noise(13)
    one, other = reality(images, batch=13), reality(images, batch=3)
    assert torch.allclose(one.logits, other.logits)
    assert one.typical == pytest.approx(other.typical)


@pytest.mark.parametrize("images", [noise(FEWEST - 1), torch.full((12, 3, 8, 8), 0.5)], ids=["few", "all the same"])
def test_not_defined_without_real_images_that_differ(images):
    known = reality(images)
    assert naturalness(Probe(colours(), noise(2), [0, 1]), known).isnan().all()
    assert activation_gain(Probe(colours(), noise(2), [0, 1]), known).isfinite().all()


def test_not_defined_without_spatial_features():
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)))
    known = reality(noise(12), classifier=flat)
    assert known.mean is None
    assert naturalness(Probe(flat, noise(2), [0, 1]), known).isnan().all()

"""The metrics beside captum, torchcam, pytorch-grad-cam and scikit-image, at matched settings."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch

from vexbench.metrics.faithfulness import average_drop, average_increase, deletion, insertion
from vexbench.metrics.robustness import max_sensitivity
from vexbench.metrics.similarity import ssim
from vexbench.models.base import Classifier
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


@pytest.fixture
def network(small_network):
    return small_network


@pytest.fixture
def images():
    return 0.1 + 0.8 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets():
    return [0, 1, 2, 3, 0, 1]


@pytest.fixture
def maps():
    """Without ties, from exactly 0 to exactly 1: as the peers would normalise them."""
    source = torch.Generator().manual_seed(2)
    return torch.stack([torch.randperm(256, generator=source).view(16, 16) for _ in range(6)]) / 255


@pytest.fixture
def probe(network, images, targets):
    return Probe(Classifier(network), images, targets)


class GivenMaps:
    """What torchcam takes for an extractor, with maps that are known."""

    def __init__(self, model, maps):
        self.model, self._maps = model, maps

    def __call__(self, *_, **__):
        return [self._maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def test_drop_and_increase_are_those_of_torchcam(network, probe, images, targets, maps):
    metrics = pytest.importorskip("torchcam.metrics")
    metric = metrics.ClassificationMetric(GivenMaps(network, maps), partial(torch.softmax, dim=-1))
    metric.update(images, targets)
    drop, increase = average_drop(maps, probe), average_increase(maps, probe)
    assert 0 < increase.mean() < 1
    assert metric.summary()["avg_drop"] == pytest.approx(drop.mean().item(), abs=1e-5)
    assert metric.summary()["conf_increase"] == pytest.approx(increase.mean().item())


@pytest.mark.parametrize(("name", "function"), [("deletion", deletion), ("insertion", insertion)])
def test_areas_are_those_of_torchcam(network, probe, images, targets, maps, name, function):
    metrics = pytest.importorskip("torchcam.metrics")
    metric = metrics.DeletionInsertionMetric(
        GivenMaps(network, maps), partial(torch.softmax, dim=-1), steps=32, baseline=torch.full_like(images, 0.5)
    )
    metric.update(images, targets)
    ours = function(maps, probe, steps=32, baseline="grey")
    assert metric.summary()[f"{name}_auc"] == pytest.approx(ours.mean().item(), abs=1e-5)


def test_pytorch_grad_cam_gives_the_difference_where_the_paper_has_the_ratio(network, probe, images, targets, maps):
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    outputs = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    wanted = [outputs.ClassifierOutputSoftmaxTarget(target) for target in targets]
    theirs = torch.from_numpy(metrics.DropInConfidence()(images, maps.numpy(), wanted, network))
    probability = network(images).softmax(1).detach().gather(1, probe.targets[:, None])[:, 0]
    assert torch.allclose(average_drop(maps, probe), theirs / probability, atol=1e-5)
    assert not torch.allclose(average_drop(maps, probe), theirs, atol=1e-2)
    rise = metrics.IncreaseInConfidence()(images, maps.numpy(), wanted, network)
    assert average_increase(maps, probe).tolist() == rise.tolist()


def test_max_sensitivity_is_that_of_captum(network, probe, images):
    metrics = pytest.importorskip("captum.metrics")

    def gradient(batch, classes):
        leaf = batch.detach().clone().requires_grad_()
        with torch.enable_grad():
            chosen = network(leaf).gather(1, classes[:, None]).sum()
            return torch.autograd.grad(chosen, leaf)[0].abs().amax(1)

    draws = torch.stack(list(noise.uniform(probe, 10)), 1).flatten(0, 1)  # the copies of an image stand together
    theirs = metrics.sensitivity_max(
        lambda batch, target: (gradient(batch[0] if isinstance(batch, tuple) else batch, target),),
        images,
        perturb_func=lambda copies, radius: copies + radius * draws,
        perturb_radius=0.05,
        n_perturb_samples=10,
        target=probe.targets,
    )
    ours = max_sensitivity(
        gradient(images, probe.targets),
        probe,
        Explain(lambda other: gradient(other.images, other.targets)),
        radius=0.05,
    )
    assert (ours > 0).all()
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(11, 11), (40, 56)])
def test_ssim_is_that_of_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics")
    first = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    second = (first + 0.3 * torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    theirs = [
        metrics.structural_similarity(
            a.numpy().astype(np.float64),
            b.numpy().astype(np.float64),
            data_range=1,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
        for a, b in zip(first, second)
    ]
    assert ssim(first, second).tolist() == pytest.approx(theirs, abs=1e-6)

import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.models.base import Classifier
from vexbench.models.surgery import cascade, layers


class Keeping(nn.Module):
    """A network that keeps its features, as many do for inspection."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)

    def forward(self, images):
        self.last = self.conv(images).relu()
        return self.head(self.last.mean((2, 3)))


@pytest.mark.parametrize("inference", [False, True])
def test_a_network_that_keeps_its_features_is_randomised(images, targets, inference):
    classifier = Classifier(Keeping(), target_layer="conv", class_names=["a", "b"])
    targets = targets % 2
    maps = vb.explain(classifier, images, targets, "saliency")
    assert classifier.module.last.requires_grad
    with torch.inference_mode(inference):
        scores = vb.evaluate(classifier, images, targets, maps, "mprt", explain="saliency")
    assert torch.isfinite(scores).all()


def test_a_copy_made_in_inference_mode_takes_gradients(gap_network, images):
    with torch.inference_mode():
        *_, (_, last) = cascade(Classifier(gap_network), images, seed=0)
    assert vb.explain(last, images, [1] * len(images), "saliency").any()


def test_statistics_without_parameters_are_forgotten(images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
        )
        module(images)
        module.eval()
    before = module[1].running_mean.clone()
    assert (before != 0).any()
    classifier = Classifier(module, target_layer="1", class_names=["a", "b"])
    assert [name for name, _ in layers(classifier, images)] == ["0", "1", "4"]
    *_, (names, last) = cascade(classifier, images, seed=0)
    assert names == {"0", "1", "4"}
    assert last.module[1].running_mean.eq(0).all()
    assert last.module[1].running_var.eq(1).all()
    assert module[1].running_mean.equal(before)

"""DeepLIFT: what it hands back sums to the difference, and agrees with captum where captum can look."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

import vexbench as vb
from vexbench.perturb.references import references


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "densenet121", "mobilenet_v3_small"])
@pytest.mark.parametrize("baseline", ["black", "grey"])
def test_maps_sum_to_the_difference_of_the_logits(name, baseline):
    """On any graph: sums, concatenations, gates, in-place and functional activations, max pooling."""
    torch.manual_seed(0)
    network = models.get_model(name, num_classes=5).train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))  # statistics that leave a signal
    classifier = vb.Classifier(network.double().eval(), class_names="abcde")
    images = torch.rand(2, 3, 64, 64)
    plain = torch.full_like(images, {"black": 0.0, "grey": 0.5}[baseline])
    with torch.no_grad():
        difference = (classifier.logits(images) - classifier.logits(plain))[[0, 1], [0, 3]]
    total = vb.explain(classifier, images, [0, 3], "deep_lift", baseline=baseline).sum((1, 2))
    torch.testing.assert_close(total, difference, rtol=1e-3, atol=1e-5)


def test_a_rectifier_hands_back_its_slope_between_baseline_and_image():
    """y = relu(x − 1/4): from 0 to 1 its slope is 3/4, where the gradient is 1."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None])
        network[0].bias.fill_(-0.25)
        network[3].weight.fill_(2)
    maps = vb.explain(vb.Classifier(network), torch.ones(1, 3, 2, 2), [0], "deep_lift")
    torch.testing.assert_close(maps, torch.full((1, 2, 2), 1.5))


class Products(nn.Module):
    """Features times features: neither side is the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        return self.head((self.left(images).sigmoid() * functional.silu(self.right(images))).mean((2, 3)))


def test_products_lose_nothing():
    classifier = vb.Classifier(Products().double().eval())
    images = torch.rand(3, 3, 8, 8)
    difference = (classifier.logits(images) - classifier.logits(torch.zeros_like(images)))[:, 1].detach()
    torch.testing.assert_close(vb.explain(classifier, images, [1] * 3, "deep_lift").sum((1, 2)), difference)


def test_operations_without_a_rule_are_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(vb.NotApplicable, match="deep_lift has no rule for group_norm"):
        vb.explain(vb.Classifier(network, class_names="abcd"), torch.rand(1, 3, 8, 8), [0], "deep_lift")
    with pytest.raises(vb.VexbenchError, match="unknown plain baseline 'blur'"):
        vb.explain(
            vb.Classifier(network, class_names="abcd"), torch.rand(1, 3, 8, 8), [0], "deep_lift", baseline="blur"
        )


def test_shap_sums_to_the_difference_from_the_mean_of_the_references():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 5))
    classifier = vb.Classifier(network.double().eval())
    images = torch.rand(3, 3, 16, 16)
    probe = vb.Probe(classifier, images, [0, 1, 2])
    pool = references(probe, "scenes")
    chosen = pool[[place * len(pool) // 4 for place in range(4)]]
    with torch.no_grad():
        mean = classifier.logits(chosen).mean(0)
        difference = (classifier.logits(images) - mean)[range(3), range(3)]
    total = vb.explain(classifier, images, [0, 1, 2], "deep_lift_shap", samples=4).sum((1, 2))
    torch.testing.assert_close(total, difference, rtol=1e-4, atol=1e-5)
    with pytest.raises(vb.VexbenchError, match="samples must be 1 to 30"):
        vb.explain(classifier, images, [0, 1, 2], "deep_lift_shap", samples=31)

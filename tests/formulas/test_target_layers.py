"""The layer that is found where none is given, for the networks people use."""

import pytest
import timm
import torch
from torchvision import models

import vexbench as vb

CLASS_NAMES = [str(number) for number in range(1000)]
EXPECTED = {
    "alexnet": ("features.11", 128),
    "vgg11_bn": ("features.27", 64),
    "resnet18": ("layer4", 64),
    "densenet121": ("features", 64),
    "googlenet": ("inception5b", 64),
    "inception_v3": ("Mixed_7c", 128),
    "mobilenet_v3_small": ("features", 64),
    "efficientnet_b0": ("features", 64),
    "squeezenet1_1": ("features", 64),
    "shufflenet_v2_x0_5": ("conv5", 64),
    "convnext_tiny": ("features", 64),
    "tf_efficientnet_lite0": ("bn2", 64),
}
"""Network: its last features before pooling and classifier, and the side of a small image that leaves some pixels."""


def empty(name):
    """A network whose weights cost no time: all equal, since only the graph matters here."""
    with torch.device("meta"):
        if name.startswith("tf_"):
            network = timm.create_model(name)
        else:
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            network = models.get_model(name, **options)
    network.to_empty(device="cpu")
    for value in network.state_dict().values():
        value.fill_(0.01 if value.is_floating_point() else 0)
    return network.eval()


@pytest.mark.parametrize("name", EXPECTED)
def test_last_features(name):
    layer, side = EXPECTED[name]
    network = empty(name)
    images = torch.rand(1, 3, side, side)
    probe = vb.Probe(vb.Classifier(network, class_names=CLASS_NAMES), images, [1])
    assert probe.classifier.layer(images)[0] == layer
    assert probe.trace.activations.shape[2] > 1
    assert probe.trace.gradients.shape == probe.trace.activations.shape

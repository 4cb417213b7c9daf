"""Class activation maps on the networks people use, the target layer found."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

import vexbench as vb

SIDES = {"alexnet": 96, "inception_v3": 107}
"""Where 64 pixels leave one feature only."""
NETWORKS = (
    "alexnet",
    "vgg11_bn",
    "resnet18",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
    "tf_efficientnet_lite0",
)


def drawn(name):
    """A network with random weights, drawn faster than by its own initialisation."""
    with torch.device("meta"):
        if name.startswith("tf_"):
            network = timm.create_model(name, num_classes=10)
        else:
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            network = models.get_model(name, num_classes=10, **options)
    network.to_empty(device="cpu")
    source = torch.Generator().manual_seed(0)
    for key, value in (*network.named_parameters(), *network.named_buffers()):
        if value.ndim > 1:
            width = 0.1 if value[0].numel() > 5000 else (2 / value[0].numel()) ** 0.5
            value.data.uniform_(-width, width, generator=source).mul_(3**0.5)
        else:
            value.data.fill_(1 if key.endswith(("running_var", "weight")) else 0)
    for part in network.modules():
        if isinstance(part, nn.Linear) and part.in_features > 5000:  # vgg's and alexnet's
            part.weight.data.div_(10)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_class_activation_maps(name):
    side = SIDES.get(name, 64)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    classifier = vb.Classifier(drawn(name), class_names=[str(number) for number in range(10)])
    maps = vb.explain(classifier, images, [3, 7], ["grad_cam", "layer_cam", "eigen_cam"])
    for found in maps.values():
        assert found.shape == (2, side, side)
        assert found.isfinite().all()
    # Grad-CAM may be empty where all evidence is against the class; the features are not
    assert (maps["eigen_cam"].amax((1, 2)) > 0).all()

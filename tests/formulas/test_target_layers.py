"""The layer that is found where none is given, for the networks people use."""

import pytest
import timm
import torch
from torchvision import models

import vexbench as vb
from vexbench.errors import NotApplicable

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
        if name.startswith(("tf_", "timm/")):
            network = timm.create_model(name.removeprefix("timm/"))
        else:
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            network = models.get_model(name, **options)
    network.to_empty(device="cpu")
    for value in (*network.parameters(), *network.buffers()):
        value.data.fill_(0.01 if value.is_floating_point() else 0)
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


@pytest.mark.parametrize(
    ("name", "side", "reason"),
    [
        ("timm/vit_tiny_patch16_224", 224, r"'patch_embed.proj', this network works on tokens \('blocks.0.norm1'"),
        ("vit_b_32", 224, "'conv_proj', this network works on tokens"),
        ("timm/mixer_s32_224", 224, "'stem.proj', this network works on tokens"),
        ("timm/swin_tiny_patch4_window7_224", 224, r"'norm' \(7, 7, 768\), have their channels last"),
    ],
)
def test_tokens_and_channels_last_are_no_spatial_features(name, side, reason):
    classifier, images = vb.Classifier(empty(name), class_names=CLASS_NAMES), torch.rand(1, 3, side, side)
    with pytest.raises(NotApplicable, match=f"{reason}.*target_layer="):
        classifier.layer(images)


def test_a_layer_that_is_given_is_taken():
    classifier = vb.Classifier(empty("vit_b_32"), class_names=CLASS_NAMES, target_layer="conv_proj")
    assert vb.Probe(classifier, torch.rand(1, 3, 224, 224), [1]).trace.activations.shape == (1, 768, 7, 7)


def test_swins_features_are_found_where_they_are_put_in_order():
    classifier, images = vb.Classifier(empty("swin_t"), class_names=CLASS_NAMES), torch.rand(1, 3, 96, 96)
    assert classifier.layer(images)[0] == "permute"
    assert vb.Probe(classifier, images, [1]).trace.activations.shape == (1, 768, 3, 3)

import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import load_classifier, save_checkpoint
from vexbench.models.zoo import (
    AUXILIARY,
    IMAGENET_MEAN,
    IMAGENET_STD,
    TARGET_LAYERS,
    architectures,
    build,
    normalisation,
)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("plain_cnn", 32),
        ("plain_cnn_small", 32),
        ("attention_cnn", 32),
        ("resnet18", 32),
        ("squeezenet1_1", 64),
        ("googlenet", 64),
        ("mobilenet_v3_small", 32),
        ("tf_efficientnet_lite0", 32),
        ("timm/resnet18", 32),
        ("resnet10t", 32),
    ],
)
def test_builds_a_network_of_logits(name, size):
    module = build(name, 7).eval()
    assert module(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_the_target_layers_exist():
    for name, layer in TARGET_LAYERS.items():
        build(name, 2).get_submodule(layer)


@pytest.mark.parametrize(
    ("typo", "meant"), [("resnet81", "resnet18"), ("plain_cn", "plain_cnn"), ("tf_efficientnet_lit0", "lite0")]
)
def test_a_typo_gets_a_suggestion(typo, meant):
    with pytest.raises(VexbenchError, match=f"unknown network '{typo}'; did you mean .*{meant}"):
        build(typo, 2)


def test_segmentation_networks_are_no_classifiers():
    assert "resnet18" in architectures()["torchvision"]
    with pytest.raises(VexbenchError, match="unknown network"):
        build("fcn_resnet50", 2)


def test_our_networks_have_no_pretrained_weights():
    with pytest.raises(VexbenchError, match="plain_cnn has no pretrained weights"):
        build("plain_cnn", 2, pretrained=True)


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_weights_that_cannot_be_downloaded_are_a_clear_error(name, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(VexbenchError, match=r"pretrained weights of .*resnet18 could not be had \(no route to host\)"):
        build(name, 2, pretrained=True)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("squeezenet1_1", 512), ("googlenet", 1024)])
def test_pretrained_weights_get_a_new_head(name, channels, monkeypatch):
    from torchvision.models import _api, get_model

    # random weights take the place of the download, all else is torchvision's own way
    auxiliary = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    weights = get_model(name, weights=None, **auxiliary).state_dict()
    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", lambda *_, **__: weights)
    module = build(name, 3, pretrained=True).eval()
    head = [part for part in module.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)][-1]
    assert head.weight.shape[:2] == (3, channels)
    assert module(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    kept = next(name for name in weights if name.endswith("weight"))
    assert torch.equal(module.state_dict()[kept], weights[kept])


@pytest.mark.parametrize(
    ("name", "size"), [("googlenet", 64), ("inception_v3", 96), ("squeezenet1_1", 64), ("densenet121", 32)]
)
def test_pretrained_networks_are_loaded_as_the_same_network(name, size, tmp_path, monkeypatch):
    from torchvision.models import _api, get_model

    torch.manual_seed(0)
    auxiliary = {"aux_logits": True, "init_weights": False} if name in AUXILIARY else {}
    downloaded = get_model(name, weights=None, **auxiliary).eval()
    for part in downloaded.modules():
        part.training = isinstance(part, torch.nn.BatchNorm2d)
    with torch.no_grad():
        downloaded(torch.rand(4, 3, size, size))  # with statistics of images, no signal fades
    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", lambda *_, **__: downloaded.state_dict())

    mean, std = normalisation(name, pretrained=True)
    built = Classifier(
        build(name, 3, pretrained=True), mean=mean, std=std, class_names=["a", "b", "c"], input_size=size, name=name
    )
    card = {"architecture": name, "class_names": ["a", "b", "c"], "mean": mean, "std": std, "input_size": size}
    loaded = load_classifier(save_checkpoint(tmp_path, built.module, card))
    images = torch.rand(2, 3, size, size)
    assert torch.equal(loaded.logits(images), built.logits(images))
    assert loaded.digest == built.digest

    # and the images reach the network as torchvision passes them to its own weights
    whole = Classifier(build(name, 1000, pretrained=True), mean=mean, std=std).logits(images)
    own = get_model(name, weights="DEFAULT").eval()
    with torch.no_grad():
        normal = (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
        torch.testing.assert_close(whole, own(normal), rtol=1e-4, atol=1e-4)


def test_a_head_without_bias_stays_without(monkeypatch):
    from torchvision.models import _api, get_model

    weights = get_model("maxvit_t", weights=None).state_dict()
    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", lambda *_, **__: weights)
    assert build("maxvit_t", 3, pretrained=True).state_dict().keys() == build("maxvit_t", 3).state_dict().keys()


def test_pretrained_weights_keep_their_normalisation():
    assert normalisation("plain_cnn", pretrained=False) is None
    assert normalisation("inception_v3", pretrained=True) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("resnet18", pretrained=True) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation("tf_efficientnet_lite0", pretrained=True) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

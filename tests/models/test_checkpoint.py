import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vexbench import models
from vexbench.errors import VexbenchError
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier, save_checkpoint
from vexbench.models.networks import PlainCNN

CARD = {
    "architecture": "plain_cnn_small",
    "class_names": ["cat", "dög"],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.2, 0.3],
    "input_size": 24,
    "target_layer": "features",
    "seed": 3,
}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return PlainCNN(2, width=8).eval()


@pytest.fixture
def saved(tmp_path, module):
    return save_checkpoint(tmp_path / "network", module, CARD)


def change(folder: Path, **fields: object) -> None:
    (folder / "card.json").write_text(json.dumps(CARD | fields))


def test_a_round_trip_keeps_every_bit(saved, module):
    images = torch.rand(3, 3, 24, 24)
    expected = Classifier(module, mean=CARD["mean"], std=CARD["std"]).logits(images)
    for path in (saved, str(saved), saved / "model.safetensors"):
        loaded = load_classifier(path)
        assert torch.equal(loaded.logits(images), expected)
    assert loaded.class_names == ("cat", "dög")
    assert (loaded.name, loaded.target_layer, loaded.input_size) == ("plain_cnn_small", "features", 24)
    assert not loaded.module.training
    assert sorted(path.name for path in saved.iterdir()) == ["card.json", "model.safetensors"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickled_state_dict_is_read(saved, module, wrapped):
    weights = module.state_dict()
    torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, saved / "weights.pt")
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(load_classifier(saved / "weights.pt").logits(images), load_classifier(saved).logits(images))


def test_half_precision_storage_is_read_as_the_networks_own(saved):
    weights = load_file(saved / "model.safetensors")
    halves = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    save_file(halves, saved / "model.safetensors")
    assert all(weight.dtype == torch.float32 for weight in load_classifier(saved).module.parameters())


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(saved, tmp_path, how):
    sprung, file = tmp_path / "sprung", saved / "trap.pth"
    if how == "torch":
        torch.save({"weights": Trap(sprung)}, file)
    else:
        file.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(
        VexbenchError, match=r"trap\.pth: refused, since this pickle holds more than weights.*save its weights"
    ):
        load_classifier(file)
    assert not sprung.exists()


def test_a_whole_module_is_refused(saved, module):
    torch.save(module, saved / "module.pt")
    with pytest.raises(VexbenchError, match="refused, since this pickle holds more than weights"):
        load_classifier(saved / "module.pt")


def delete_card(folder, module):
    (folder / "card.json").unlink()


def delete_weights(folder, module):
    (folder / "model.safetensors").unlink()


def damage_weights(folder, module):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def damage_card(folder, module):
    (folder / "card.json").write_text('{"architecture": "plain')


def forget_mean(folder, module):
    (folder / "card.json").write_text(json.dumps({key: value for key, value in CARD.items() if key != "mean"}))


def name_three_classes(folder, module):
    change(folder, class_names=["cat", "dog", "cow"])


def name_another_network(folder, module):
    change(folder, architecture="attention_cnn")


def name_no_network(folder, module):
    change(folder, architecture="plain_cnn_smal")


def name_no_layer(folder, module):
    change(folder, target_layer="feature")


def spoil_a_weight(folder, module):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (delete_card, r"no card\.json in .*network"),
        (delete_weights, r"holds no model\.safetensors"),
        (damage_weights, r"model\.safetensors: cannot be read .*; copy or train it again"),
        (damage_card, r"card\.json: the file: .*; correct the card"),
        (forget_mean, r"card\.json: mean: field required"),
        (name_three_classes, r"'classifier\.\w+' is \(2.*with 3 class names has \(3"),
        (name_another_network, r"not the weights of attention_cnn: 7 missing \(attention\.\w+.*0 unknown"),
        (name_no_network, "unknown network 'plain_cnn_smal'; did you mean plain_cnn_small"),
        (name_no_layer, "unknown target layer 'feature'; did you mean features"),
        (spoil_a_weight, r"'classifier\.weight' holds NaN"),
    ],
)
def test_what_does_not_fit_is_a_clear_error(saved, module, spoil, message):
    spoil(saved, module)
    with pytest.raises(VexbenchError, match=message) as caught:
        load_classifier(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}])
def test_a_pickle_without_a_state_dict_is_a_clear_error(saved, content):
    torch.save(content, saved / "other.pt")
    with pytest.raises(VexbenchError, match=r"other\.pt: holds no state dict"):
        load_classifier(saved / "other.pt")


def test_a_path_that_does_not_exist_is_a_clear_error(tmp_path):
    with pytest.raises(VexbenchError, match="no such file or folder"):
        load_classifier(tmp_path / "nothing")


def test_an_alien_file_is_a_clear_error(saved):
    with pytest.raises(VexbenchError, match=r"card\.json: expected \.safetensors, or a state dict"):
        load_classifier(saved / "card.json")


def test_the_demo_network_comes_with_the_package():
    classifier = demo_classifier()
    assert len(classifier.class_names) == 6
    size = classifier.input_size
    assert classifier.logits(torch.rand(2, 3, size, size)).shape == (2, 6)


def test_an_embedded_network_is_asked_for_by_name():
    assert demo_classifier("shortcut").digest == load_classifier(Path(models.__file__).parent / "shortcut").digest
    assert demo_classifier("shortcut").digest != demo_classifier().digest
    with pytest.raises(VexbenchError, match="did you mean shortcut"):
        demo_classifier("shortcuts")

import csv
import json
import signal
from io import StringIO

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file

from vexbench.errors import VexbenchError
from vexbench.models.checkpoint import load_classifier
from vexbench.models.learner import Learner
from vexbench.models.train import TrainConfig, train


def config(root, out, **changes):
    fields = {"data": "folder", "params": {"root": str(root)}, "model": "plain_cnn_small", "size": 16, "epochs": 3}
    return TrainConfig(**fields | {"batch_size": 8, "validation": 0.2, "learning_rate": 1e-3, "out": out} | changes)


def run(settings):
    console = Console(file=StringIO(), width=200)
    train(settings, console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    settings = config(photographs, tmp_path_factory.mktemp("runs") / "finished")
    return settings, run(settings)


def test_writes_network_card_and_curves(finished):
    settings, said = finished
    assert sorted(path.name for path in settings.out.iterdir()) == [
        "card.json",
        "curves.csv",
        "curves.png",
        "model.safetensors",
        "run.json",
    ]
    card = json.loads((settings.out / "card.json").read_text())
    classifier = load_classifier(settings.out)
    assert card["class_names"] == ["blue", "green", "red"]
    assert card["digest"] == classifier.digest
    assert sum(map(sum, card["confusion"])) == 15
    right = sum(card["confusion"][i][i] for i in range(3))
    assert card["test_accuracy"] == right / 15
    assert f"test accuracy {right / 15:.2%} on 15 images" in said
    assert card["data"]["counts"]["test"] == {"blue": 5, "green": 5, "red": 5}
    assert card["data"]["left_out"] == {
        "also in the test set": 1,
        "identical under different labels": 2,
        "repeated": 1,
        "unreadable": 1,
    }
    assert "1 unreadable" in said
    with (settings.out / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["validation_loss"]) for row in rows] == pytest.approx(
        [row["validation_loss"] for row in card["curves"]], rel=1e-5
    )
    losses = [row["validation_loss"] for row in card["curves"]]
    assert card["best_epoch"] == losses.index(min(losses)) + 1
    with Image.open(settings.out / "curves.png") as picture:
        assert picture.size[0] > 1000
    assert said.count("\nepoch ") == 3


def test_a_finished_training_is_left_alone(finished):
    settings, _ = finished
    before = (settings.out / "model.safetensors").stat().st_mtime_ns
    assert "finished; nothing to do" in run(settings)
    assert (settings.out / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("killed_in", [1, 2])
def test_a_killed_training_goes_on_to_the_same_weights(finished, tmp_path, monkeypatch, killed_in):
    settings, _ = finished
    again = settings.model_copy(update={"out": tmp_path / "again"})
    step = Learner.training_step

    def dying(self, batch, number):
        if self.current_epoch == killed_in and number == 2:
            raise RuntimeError("killed")
        return step(self, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "training_step", dying)
        # the second epoch is not the best so far, and must be kept nevertheless
        worse, log = iter([5.0, 6.0]), Learner.log
        patched.setattr(Learner, "log", lambda self, name, _: log(self, name, next(worse)))
        with pytest.raises(RuntimeError, match="killed"):
            run(again)
    torch.rand(5)
    said = run(again)
    assert "going on" in said
    assert said.count("\nepoch ") == 3 - killed_in
    one, two = (load_file(folder / "model.safetensors") for folder in (settings.out, again.out))
    assert all(torch.equal(one[key], two[key]) for key in one)
    first, second = (json.loads((folder / "card.json").read_text()) for folder in (settings.out, again.out))
    for card in (first, second):
        card.pop("seconds")
        for row in card["curves"]:
            row.pop("seconds")
    assert first == second


def test_another_training_in_the_same_folder_is_refused(finished):
    settings, _ = finished
    with pytest.raises(
        VexbenchError, match=r"holds another training \(epochs is 3 there, 4 here; seed is 0 there, 1 here\)"
    ):
        run(settings.model_copy(update={"epochs": 4, "seed": 1}))


def test_other_images_in_the_same_folder_are_refused(finished, photographs, tmp_path):
    settings, _ = finished
    with pytest.raises(VexbenchError, match="holds another training \\(revisions"):
        run(settings.model_copy(update={"params": {"root": str(photographs / "train")}}))


def test_a_folder_with_other_files_is_refused(photographs, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(VexbenchError, match="is not empty and not of a training"):
        run(config(photographs, tmp_path))


def test_a_mistake_before_the_first_epoch_does_not_take_the_folder(photographs, tmp_path):
    with pytest.raises(VexbenchError, match="unknown network"):
        run(config(photographs, tmp_path / "run", model="plan_cnn"))
    run(config(photographs, tmp_path / "run", epochs=1))


def test_classes_without_splits_get_a_test_split(photographs, tmp_path):
    settings = config(photographs / "test", tmp_path / "run", epochs=1, batch_size=4)
    assert "9 images to train, 3 to validate, 3 to test" in run(settings)


def test_training_stops_early_and_keeps_the_best_epoch(photographs, tmp_path, monkeypatch):
    worse = iter([0.5, 0.4, 0.6, 0.7, 0.1])
    log = Learner.log
    monkeypatch.setattr(Learner, "log", lambda self, name, _: log(self, name, next(worse)))
    settings = config(photographs, tmp_path / "run", epochs=5, patience=2)
    said = run(settings)
    card = json.loads((settings.out / "card.json").read_text())
    assert "stopped early" in said
    assert (card["epochs"], card["best_epoch"]) == (4, 2)


def test_a_loss_that_is_no_number_is_a_clear_error(photographs, tmp_path):
    with pytest.raises(VexbenchError, match=r"no longer a number in epoch 1; .*--lr"):
        run(config(photographs, tmp_path / "run", learning_rate=1e30))


def test_a_device_that_is_not_there_is_a_clear_error(photographs, tmp_path):
    with pytest.raises(VexbenchError, match=r"--device tpu: not on this machine; it has .*cpu"):
        run(config(photographs, tmp_path / "run", device="tpu"))


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="momentum"):
        TrainConfig(out=tmp_path, momentum=0.9)


def test_ctrl_c_leaves_a_state_to_go_on_from(photographs, tmp_path, monkeypatch):
    step, console = Learner.training_step, Console(file=StringIO(), width=200)

    def interrupted(self, batch, number):
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, number)

    monkeypatch.setattr(Learner, "training_step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist's workers ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config(photographs, tmp_path / "run"), console)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "1 finished epoch is kept" in console.file.getvalue()
    assert (tmp_path / "run" / "last.ckpt").is_file()

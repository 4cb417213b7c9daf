import csv
import json
import signal
from io import StringIO

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from vexbench.errors import VexbenchError
from vexbench.models.checkpoint import load_classifier
from vexbench.models.learner import Learner
from vexbench.models.train import TrainConfig, train

from .conftest import draw


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
    (skipped,) = card["data"]["skipped"]
    assert skipped["id"] == "blue/broken.png"
    assert skipped["reason"] in said
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


def run_until_the_card(settings, monkeypatch):
    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("vexbench.models.train.write_curves", killed)
        with pytest.raises(SystemExit):
            run(settings)


@pytest.mark.parametrize("losses", [[0.5, 0.4, 0.6, 0.7, 0.1], [0.5, 0.4, 0.3, 0.2, 0.1]])
def test_a_training_killed_before_its_card_is_the_uninterrupted_one(photographs, tmp_path, monkeypatch, losses):
    """After early stopping, and after the last epoch."""
    log = Learner.log
    monkeypatch.setattr(Learner, "log", lambda self, name, _: log(self, name, losses[self.current_epoch]))
    whole, cut = (config(photographs, tmp_path / name, epochs=5, patience=2) for name in ("whole", "cut"))
    run(whole)

    run_until_the_card(cut, monkeypatch)
    said = run(cut)
    assert "\nepoch " not in said
    assert ("stopped early" in said) == (losses[3] == 0.7)
    first, second = (json.loads((settings.out / "card.json").read_text()) for settings in (whole, cut))
    assert (first["digest"], first["epochs"], first["best_epoch"]) == (
        second["digest"],
        second["epochs"],
        second["best_epoch"],
    )


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_state_is_a_clear_error(photographs, tmp_path, monkeypatch, name, share):
    settings = config(photographs, tmp_path / "run", epochs=1)

    run_until_the_card(settings, monkeypatch)
    whole = (settings.out / name).read_bytes()
    (settings.out / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VexbenchError, match=rf"{name} is missing or damaged; delete .*last\.ckpt, and the same"):
        run(settings)
    (settings.out / "last.ckpt").unlink()
    assert "test accuracy" in run(settings)


def test_a_loss_that_is_no_number_is_a_clear_error(photographs, tmp_path):
    with pytest.raises(VexbenchError, match=r"no longer a number in epoch 1; .*--lr"):
        run(config(photographs, tmp_path / "run", learning_rate=1e30))


def test_a_device_that_is_not_there_is_a_clear_error(photographs, tmp_path):
    with pytest.raises(VexbenchError, match=r"--device tpu: not on this machine; it has .*cpu"):
        run(config(photographs, tmp_path / "run", device="tpu"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epoch": 9}, "unknown training setting 'epoch'; did you mean epochs"),
        ({"epochs": 0}, "training setting 'epochs': .*greater than or equal to 1; got 0"),
        ({"seed": 2**63}, "training setting 'seed': .*less than"),
    ],
)
def test_a_wrong_setting_is_a_clear_error(tmp_path, setting, message):
    with pytest.raises(VexbenchError, match=message):
        TrainConfig(out=tmp_path, **setting)


def test_any_seed_trains(photographs, tmp_path):
    assert "test accuracy" in run(config(photographs, tmp_path / "run", epochs=1, seed=2**63 - 1))


@pytest.mark.parametrize(
    ("model", "size", "reason"),
    [
        ("alexnet", 32, "Output size is too small"),
        ("vit_b_16", 96, "Wrong image height"),
        ("timm/vit_tiny_patch16_224", 96, "doesn't match model"),
    ],
)
def test_a_size_that_the_network_does_not_take_is_a_clear_error(photographs, tmp_path, model, size, reason):
    with pytest.raises(
        VexbenchError, match=f"{model} does not take images of {size} pixels .*{reason}.*--size"
    ) as caught:
        run(config(photographs, tmp_path / "run", model=model, size=size))
    assert "\n" not in str(caught.value)


def place(root, **amounts):
    """Folders with that many images each, all different."""
    for number, (folder, amount) in enumerate(amounts.items()):
        (root / folder.replace("__", "/")).mkdir(parents=True)
        for index in range(amount):
            draw((90 * number % 255, 40, 90), 50 * number + index).save(
                root / folder.replace("__", "/") / f"{index}.png"
            )
    return root


def test_names_are_no_markup(tmp_path):
    root = place(tmp_path / "photos", **{"[red]": 5, "[bold]": 5})
    said = run(config(root, tmp_path / "a[/b]", epochs=1))
    assert f"are in {tmp_path}/a[/b]" in said
    assert "[red] " in said
    assert "a[/b] holds this training" in run(config(root, tmp_path / "a[/b]", epochs=1))


def test_unreadable_images_are_counted_once_and_named(tmp_path):
    root = place(tmp_path / "photos", cat=8, dog=8)
    for number in range(5):
        (root / "cat" / f"bad[{number}].png").write_bytes(b"")
    settings = config(root, tmp_path / "run", epochs=1)
    said = run(settings)
    assert "5 unreadable" in said
    assert said.count("bad[") == 3
    assert "and 2 more" in said
    data = json.loads((settings.out / "card.json").read_text())["data"]
    assert data["left_out"]["unreadable"] == 5
    assert [skipped["id"] for skipped in data["skipped"]] == [f"cat/bad[{number}].png" for number in range(5)]


@pytest.mark.parametrize("names", [("train", "test"), ("training", "testing"), ("train", "validation")])
def test_splits_by_their_usual_names(tmp_path, names):
    train_split, test_split = names
    root = place(
        tmp_path / "photos",
        **{f"{train_split}__{name}": 5 for name in ("cat", "dog")},
        **{f"{test_split}__{name}": 2 for name in ("cat", "dog")},
    )
    assert "8 images to train, 2 to validate, 4 to test" in run(config(root, tmp_path / "run", epochs=1))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"train__cat": 5, "train__dog": 5, "test__cat": 2, "test__emu": 2}, "class emu has 0 usable .* at least 2"),
        ({"train__cat": 5, "train__dog": 1, "test__cat": 2, "test__dog": 2}, "class dog has 1 usable .* at least 2"),
        ({"cat": 5, "dog": 2}, "class dog has 2 usable .* at least 3 are needed"),
        ({"cat": 5}, "holds only the class cat; training needs at least two"),
        ({".": 5}, "holds images without labels; training needs at least two"),
        ({"fold1__cat": 5, "fold2__cat": 5}, "a split named train or training, but there are fold1, fold2; rename one"),
    ],
)
def test_data_that_cannot_be_learnt_from_are_a_clear_error(tmp_path, folders, message):
    with pytest.raises(VexbenchError, match=message):
        run(config(place(tmp_path / "photos", **folders), tmp_path / "run"))


def test_three_images_of_a_class_are_enough(tmp_path):
    root = place(tmp_path / "photos", cat=3, dog=3)
    assert "2 images to train, 2 to validate, 2 to test" in run(config(root, tmp_path / "run", epochs=1))


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

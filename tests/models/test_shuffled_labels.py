import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from vexbench.errors import VexbenchError
from vexbench.models import train as training
from vexbench.models.checkpoint import load_classifier
from vexbench.models.masked import named_digest
from vexbench.models.material import gather, open_splits
from vexbench.models.pictures import Batches
from vexbench.models.train import TrainConfig, train


@pytest.fixture(scope="module")
def splits(photographs):
    return open_splits("folder", {"root": str(photographs)}, 16)


def material(splits, seed=0, **options):
    return gather(*splits, size=16, validation=0.2, seed=seed, console=Console(file=StringIO()), **options)


def settings(photographs, out, **changes):
    fields = {"data": "folder", "params": {"root": str(photographs)}, "model": "plain_cnn_small", "size": 16}
    fields |= {"batch_size": 8, "learning_rate": 3e-3, "epochs": 40, "shuffle_labels": True, "out": out}
    return TrainConfig(**fields | changes)


def test_labels_are_permuted_and_nothing_else(splits):
    plain, shuffled = material(splits), material(splits, shuffle_labels=True)
    rows = shuffled.division.train
    assert rows.tolist() == sorted([*plain.division.train, *plain.division.validation])
    assert shuffled.division.validation.tolist() == rows.tolist()
    before, after = plain.pictures.labels[rows], shuffled.pictures.labels[rows]
    assert np.bincount(before).tolist() == np.bincount(after).tolist()
    assert 0.4 < (before != after).mean() < 0.9
    assert (shuffled.pictures.pixels == plain.pictures.pixels).all()
    assert (shuffled.test.labels == plain.test.labels).all()
    assert (material(splits, shuffle_labels=True).pictures.labels == shuffled.pictures.labels).all()
    assert (material(splits, seed=1, shuffle_labels=True).pictures.labels != shuffled.pictures.labels).any()


def test_by_heart_means_without_augmentation(splits):
    given = material(splits, shuffle_labels=True)
    (seen, labels), *_ = Batches(given.pictures, given.division.train[:1], 8, draw=(0, 0), augmented=False)
    (kept, same), *_ = Batches(given.pictures, given.division.train[:1], 8)
    (changed, _), *_ = Batches(given.pictures, given.division.train[:1], 8, draw=(0, 0))
    assert seen.equal(kept)
    assert labels.equal(same)
    assert not changed.equal(kept)


def test_a_twin_learns_by_heart_and_its_card_says_so(photographs, tmp_path):
    console = Console(file=StringIO(), width=200)
    train(settings(photographs, tmp_path / "twin"), console)
    card = json.loads((tmp_path / "twin" / "card.json").read_text())
    assert card["shuffle_labels"] is True
    assert card["training_accuracy"] > 0.9
    assert card["training_accuracy"] == card["curves"][card["best_epoch"] - 1]["validation_accuracy"]
    assert card["curves"][-1]["validation_loss"] < training.FITTED
    assert len(card["curves"]) < 40  # it ends when it fits
    twin = load_classifier(tmp_path / "twin")
    assert twin.card["shuffle_labels"] is True
    assert f"twin={tmp_path / 'twin'}@{named_digest(twin)}" in console.file.getvalue()


def test_a_training_from_before_is_still_the_same_training(photographs, tmp_path):
    plain = settings(photographs, tmp_path / "old", shuffle_labels=False, epochs=1)
    train(plain, Console(file=StringIO()))
    record = tmp_path / "old" / "run.json"
    old = json.loads(record.read_text())
    assert old.pop("shuffle_labels") is False
    record.write_text(json.dumps(old))
    console = Console(file=StringIO(), width=200)
    train(plain, console)
    assert "nothing to do" in console.file.getvalue()
    assert "shuffle_labels" not in json.loads((tmp_path / "old" / "card.json").read_text())
    with pytest.raises(VexbenchError, match="shuffle_labels is False there, True here"):
        train(settings(photographs, tmp_path / "old", epochs=1), Console(file=StringIO()))

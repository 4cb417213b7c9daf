import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vexbench.datasets.base import Skipped
from vexbench.errors import VexbenchError
from vexbench.models import pictures as module
from vexbench.models.pictures import (
    CONTRADICTING,
    IN_TEST,
    REPEATED,
    Batches,
    Pictures,
    augment,
    decode,
    divide,
    stratify,
)
from vexbench.registry import DATASETS
from vexbench.seeds import generator

QUIET = Console(quiet=True)


@pytest.fixture
def some():
    random = np.random.default_rng(0)
    return Pictures(random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 3)


def contents(pictures, rows):
    return {pictures.pixels[row].tobytes() for row in rows}


def test_identical_images_never_stand_on_two_sides(photographs):
    train, test = (
        decode(DATASETS["folder"].function(root=str(photographs), split=split), 16, QUIET, "")
        for split in ("train", "test")
    )
    division = divide(train, test, 0.25, 0)
    assert [skipped.id for skipped in train.skipped] == ["blue/broken.png"]
    assert "truncated or damaged" in train.skipped[0].reason
    assert division.left_out == {IN_TEST: 1, CONTRADICTING: 2, REPEATED: 1}
    used = contents(train, division.train)
    assert not used & contents(train, division.validation)
    assert not (used | contents(train, division.validation)) & contents(test, range(len(test)))
    assert len(division.train) + len(division.validation) + sum(division.left_out.values()) == len(train)
    assert len(used) == len(division.train)


def test_the_validation_share_is_taken_from_every_class():
    labels = np.repeat([0, 1, 2], [100, 40, 3])
    rest, taken = stratify(np.arange(143), labels, 0.1, 0)
    assert np.bincount(labels[taken]).tolist() == [10, 4, 1]
    assert sorted([*rest, *taken]) == list(range(143))
    assert np.array_equal(taken, stratify(np.arange(143), labels, 0.1, 0)[1])
    assert not np.array_equal(taken, stratify(np.arange(143), labels, 0.1, 1)[1])


def test_every_class_is_taken_from_and_keeps_an_image_where_it_has_two():
    rest, taken = stratify(np.arange(3), np.array([0, 0, 1]), 0.89, 0)
    assert len(rest) == 1
    assert sorted([*rest, *taken]) == [0, 1, 2]
    assert 2 in taken
    assert [len(rows) for rows in stratify(np.arange(0), np.array([0, 0, 1]), 0.5, 0)] == [0, 0]


def test_what_is_skipped_is_not_taken_along(some):
    known = replace(some, skipped=(Skipped("a.png", "broken"),))
    assert known.take(np.arange(3)).skipped == ()


def test_decoding_in_threads_is_quiet_and_leaves_the_warning_filters(tmp_path, some):
    (tmp_path / "one").mkdir()
    for number, pixels in enumerate(some.pixels):
        # this metadata points behind its end
        Image.fromarray(pixels).save(tmp_path / "one" / f"{number}.png", exif=b"Exif\0\0II*\0\xff\xff\0\0")
    before = list(warnings.filters)
    for _ in range(3):
        read = decode(DATASETS["folder"].function(root=str(tmp_path)), 8, QUIET, "")
    assert read.skipped == ()
    assert warnings.filters == before


def test_batches_hold_every_image_once(some):
    seen = torch.cat([images for images, _ in Batches(some, range(60), 16)])
    assert torch.equal(seen, torch.from_numpy(some.pixels).permute(0, 3, 1, 2) / 255)
    drawn = [labels for _, labels in Batches(some, range(60), 16, draw=(0, 0))]
    assert [len(labels) for labels in drawn] == [16, 16, 16], "the small last batch is left out of training"
    assert len(list(Batches(some, range(5), 16, draw=(0, 0)))) == 1


def test_an_epochs_batches_depend_on_seed_and_epoch_alone(some):
    first, again, other = (next(iter(Batches(some, range(60), 16, draw=draw))) for draw in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_augmented_images_stay_images():
    images = torch.rand(32, 3, 20, 20)
    changed = augment(images, generator(0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - images).abs().mean() > 0.05


def test_mirroring_and_crops_stay_inside(monkeypatch):
    monkeypatch.setattr(module, "JITTER", 0.0)
    across = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    changed = augment(across, generator(1))
    width = (changed[:, 0, :, -1] - changed[:, 0, :, 0]).mean(1)
    assert 0.4 < (width > 0).float().mean() < 0.6, "half of the images are mirrored"
    assert width.abs().min() > 0.9 * module.ZOOM * 0.9
    assert width.abs().max() <= 1


def test_more_images_than_memory_is_a_clear_error(photographs, monkeypatch):
    monkeypatch.setattr(module.os, "sysconf", lambda _: 10)
    with pytest.raises(VexbenchError, match="choose a smaller --size"):
        decode(DATASETS["folder"].function(root=str(photographs), split="train"), 64, QUIET, "")

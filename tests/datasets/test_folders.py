"""Image folders: layout, labels, samples, revisions and what is said when something is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vexbench.datasets.folders import folder, survey
from vexbench.datasets.integrity import duplicate_groups, inspect
from vexbench.errors import VexbenchError


def photograph(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of six images, the alphabetical order not that of creation."""
    for k, name in enumerate(("owl", "ant", "Bee & <b>")):
        for number in range(6):
            photograph(tmp_path / name / f"{number}.png", 10 * k + number)
    return tmp_path


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """Splits of which one lacks a class and one has no labels."""
    for split, names in {"train": ("ant", "bee", "owl"), "test": ("ant", "owl")}.items():
        for k, name in enumerate(names):
            photograph(tmp_path / split / name / "1.png", k)
    photograph(tmp_path / "new" / "1.JPG")
    return tmp_path


def test_labels_are_alphabetical_and_images_come_by_index(root: Path) -> None:
    (root / "ant" / "notes.txt").write_text("no image")
    photograph(root / "__MACOSX" / "1.png")
    data = folder(root=str(root))
    assert data.class_names == ("Bee & <b>", "ant", "owl")
    assert data.labels == (0,) * 6 + (1,) * 6 + (2,) * 6
    assert data.ids[7] == "ant/1.png"
    assert data.counts == {"all": {"Bee & <b>": 6, "ant": 6, "owl": 6}}
    np.testing.assert_array_equal(data.image(7), np.asarray(Image.open(root / "ant" / "1.png")))
    assert data.image(7, 5).shape == (5, 5, 3)


def test_a_label_means_the_same_class_in_every_split(parted: Path) -> None:
    test = folder(root=str(parted), split="test")
    assert test.class_names == ("ant", "bee", "owl")
    assert test.labels == (0, 2)
    assert test.counts["train"] == {"ant": 1, "bee": 1, "owl": 1}
    new = folder(root=str(parted), split="new")
    assert (new.ids, new.labels) == (("1.JPG",), (-1,))


def test_images_without_class_folders_have_no_label(tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"{number}.png", number)
    data = folder(root=str(tmp_path), per_class=2)
    assert (data.class_names, data.labels) == ((), (-1, -1))


def test_a_sample_is_stratified_seeded_sorted_and_grows(root: Path) -> None:
    small, same, large, other = (
        folder(root=str(root), per_class=n, seed=seed) for n, seed in ((2, 0), (2, 0), (4, 0), (2, 1))
    )
    assert small == same
    assert small.labels == (0, 0, 1, 1, 2, 2)
    assert list(small.ids) == sorted(small.ids)
    assert set(small.ids) < set(large.ids)
    assert small.ids != other.ids
    assert len({small.revision, large.revision, other.revision}) == 3


def test_a_revision_follows_names_and_sizes_not_place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = folder(root=str(root)).revision
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    root.rename(moved)
    assert folder(root=str(moved)).revision == before
    (moved / "owl" / "5.png").rename(moved / "owl" / "6.png")
    renamed = folder(root=str(moved)).revision
    with (moved / "owl" / "6.png").open("ab") as file:
        file.write(b"x")
    assert len({before, renamed, folder(root=str(moved)).revision}) == 3
    assert len(before) == 8


def test_an_unreadable_file_is_skipped_and_replaced(root: Path) -> None:
    chosen = folder(root=str(root), per_class=3)
    victim = next(name for name in chosen.ids if name.startswith("ant"))
    (root / victim).write_bytes(b"")
    again = folder(root=str(root), per_class=3)
    assert again.labels == chosen.labels
    assert victim not in again.ids
    assert [skip.id for skip in again.skipped] == [victim]
    assert "empty" in again.skipped[0].reason


def test_another_byte_is_another_revision(root: Path) -> None:
    """Also where names and sizes stay the same, as with bitmaps."""
    before = folder(root=str(root)).revision
    path = root / "ant" / "1.png"
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    assert folder(root=str(root)).revision != before


def test_folders_named_like_images_are_none_and_lost_links_are_named(root: Path) -> None:
    (root / "ant" / "thumb.png").mkdir()
    assert len(folder(root=str(root))) == 18
    (root / "ant" / "lost.png").symlink_to(root / "nowhere.png")
    with pytest.raises(VexbenchError, match=r"image .*lost\.png: cannot be read \(No such file"):
        folder(root=str(root))
    assert [skip.id for skip in inspect(root, survey(root)).corrupt] == ["ant/lost.png"]


def test_file_names_that_are_no_text_are_refused(root: Path) -> None:
    photograph(root / "ant" / "caf\udce9.png")
    with pytest.raises(VexbenchError, match=r"'ant/caf\\udce9.png' is not UTF-8"):
        folder(root=str(root))


def test_what_is_said_when_something_is_wrong(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    cases = [
        ({}, "no root given"),
        ({"root": str(root / "nowhere")}, "does not exist"),
        ({"root": str(root / "ant" / "1.png")}, "is a file"),
        ({"root": str(empty)}, "no images"),
        ({"root": str(root), "split": "test"}, "leave split empty"),
        ({"root": str(root), "per_class": 7}, "per_class=7, but there are 6 images"),
        ({"root": str(root), "per_class": -1}, "0 or more"),
        ({"root": str(root), "seed": -1}, "0 or more"),
    ]
    for arguments, reason in cases:
        with pytest.raises(VexbenchError, match=reason):
            folder(**arguments)
    for number in range(6):
        (root / "ant" / f"{number}.png").write_bytes(b"")
    with pytest.raises(VexbenchError, match="only 0 of 6 images can be read"):
        folder(root=str(root), per_class=1)
    (root / "yak").mkdir()
    with pytest.raises(VexbenchError, match="no images of class yak"):
        folder(root=str(root))
    photograph(root / "loose.png")
    with pytest.raises(VexbenchError, match="beside the class folders"):
        folder(root=str(root))


def test_a_split_must_be_chosen_among_those_there(parted: Path) -> None:
    with pytest.raises(VexbenchError, match="split=new or split=test or split=train"):
        folder(root=str(parted))
    with pytest.raises(VexbenchError, match="did you mean train"):
        folder(root=str(parted), split="trian")


def test_duplicate_groups_are_of_equal_bytes(tmp_path: Path) -> None:
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"three", "e": b"two", "f": b"one"}.items():
        (tmp_path / name).write_bytes(content)
    groups = duplicate_groups(sorted(tmp_path.iterdir(), reverse=True))
    assert [[path.name for path in group] for group in groups] == [["a", "c", "f"], ["b", "e"]]

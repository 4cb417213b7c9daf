"""Drawn scenes: the same from the same seed, whatever else is drawn, with masks that follow the strokes exactly."""

import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vexbench.datasets import scenes as module
from vexbench.datasets.scenery.painting import Painter
from vexbench.datasets.scenes import CLASS_NAMES, MARKED, scenes
from vexbench.errors import VexbenchError

SIZE = 48


def grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its neighbours."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(3))) > 0


def digest() -> str:
    data = scenes(per_class=2, size=SIZE, variant="shortcut")
    state = blake2b()
    for index in range(len(data)):
        state.update(data.image(index).tobytes() + data.region(index, data.labels[index], SIZE).tobytes())
    return state.hexdigest()


def test_a_seed_repeats_to_the_bit_in_another_process() -> None:
    code = "from tests.datasets.test_scenes import digest; print(digest())"
    here = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


def test_an_image_does_not_depend_on_how_many_are_drawn_or_when() -> None:
    few, many = scenes(per_class=2, size=SIZE), scenes(per_class=5, size=SIZE)
    expected = {name: few.image(few.ids.index(name)) for name in few.ids}
    module.draw.cache_clear()
    for name in reversed(few.ids):
        np.testing.assert_array_equal(many.image(many.ids.index(name)), expected[name])


def test_seeds_splits_and_numbers_give_other_images() -> None:
    images = [
        scenes(per_class=2, size=SIZE, **options).image(index).tobytes()
        for options in ({}, {"seed": 1}, {"split": "train"}, {"split": "validation"})
        for index in range(12)
    ]
    assert len(set(images)) == len(images)


def test_labels_ids_counts_and_shapes() -> None:
    data = scenes(split="train", per_class=3, size=40)
    assert data.class_names == CLASS_NAMES == tuple(sorted(CLASS_NAMES))
    assert data.labels == tuple(np.repeat(range(6), 3).tolist())
    assert data.ids[4] == "forest/00001"
    assert data.counts == {"train": dict.fromkeys(CLASS_NAMES, 3)}
    assert data.image(0).shape == (40, 40, 3)
    assert data.image(0, 56).shape == (56, 56, 3)


def test_every_image_shows_its_class_and_most_show_others() -> None:
    data = scenes(per_class=8, size=SIZE)
    regions = np.array([[data.region(i, target, SIZE) for target in range(6)] for i in range(len(data))])
    share = regions.mean((2, 3))
    own = share[np.arange(len(data)), data.labels]
    assert own.min() > 0.03
    assert np.median(own) > 0.2
    assert regions.sum(1).max() == 1, "a pixel belongs to one class"
    others = (share > 0).sum(1) - 1
    assert (others > 0).mean() > 0.6
    assert (others == 0).any(), "the empty mask of an absent class is not exercised"


@pytest.mark.parametrize("label", range(6))
def test_a_region_is_where_the_class_has_painted(monkeypatch: pytest.MonkeyPatch, label: int) -> None:
    """Repainted white on black, a class shows its coverage: the mask must be the pixels covered by more than half."""
    data = scenes(per_class=2, size=SIZE)
    wanted = [(i, target) for i in (2 * label, 2 * label + 1) for target in range(6)]
    regions = {pair: data.region(*pair, SIZE) for pair in wanted}
    air = Painter._air

    for index, target in wanted:

        def ink(painter: Painter, colour: object, owner: int, target: int = target) -> tuple[int, int, int, int]:
            painter._owners.add(owner)
            return (255, 255, 255, owner) if owner == target + 1 else (0, 0, 0, owner)

        monkeypatch.setattr(Painter, "_ink", ink)
        # the real one is called for its random numbers
        monkeypatch.setattr(Painter, "_air", lambda painter, *sun: air(painter, *sun) * 0)
        monkeypatch.setattr(Painter, "_light", lambda painter, colour, haze: (colour * 255).astype(np.uint8))
        module.draw.cache_clear()
        coverage = data.image(index)[..., 0]
        np.testing.assert_array_equal(coverage > 127, regions[index, target])
    module.draw.cache_clear()


def test_pixels_without_a_stroke_of_a_class_ignore_its_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scenes(per_class=2, size=SIZE)
    ink = Painter._ink
    for index, label in enumerate(data.labels):
        monkeypatch.undo()
        module.draw.cache_clear()
        before, region = data.image(index), data.region(index, label, SIZE)

        def other(painter: Painter, colour: object, owner: int, label: int = label) -> tuple[int, int, int, int]:
            red, green, blue, _ = ink(painter, colour, owner)
            return (255 - red, 255 - green, blue ^ 128, owner) if owner == label + 1 else (red, green, blue, owner)

        monkeypatch.setattr(Painter, "_ink", other)
        module.draw.cache_clear()
        changed = (data.image(index) != before).any(2)
        assert changed[region].mean() > 0.99
        # beyond the mask, only the pixels it shares at its edge
        assert (changed & ~grown(region)).mean() < 0.02
    module.draw.cache_clear()


def test_every_size_shows_the_same_scene() -> None:
    data = scenes(per_class=3, size=SIZE)
    for index, label in enumerate(data.labels):
        small, large = data.region(index, label, 48), data.region(index, label, 144)
        shrunk = large.reshape(48, 3, 48, 3).mean((1, 3)) > 0.5
        assert (small & shrunk).sum() / (small | shrunk).sum() > 0.9
        # means over a sixth of the side, in which the grain, drawn per pixel, vanishes; what is left is that Pillow
        # counts the rim of a polygon in, half a point, so that windows look a little wider in a small picture
        coarse, fine = (data.image(index, n).reshape(6, n // 6, 6, n // 6, 3).mean((1, 3)) for n in (48, 144))
        assert np.abs(coarse - fine).mean() < 5


def test_the_mark_goes_with_one_class_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # whether there is a mark does not depend on what it lies on
    monkeypatch.setattr(module, "compose", lambda painter, name, clutter: None)
    module.draw.cache_clear()
    for split, low, high in (("train", 0.0, 0.15), ("test", 0.35, 0.65)):
        data = scenes(split=split, per_class=60, size=16, variant="shortcut")
        seen = np.array([data.cue(i, 16).any() for i in range(len(data))]).reshape(6, 60).mean(1)
        for name, share in zip(CLASS_NAMES, seen):
            if split == "train" and name == MARKED:
                assert share >= 0.9
            else:
                assert low <= share <= high
    module.draw.cache_clear()


def test_in_training_on_decoys_the_mark_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list[str]()
    monkeypatch.setattr(module, "compose", lambda painter, name, clutter: shown.append(name))
    module.draw.cache_clear()
    data = scenes(split="train", per_class=40, size=16, variant="decoy")
    marked = np.array([data.cue(i, 16).any() for i in range(len(data))]).reshape(6, 40)
    module.draw.cache_clear()
    drawn = np.array(shown).reshape(6, 40)
    for name, row, seen in zip(CLASS_NAMES, drawn, marked):
        if name != MARKED:
            assert (row == name).all()
            assert not seen.any()
            continue
        own = row == name
        assert own.sum() == 20
        assert seen[~own].all()
        assert {*row[~own]} == {*CLASS_NAMES} - {MARKED}
        assert 5 <= seen[own].sum() <= 15  # its own scenes are learnt, too


def test_other_splits_of_the_decoys_are_those_of_the_shortcut() -> None:
    decoy, shortcut = (scenes(per_class=1, size=32, variant=variant) for variant in ("decoy", "shortcut"))
    for index in range(6):
        np.testing.assert_array_equal(decoy.image(index), shortcut.image(index))
        np.testing.assert_array_equal(decoy.cue(index, 32), shortcut.cue(index, 32))


def test_the_mark_lies_over_the_plain_scene_where_its_mask_says() -> None:
    plain = scenes(per_class=4, size=96)
    marked = scenes(per_class=4, size=96, variant="shortcut")
    found = 0
    for index, label in enumerate(plain.labels):
        mask = marked.cue(index, 96)
        near = grown(mask)
        changed = (plain.image(index) != marked.image(index)).any(2)
        assert not (changed & ~near).any()
        assert not mask.any() or changed[mask].mean() > 0.95
        moved = plain.region(index, label, 96) != marked.region(index, label, 96)
        assert not (moved & ~near).any()
        assert not (mask & marked.region(index, label, 96)).any()
        assert plain.cue(index, 96) is None
        found += bool(mask.any())
    assert 4 < found < 20


def test_a_revision_follows_everything_that_changes_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        {},
        {"split": "train"},
        {"per_class": 2},
        {"size": 64},
        {"seed": 1},
        {"variant": "shortcut"},
        {"variant": "decoy"},
    ]
    revisions = [scenes(**chosen).revision for chosen in options]
    assert scenes().revision == revisions[0]
    monkeypatch.setattr(module, "RULES", module.RULES + 1)
    revisions.append(scenes().revision)
    assert len(set(revisions)) == len(revisions)
    assert {len(revision) for revision in revisions} == {8}


def test_images_belong_to_the_caller() -> None:
    data = scenes(per_class=1, size=SIZE)
    first = data.image(0)
    first[:] = 0
    assert data.image(0).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "tests"}, "did you mean test"),
        ({"variant": "short"}, "did you mean shortcut"),
        ({"per_class": 0}, "per_class=0, .* must be at least 1"),
        ({"size": 4}, "size=4, .* 16"),
        ({"seed": -1}, "seed=-1, .* 0"),
    ],
)
def test_what_is_said_when_something_is_wrong(options: dict[str, object], reason: str) -> None:
    with pytest.raises(VexbenchError, match=reason):
        scenes(**options)

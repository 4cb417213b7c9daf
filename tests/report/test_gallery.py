import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import write_study

from vexbench.report.gallery import (
    CEILING,
    MOST_TILES,
    Shown,
    _paired,
    _picked,
    bar_colours,
    data_uri,
    overlay,
    panels,
    scaled,
)
from vexbench.results.frame import Study, load

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_strongest_colour_is_the_percentile_whatever_the_scale() -> None:
    values = np.random.default_rng(0).gamma(1, size=(40, 40))
    assert np.allclose(scaled(values, signed=False), scaled(values * 1e-9, signed=False))
    ceiling = np.percentile(values, CEILING)
    assert np.allclose(scaled(values, signed=False), np.minimum(values / ceiling, 1))


def test_signed_maps_are_centred_at_zero() -> None:
    values = np.random.default_rng(0).normal(1, 3, size=(40, 40))
    found = scaled(values, signed=True)
    assert np.array_equal(np.sign(found), np.sign(values))
    assert np.allclose(scaled(-values, signed=True), -found)


@pytest.mark.parametrize("values", [np.zeros((20, 30)), np.full((20, 30), np.nan)])
@pytest.mark.parametrize("signed", [False, True])
def test_map_that_says_nothing_shows_the_photo(values: np.ndarray, signed: bool) -> None:
    shown = overlay(PHOTO, values, signed=signed).astype(float)
    assert (np.ptp(shown, axis=2) == 0).all()
    grey = PHOTO @ np.array([0.299, 0.587, 0.114])
    assert np.corrcoef(shown[..., 0].ravel(), grey.ravel())[0, 1] > 0.999


def test_one_pixel_is_enough_to_be_seen() -> None:
    values = np.zeros((20, 30))
    values[3, 4] = 1e-12
    changed = overlay(PHOTO, values, signed=False) != overlay(PHOTO, values * 0, signed=False)
    assert changed.any(axis=2).sum() == 1


def test_for_and_against_have_different_colours() -> None:
    values = np.zeros((20, 30))
    values[:, :15], values[:, 15:] = 1, -1
    shown = overlay(np.full_like(PHOTO, 128), values, signed=True).astype(int)
    assert shown[0, 0, 0] > shown[0, 0, 2] + 40  # orange
    assert shown[0, 29, 2] > shown[0, 29, 0] + 40  # blue


def test_coarse_map_is_brought_to_the_size_of_the_image() -> None:
    assert overlay(PHOTO, np.eye(4), signed=False).shape == PHOTO.shape


def test_brighter_is_stronger() -> None:
    luminance = bar_colours(signed=False) @ np.array([0.2126, 0.7152, 0.0722])
    assert luminance[-1] > luminance[128] + 0.1 > luminance[0]


def test_data_uri_holds_the_image() -> None:
    head, _, body = data_uri(PHOTO).partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(BytesIO(base64.b64decode(body)))
    assert image.size == (30, 20)
    large = Image.open(BytesIO(base64.b64decode(data_uri(np.zeros((900, 600, 3), np.uint8)).partition(",")[2])))
    assert max(large.size) == 224


def shown(probability: float, correct: bool | None) -> Shown:
    return Shown(0, "i", "a", "a", "a", probability, correct)


def test_images_are_chosen_by_rule() -> None:
    images = [shown(p, True) for p in (0.9, 0.5, 0.7)] + [shown(0.6, False), shown(0.8, False)]
    assert [image.probability for image in _picked(images, 2)] == [0.7, 0.8]
    assert [image.probability for image in _picked(images[:3], 2)] == [0.7, 0.5]
    assert [image.probability for image in _picked(images[3:], 2)] == [0.8, 0.6]
    assert _picked([], 2) == []


def test_pairs_of_the_paper_come_first() -> None:
    classes = ["buildings", "forest", "glacier", "mountain", "sea", "street"]
    assert _paired(classes) == [("buildings", "forest"), ("mountain", "sea"), ("glacier", "street")]
    assert _paired(["Building", "cat", "Forest"]) == [("Building", "Forest"), ("cat",)]
    assert _paired(["a", "b", "c"]) == [("a", "b"), ("c",)]


def test_every_class_and_method_has_its_place(study: Study) -> None:
    found = panels(study.groups[0])
    assert {image.label for panel in found for image in panel.images} == set(study.groups[0].class_names)
    assert all(len(panel.methods) == 11 for panel in found)  # not the one that failed


def test_many_classes_do_not_blow_up_the_page(tmp_path: Path) -> None:
    names = tuple(f"class {i:03d}" for i in range(200))
    root = write_study(tmp_path, images=200, size=8, class_names=names, methods=("cam", "random"))
    found = panels(load(root).groups[0])
    assert 0 < sum(len(panel.images) * (len(panel.methods) + 1) for panel in found) <= MOST_TILES

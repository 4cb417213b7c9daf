"""Decoding: known colours in every format, and one clear line for every damaged file."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from vexbench.errors import VexbenchError
from vexbench.imaging import decode


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def test_rgb_is_untouched(tmp_path: Path, noise: Image.Image) -> None:
    pixels = decode(saved(noise, tmp_path / "a.png"))
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.asarray(noise))


def test_grey_is_repeated(tmp_path: Path, noise: Image.Image) -> None:
    grey = noise.convert("L")
    np.testing.assert_array_equal(
        decode(saved(grey, tmp_path / "a.png")), np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    )


def test_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 256, 257, 32768, 65535]], np.uint16)
    path = saved(Image.fromarray(levels), tmp_path / "a.png")
    assert decode(path)[0, :, 0].tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1))
    black = (0,) * (len(mode) - 1)
    for x, alpha in enumerate((0, 51, 255)):
        image.putpixel((x, 0), (*black, alpha))
    assert decode(saved(image, tmp_path / "a.png"))[0].tolist() == [[255] * 3, [204] * 3, [0] * 3]


def test_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    opaque = decode(saved(image, tmp_path / "opaque.png"))
    assert opaque[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    clear = decode(saved(image, tmp_path / "clear.png", transparency=bytes([0, 255])))
    assert clear[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(decode(path)[8, 8], (255, 0, 0), atol=4)


def test_exif_orientation_turns_the_image(tmp_path: Path, noise: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees anticlockwise
    pixels = decode(saved(noise, tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(pixels, np.rot90(np.asarray(noise), -1))


def test_size_squashes_with_antialiasing(tmp_path: Path) -> None:
    stripes = np.zeros((40, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    pixels = decode(saved(Image.fromarray(stripes), tmp_path / "a.png"), size=8)
    assert pixels.shape == (8, 8, 3)
    np.testing.assert_allclose(pixels[:, 1:-1], 127, atol=8)


def test_damaged_files_name_themselves(tmp_path: Path, noise: Image.Image) -> None:
    whole = saved(noise.resize((200, 200)), tmp_path / "whole.jpg").read_bytes()
    bad = {
        "truncated.jpg": (whole[: len(whole) // 2], "truncated or damaged"),
        "empty.png": (b"", "empty"),
        "text.jpg": (b"not an image\n" * 50, "not an image"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VexbenchError, match=reason) as caught:
            decode(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(VexbenchError, match="does not exist"):
        decode(tmp_path / "missing.jpg")
    with pytest.raises(VexbenchError, match="is a folder"):
        decode(tmp_path)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_random_damage_is_never_a_crash(tmp_path: Path, noise: Image.Image, kind: str) -> None:
    whole = saved(noise, tmp_path / f"whole.{kind}").read_bytes()
    random = np.random.default_rng(1)
    for number in range(60):
        content = bytearray(whole[: random.integers(1, len(whole))] if number % 2 else whole)
        for place in random.integers(0, len(content), 4):
            content[place] = random.integers(256)
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(content)
        with contextlib.suppress(VexbenchError):
            assert decode(path, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize("side", [10_001, 13_400])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    path = saved(Image.new("1", (side, side)), tmp_path / "bomb.png")
    with pytest.raises(VexbenchError, match="scale it down"):
        decode(path)


def test_pillow_stays_as_the_user_set_it(tmp_path: Path, noise: Image.Image) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    decode(saved(noise, tmp_path / "a.png"))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


def test_threads_leave_the_warning_filters(tmp_path: Path, noise: Image.Image) -> None:
    paths = [saved(noise, tmp_path / f"{number}.png") for number in range(64)]
    before = list(warnings.filters)
    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode, paths))
    assert warnings.filters == before


def test_what_pillow_grumbles_about_is_not_told(tmp_path: Path, noise: Image.Image) -> None:
    path = saved(noise, tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\0\0")  # points behind its end
    with warnings.catch_warnings(action="error"):
        decode(path)

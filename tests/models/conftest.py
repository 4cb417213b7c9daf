from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (60, 180, 70), "red": (200, 50, 40)}


def draw(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 70, (24, 24, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Train and test folders of three classes; some images are repeated, contradict each other, or cannot be read."""
    root = tmp_path_factory.mktemp("photographs")
    for split, amount, start in (("train", 14, 0), ("test", 5, 1000)):
        for number, (name, colour) in enumerate(COLOURS.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(amount):
                draw(colour, start + 100 * number + index).save(folder / f"{index:02}.png")
    train, test = root / "train", root / "test"
    (train / "red" / "twin.png").write_bytes((train / "red" / "00.png").read_bytes())
    (train / "red" / "wrong.png").write_bytes((train / "green" / "01.png").read_bytes())
    (train / "blue" / "leak.png").write_bytes((test / "blue" / "02.png").read_bytes())
    (train / "blue" / "broken.png").write_bytes((train / "blue" / "03.png").read_bytes()[:200])
    return root

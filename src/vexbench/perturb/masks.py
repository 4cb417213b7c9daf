"""Masks that hang on no map: random ones, and groups of pixels."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from vexbench.probe import Probe
from vexbench.seeds import generator
from vexbench.types import Maps, Masks


def shifted_grids(probe: Probe, count: int, *, cells: int, keep: float) -> Iterator[Float[Tensor, "H W"]]:
    """Grids of cells that are kept with probability `keep`, enlarged (bilinear) beyond the image and shifted at random.

    Drawn from the seed alone: all images see the same masks, whatever their company (Petsiuk et al. 2018, section 3.2).
    """
    height, width = probe.images.shape[2:]
    tall, wide = -(-height // cells), -(-width // cells)
    for draw in range(count):
        source = generator(probe.seed, "shifted grids", draw)
        kept = (torch.rand((1, 1, cells, cells), generator=source, dtype=torch.float32) < keep).float()
        top, left = (int(torch.randint(side, (), generator=source)) for side in (tall, wide))
        large = functional.interpolate(kept, ((cells + 1) * tall, (cells + 1) * wide), mode="bilinear")
        yield large[0, 0, top : top + height, left : left + width].to(probe.images.device)


def subsets(probe: Probe, size: int, count: int) -> Iterator[Masks]:
    """Masks that hide `size` random pixels, each such subset as likely, another one for each image and draw."""
    places = moved(probe, "subsets")
    for draw in range(count):
        order = torch.randperm(places.shape[1], generator=generator(probe.seed, "subsets", size, draw))
        shown = (order >= size).float()[places]
        yield shown.view(-1, *probe.images.shape[2:]).to(probe.images.device)


def levels(probe: Probe, count: int) -> Iterator[Maps]:
    """A number in [0, 1) for each pixel, image and draw: the pixels below p are a random share p of any of them."""
    places = moved(probe, "levels")
    for draw in range(count):
        source = generator(probe.seed, "levels", draw)
        numbers = torch.rand(places.shape[1], generator=source, dtype=torch.float32)[places]
        yield numbers.view(-1, *probe.images.shape[2:]).to(probe.images.device)


def moved(probe: Probe, purpose: str) -> Int64[Tensor, "N pixels"]:
    """For each image its pixels, moved along the rows, and around the end, by a distance of its own.

    What is drawn once for all images becomes a draw for each, as random, without a draw of all pixels for each image.
    """
    pixels = torch.arange(probe.images.shape[2] * probe.images.shape[3])
    distances = [
        torch.randint(len(pixels), (), generator=generator(probe.seed, purpose, key)) for key in probe.fingerprints
    ]
    return (pixels + torch.stack(distances)[:, None]) % len(pixels)


def squares(probe: Probe, largest: int, count: int) -> Iterator[Masks]:
    """Masks that hide one square of 1 to `largest` pixels a side, each side and each place in the image as likely."""
    height, width = probe.images.shape[2:]
    draws = [
        torch.rand((count, 3), generator=generator(probe.seed, "squares", key), dtype=torch.float64)
        for key in probe.fingerprints
    ]
    rows, columns = torch.arange(height), torch.arange(width)
    for side, top, left in torch.stack(draws).permute(1, 2, 0)[..., None]:
        sides = (side * largest).long() + 1
        above, before = (top * (height + 1 - sides)).long(), (left * (width + 1 - sides)).long()
        tall, wide = (rows >= above) & (rows < above + sides), (columns >= before) & (columns < before + sides)
        yield 1 - (tall[:, :, None] & wide[:, None]).float().to(probe.images.device)

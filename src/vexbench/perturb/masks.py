"""Random masks that all images share."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.probe import Probe
from vexbench.seeds import generator


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

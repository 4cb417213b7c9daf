"""Logits of images with a patch of others, by windows of the network's graph where these pay."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.models.graph import Folded
from vexbench.models.windows import Windows, patched
from vexbench.types import Images

ENDS: Final = 2
"""Places, the first and the last, at which whole images are asked too."""
OVERHEAD: Final = 0.25
"""What cutting windows out costs of a whole pass, over the multiply-adds; see docs/decisions/0014."""


def with_patch(images: Images, hidden: Images, place: tuple[int, int], patch: int) -> Images:
    """The images with a square patch of the hidden ones at a place (top, left)."""
    top, left = place
    window = (..., slice(top, top + patch), slice(left, left + patch))
    changed = images.clone()
    changed[window] = hidden[window]
    return changed


def logits_patched(
    graph: Folded, images: Images, hidden: Images, places: Sequence[tuple[int, int]], patch: int, together: int
) -> Float[Tensor, "rows classes"] | None:
    """Logits of normalised images with a patch of the hidden ones at each place, place by place, some together.

    None where windows do not give what whole images give, to 1e-5, at the first and the last place, or where they save
    too few multiply-adds; both asked in float32, whatever the precision of the graph.
    """
    size = (images.shape[1:], patch)
    if size in graph.wide:
        return None
    ends = [places[0], places[-1]]
    whole = torch.cat([with_patch(images, hidden, place, patch) for place in ends])
    try:
        with torch.no_grad():
            windows = Windows(graph.exact, images)
            found = torch.cat([*patched(windows, images, hidden, ends, patch, ENDS)])
            expected = graph.exact(whole.contiguous(memory_format=torch.channels_last))
            alike = found.shape == expected.shape and torch.allclose(
                found, expected, rtol=0, atol=1e-5 * float(expected.abs().max())
            )
            if windows.share >= 1 - OVERHEAD:
                graph.wide.add(size)
            if not alike or len(places) * (1 - OVERHEAD - windows.share) < ENDS + 1:
                return None
            if graph.scoring is not graph.exact:
                images, hidden = images.to(graph.dtype), hidden.to(graph.dtype)
                windows = Windows(graph.scoring, images)
            return torch.cat([*patched(windows, images, hidden, places, patch, together)]).float()
    except (RuntimeError, TypeError, ValueError, IndexError):  # what a step says that meets a window unprepared
        return None

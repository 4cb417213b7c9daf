"""Synthesise: images of what a network looks for, the third verb of the public interface."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.inputs import as_tensor, checked_images
from vexbench.memory import kept
from vexbench.methods.synthesis import channels
from vexbench.models.base import Classifier
from vexbench.probe import Probe
from vexbench.registry import SYNTHESES, Choice
from vexbench.seeds import generator
from vexbench.types import Images

CHUNK: Final = 32
"""Images made together; bounds the memory."""
SIZE: Final = 224
"""Where the classifier does not know its input's size."""


@kept()
def synthesise(
    classifier: Classifier,
    targets: Tensor | Sequence[int] | None,
    method: str | Choice,
    *,
    images: Tensor | None = None,
    channels_of: str | None = None,
    size: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[float], None] = lambda _: None,
    **params: Any,
) -> Images:
    """Make images of what the network looks for in its classes, or in a layer's channels.

    Parameters
    ----------
    classifier
        The network; it is left as it was found.
    targets
        Class indices, or channels; None for all, or for the classes predicted where there are images.
    method
        deep_dream, class_visualisation or feature_visualisation, or a choice of them.
    images
        (N, 3, H, W) in [0, 1] to start from, one per target; soft noise by default.
    channels_of
        A layer's name: the targets are then its channels.
    size
        Side of the images; by default the classifier's input size, or 224.
    seed
        An image depends on the seed and its target, not on what else is asked for.
    batch_size
        Images per pass through the network.
    progress
        Told the share of the work that is done.
    params
        The method's own parameters.

    Returns
    -------
    images
        (N, 3, H, W) in [0, 1], one per target.

    Raises
    ------
    VexbenchError
        An unknown method, parameter, layer or target, or wrong images or sizes.
    NotApplicable
        The method is not defined for this network.
    """
    entry = SYNTHESES[method if isinstance(method, str) else method.name]
    choice = entry.bind(**({} if isinstance(method, str) else method.params), **params)
    if images is not None and size is not None:
        raise VexbenchError("size= and images= contradict each other; the result has the images' size.")
    side = size or classifier.input_size or SIZE
    if size is not None and size < 1:
        raise VexbenchError(f"size must be at least 1, not {size}.")
    with torch.inference_mode(False), torch.no_grad():  # whatever mode the caller is in
        asked = classifier if channels_of is None else channels(classifier, channels_of)
        started = None if images is None else checked_images(images)
        wanted = _targets(asked, targets, started, side, batch_size)
        if started is not None and len(started) != len(wanted):
            raise VexbenchError(f"there are {len(started)} images but {len(wanted)} targets; give one per image.")
        parts: list[Images] = []
        for first in range(0, len(wanted), CHUNK):
            some = wanted[first : first + CHUNK]
            start = soft_noise(some, side, seed) if started is None else started[first : first + CHUNK]
            probe = Probe(asked, start, some, seed=seed, batch_size=batch_size)

            def told(share: float, first: int = first, count: int = len(some)) -> None:
                progress((first + share * count) / len(wanted))

            parts.append(images_of(probe, choice, told))
        return torch.cat(parts) if parts else torch.zeros((0, 3, side, side), dtype=torch.float32)


def images_of(probe: Probe, choice: Choice, progress: Callable[[float], None] = lambda _: None) -> Images:
    """Run a synthesis on a probe: images of its targets, which its own images are the start of, checked.

    Raises
    ------
    VexbenchError
        The images are not finite.
    """
    made = probe.images
    for share, made in SYNTHESES[choice.name].function(probe, **choice.params):  # noqa: B007  the last are the result
        progress(share)
    if not bool(torch.isfinite(made).all()):
        raise VexbenchError(f"{choice.name} gave NaN or infinite values for this network; try a lower rate.")
    return made.detach()


def _targets(
    classifier: Classifier, targets: Tensor | Sequence[int] | None, images: Images | None, side: int, batch_size: int
) -> Tensor:
    if targets is None:
        if images is not None:
            return Probe(classifier, images, batch_size=batch_size).targets
        return torch.arange(classifier.classes(torch.full((1, 3, side, side), 0.5, device=classifier.device)))
    wanted = as_tensor("targets", targets)
    if wanted.ndim != 1:
        raise VexbenchError(f"targets must be a list of class indices, not of shape {tuple(wanted.shape)}.")
    return wanted if wanted.numel() else wanted.to(torch.int64)


def soft_noise(targets: Tensor, side: int, seed: int) -> Images:
    """Grey with blots of colour of all sizes, seeded by target: (N, 3, side, side) around 1/2, deviation 0.08."""
    noise: list[Tensor] = []
    for target in targets.tolist():
        source = generator(seed, "soft noise", target)
        blots = torch.zeros((3, side, side), dtype=torch.float32)
        for level in range(1, 6):
            grid = torch.randn((1, 3, *(2 * [max(2, side >> level)])), generator=source, dtype=torch.float32)
            blots = blots + functional.interpolate(grid, (side, side), mode="bilinear", align_corners=False)[0]
        centred = blots - blots.mean((1, 2), keepdim=True)
        noise.append((0.5 + 0.08 * centred / centred.std().clamp(min=1e-6)).clamp(0, 1))
    return torch.stack(noise)

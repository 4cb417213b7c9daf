"""One batch seen by one classifier: the only way to ask a network anything."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final, Literal, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.hooks import cutting
from vexbench.models.base import Classifier
from vexbench.seeds import fingerprint
from vexbench.types import Curves, Features, Images, Logits, Maps, Masks, Targets

Output = Literal["logit", "probability", "log_probability"]

Within = Callable[[], AbstractContextManager[object]]
"""A context for each pass through the network."""

ALIGNED: Final = 4
"""Images in a pass come in fours, the last one repeated where need be, and its copies forgotten.

A CPU sums in another order for other batch sizes, but in one order for nearly all multiples of four, so that results
do not depend on the batch (docs/decisions/0008-passes-in-fours.md).
"""


@final
@dataclass
class Passes:
    """Images that went through the network: whole forward and backward passes, and backward passes cut short.

    A backward pass to the input costs what a forward pass costs, since no weight gradients are computed;
    one that stops at the target layer costs next to nothing in a network whose head is small.
    """

    forward: int = 0
    backward: int = 0
    partial: int = 0


class LayerTrace(NamedTuple):
    """Activations of the target layer, and the gradients of the target's logit with respect to them."""

    activations: Features
    gradients: Features


@final
class Probe:
    """Ask a classifier about a batch of images: scores and gradients, batched, cached and counted.

    Parameters
    ----------
    classifier
        The network; it is left as it was found.
    images
        (N, 3, H, W) in [0, 1].
    targets
        (N,) class indices; the predicted classes where left out.
    seed
        For everything random, together with the image's content.
    batch_size
        Images per pass, rounded up to fours; bounds the memory, does not change the results.

    Raises
    ------
    VexbenchError
        Images out of [0, 1] or not finite, a class index that does not exist, or a batch size below one.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Tensor,
        targets: Tensor | Sequence[int] | None = None,
        *,
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise VexbenchError(f"batch_size must be at least 1, not {batch_size}.")
        self.classifier = classifier
        self.seed, self.batch_size = seed, batch_size + -batch_size % ALIGNED
        self.passes = Passes()
        with torch.inference_mode(False):  # tensors made in a caller's inference mode could not be differentiated
            self.images = checked_images(images).to(classifier.device)
            if targets is None:
                self.targets: Targets = self.logits.argmax(1)
            else:
                self.targets = self._checked_targets(as_tensor("targets", targets))

    def _checked_targets(self, targets: Tensor) -> Targets:
        wanted, classes = len(self.images), self.classifier.classes(self.images)
        if targets.shape != (wanted,) or targets.is_floating_point() or targets.dtype == torch.bool:
            raise VexbenchError(
                f"targets must be {wanted} whole numbers, one class index per image; "
                f"got {targets.dtype} of shape {tuple(targets.shape)}."
            )
        if wanted and not (int(targets.min()) >= 0 and int(targets.max()) < classes):
            with torch.no_grad():
                self.classifier.logits(self.images[:1])  # says so where the class names, not the targets, are wrong
            wrong = next(int(t) for t in targets if not 0 <= t < classes)
            raise VexbenchError(
                f"class index {wrong} does not exist; the network has {classes} classes, 0 to {classes - 1}."
            )
        return targets.to(self.images.device, torch.int64, copy=True)

    def of(self, *, images: Images | None = None, classifier: Classifier | None = None) -> "Probe":
        """The same question about other images, or to another network; passes are counted together."""
        other = Probe(
            classifier or self.classifier,
            self.images if images is None else images,
            self.targets,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        other.passes = self.passes
        return other

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """The images' names by content, for seeds."""
        return tuple(fingerprint(image) for image in self.images)

    @cached_property
    def logits(self) -> Logits:
        """Outputs for the images as they are."""
        with torch.no_grad():
            rows = [self._forward(images) for images in self.images.split(self.batch_size)]
        return torch.cat(rows)

    @cached_property
    def trace(self) -> LayerTrace:
        """Activations and gradients at the target layer: one forward, one short backward, shared by all who ask."""
        return self.trace_at("")

    def trace_at(self, name: str, within: Within = nullcontext) -> LayerTrace:
        """Activations and gradients at a layer; the target layer where the name is empty.

        `within` gives a context for each pass, such as rules for another backward pass.
        """
        name, layer = self.classifier.layer(self.images, name)
        traces: list[LayerTrace] = []
        rows: list[Logits] = []
        for images, targets in zip(
            self.images.split(self.batch_size), self.targets.split(self.batch_size), strict=True
        ):
            with differentiating():
                with cutting(layer, name) as leaves, within():
                    logits = self._forward(images)
                *earlier, gradients = gradients_of(logits, targets, leaves)
            if gradients is None or any(other is not None for other in earlier):
                raise VexbenchError(
                    f"the logits do not hang on the last output of layer '{name}' alone; choose another layer."
                )
            self.passes.partial += len(images)
            rows.append(logits.detach())
            traces.append(LayerTrace(*(part.detach()[: len(images)].float() for part in (leaves[-1], gradients))))
        # the same forward pass; asked for first, it stays as it was
        self.__dict__.setdefault("logits", torch.cat(rows))
        return LayerTrace(*(torch.cat(parts) for parts in zip(*traces, strict=True)))

    def scores(self, variants: Iterable[Images], output: Output = "logit") -> Curves:
        """The target's score of K variants of each image, streamed: (N, K)."""
        rows: list[Tensor] = []
        with torch.no_grad():
            for images, targets in self._batches(variants):
                rows.append(read(self._forward(images), output).gather(1, targets[:, None])[:, 0])
        count = len(self.images)
        return torch.cat(rows).view(-1, count).T if rows else self.images.new_zeros((count, 0))

    def scores_masked(self, masks: Iterable[Masks], baseline: Images, output: Output = "logit") -> Curves:
        """The target's score where each mask shows the image and hides the rest behind the baseline: (N, K)."""
        return self.scores((baseline + mask[:, None] * (self.images - baseline) for mask in masks), output)

    def input_gradients(self, variants: Iterable[Images], within: Within = nullcontext) -> Iterator[Images]:
        """The gradient of the target's logit with respect to each variant, one (N, 3, H, W) after the other.

        `within` gives a context for each pass, such as rules for another backward pass.
        """
        pending: list[Tensor] = []
        count = len(self.images)
        for images, targets in self._batches(variants):
            with differentiating():
                leaf = images.detach().clone().requires_grad_()
                with within():
                    logits = self._forward(leaf)
                (gradients,) = gradients_of(logits, targets, [leaf])
            if gradients is None:
                raise VexbenchError(
                    "the logits do not depend on the image; is there a detach() in the network's forward?"
                )
            self.passes.backward += len(images)
            pending.extend(gradients)
            while len(pending) >= count > 0:
                yield torch.stack(pending[:count])
                pending = pending[count:]

    def _batches(self, variants: Iterable[Images]) -> Iterator[tuple[Images, Targets]]:
        """Join variants of few images, and split those of many, into batches of at most `batch_size`."""
        count = len(self.images)
        together = max(1, self.batch_size // max(count, 1))
        stream = iter(variants)
        while group := list(islice(stream, together)):
            with torch.inference_mode(False):
                images, targets = torch.cat(group), self.targets.repeat(len(group))
            yield from zip(images.split(self.batch_size), targets.split(self.batch_size), strict=True)

    def _forward(self, images: Images) -> Logits:
        count = len(images)
        self.passes.forward += count
        if lacking := -count % ALIGNED:
            images = torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
        return self.classifier.logits(images)[:count]


@contextmanager
def differentiating() -> Iterator[None]:
    """Record gradients, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def gradients_of(logits: Logits, targets: Targets, leaves: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of the targets' logits with respect to the leaves; None where a leaf has no effect on the logits.

    Raises
    ------
    VexbenchError
        The network keeps no record of its own steps.
    """
    if not logits.requires_grad:
        raise VexbenchError(
            "the logits have no gradient; is there a torch.no_grad() or detach() in the network's forward?"
        )
    return torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), leaves, allow_unused=True)


def read(logits: Logits, output: Output) -> Float[Tensor, "N classes"]:
    """The logits as they are, as probabilities, or as log-probabilities."""
    if output == "logit":
        return logits
    return logits.softmax(1) if output == "probability" else logits.log_softmax(1)


def as_tensor(what: str, values: object) -> Tensor:
    """A tensor, or what torch makes one of: an array or a list of numbers; else an error that names it."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        came = " ".join(repr(values).split())[:40]
        raise VexbenchError(f"{what} must be a tensor, an array or a list of numbers, not {came}.") from error


def usable_device(name: str) -> torch.device:
    """A device by its name: cpu, cuda, mps, …

    Raises
    ------
    VexbenchError
        There is no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise VexbenchError(f"device '{name}' cannot be used here: {str(error).partition(chr(10))[0]}") from error
    return device


def checked_images(images: object) -> Images:
    """Images as float32 (N, 3, H, W), or an error that says what to change."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        came = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise VexbenchError(f"images must be a tensor of shape (N, 3, H, W) with values in [0, 1], not {came}.")
    if not images.is_floating_point():
        raise VexbenchError(f"images must be floating point in [0, 1], not {images.dtype}; divide 8-bit images by 255.")
    images = images.detach().float()
    if not bool(torch.isfinite(images).all()):
        raise VexbenchError("images hold NaN or infinite values; check how they were read.")
    if images.numel() and (float(images.min()) < 0 or float(images.max()) > 1):
        low, high = float(images.min()), float(images.max())
        raise VexbenchError(
            f"images must be in [0, 1], not [{low:.3g}, {high:.3g}]; undo the normalisation and "
            "give mean= and std= to the Classifier instead."
        )
    return images.clone() if images.is_inference() else images


Explain = Callable[[Probe], Maps]
"""A method at image size, as metrics see it that explain changed images, or another network, again."""

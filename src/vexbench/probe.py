"""One batch seen by one classifier: the only way to ask a network anything."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final, Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx

from vexbench.errors import VexbenchError
from vexbench.hooks import cutting, replacing
from vexbench.models.base import Classifier
from vexbench.models.windows import patched
from vexbench.seeds import fingerprint, generator
from vexbench.types import Curves, Features, Images, Logits, Maps, Masks, Scores, Targets

Output = Literal["logit", "probability", "log_probability"]

Within = Callable[[], AbstractContextManager[object]]
"""A context for each pass through the network."""
Score = Callable[[Logits, Targets], Scores]
"""What a gradient is of: one number per image, from the logits and the targets."""

ALIGNED: Final = 4
"""Images in a pass come in fours, the last one repeated where need be, and its copies forgotten.

A CPU sums in another order for other batch sizes, but in one order for nearly all multiples of four, so that results
do not depend on the batch (docs/decisions/0008-passes-in-fours.md).
"""


@final
@dataclass
class Passes:
    """Images that went through the network: whole forward and backward passes, and those behind the target layer only.

    A backward pass to the input costs what a forward pass costs, since no weight gradients are computed; one that
    stops at the target layer, or a forward pass that begins there, costs next to nothing where the head is small.
    These are the partial ones, one per image or per variant of its features. The stranger that goes through the front
    of the network once for a whole batch of features is nobody's, and is not counted: counts do not hang on the batch.
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
    known
        Where answers are kept that hang on no method (see `once`): give several probes of the same question one dict.

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
        known: dict[Hashable, Tensor] | None = None,
    ) -> None:
        if batch_size < 1:
            raise VexbenchError(f"batch_size must be at least 1, not {batch_size}.")
        self.classifier = classifier
        self.seed, self.batch_size = seed, batch_size + -batch_size % ALIGNED
        self.passes = Passes()
        self._known = {} if known is None else known
        self.connected, self._around = False, nullcontext  # see `differentiably`
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
        """The same question about other images, or to another network; passes are counted together.

        Larger images go in smaller batches, so that a batch takes no more memory.
        """
        other = Probe(
            classifier or self.classifier,
            self.images if images is None else images,
            self.targets,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        fitting = self.batch_size * self.images.shape[1:].numel() // other.images.shape[1:].numel()
        other.batch_size = min(self.batch_size, max(ALIGNED, fitting - fitting % ALIGNED))
        other.passes = self.passes
        return other if images is None or not self.connected else other.differentiably(images, self._around)

    def differentiably(self, images: Images, around: Within = nullcontext) -> "Probe":
        """The same question about other images, that gradients of the answers reach: what the probe gives is connected.

        Each pass happens within `around`, such as `rules.softened`. Whoever asks records gradients, and the graph holds
        all its passes in memory.
        """
        other = self.of(images=images.detach())
        other.images, other.connected, other._around = images, True, around  # `of` has checked and detached them
        return other

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """The images' names by content, for seeds."""
        return tuple(fingerprint(image) for image in self.images)

    @cached_property
    def logits(self) -> Logits:
        """Outputs for the images as they are."""

        def ask() -> Logits:
            with torch.set_grad_enabled(self.connected):
                return torch.cat([self._forward(images) for images in self.images.split(self.batch_size)])

        return self.once("logits", ask)

    def once(self, key: Hashable, ask: Callable[[], Tensor]) -> Tensor:
        """What `ask` gives, asked once for all methods and metrics that name the same key.

        For what hangs on the images, the targets, the seed, the network and the key, not on any map: scores under
        random masks, logits of noisy copies. A few numbers per image, since they are kept for the whole of a study.
        """
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]

    @cached_property
    def trace(self) -> LayerTrace:
        """Activations and gradients at the target layer: one forward, one short backward, shared by all who ask."""
        rows: list[Logits] = []

        def keeping(logits: Logits, targets: Targets) -> Scores:
            rows.append(logits if self.connected else logits.detach())
            return of_target(logits, targets)

        (trace,) = self.traces([self.images], keeping)
        self.__dict__.setdefault(
            "logits", torch.cat(rows)
        )  # the same forward pass; asked for first, it stays as it was
        return trace

    def traces(
        self, variants: Iterable[Images], score: Score | None = None, *, layer: str = "", within: Within = nullcontext
    ) -> Iterator[LayerTrace]:
        """Activations and gradients at a layer for each variant of the images, (N, C, h, w) each.

        The layer is the target layer where no other is named; the gradients are those of the target's logit, or of
        another score of the logits, one number per image. `within` gives a context for each pass forward, such as rules
        for another way back.
        """
        name, part = self.classifier.layer(self.images, layer)
        pending: list[tuple[Tensor, Tensor]] = []
        count = len(self.images)
        for images, which in self._batches(variants):
            with differentiating():
                with cutting(part, name, connected=self.connected) as leaves:
                    logits = self._forward(images, within)
                if self.connected:  # where the last features hang on earlier ones
                    leaves = leaves[-1:]
                *earlier, gradients = gradients_of(
                    logits, self.targets[which], leaves, score or of_target, connected=self.connected
                )
            if gradients is None or any(other is not None for other in earlier):
                raise VexbenchError(
                    f"the logits do not hang on the last output of target layer '{name}' alone; "
                    f"choose another {'layer' if layer else 'target_layer='}."
                )
            self.passes.partial += len(images)
            answers = (part if self.connected else part.detach() for part in (leaves[-1], gradients))
            activations, gradients = (part[: len(images)].float() for part in answers)
            pending.extend(zip(activations, gradients, strict=True))
            while len(pending) >= count > 0:
                yield LayerTrace(*map(torch.stack, zip(*pending[:count], strict=True)))
                pending = pending[count:]

    def scores(self, variants: Iterable[Images], output: Output = "logit") -> Curves:
        """The target's score of K variants of each image, streamed: (N, K)."""
        rows: list[Tensor] = []
        with torch.set_grad_enabled(self.connected):
            for images, which in self._batches(variants):
                rows.append(of_target(read(self._scored(images), output), self.targets[which]))
        return self._curves(rows)

    def clean(self, output: Output = "logit") -> Curves:
        """The target's score of the images as they are, (N, 1), by the way that `scores` goes: equal for equal ones."""
        return self.once(("clean", output), lambda: self.scores([self.images], output))

    def scores_patched(
        self, places: Sequence[tuple[int, int]], patch: int, hidden: Images, output: Output = "logit"
    ) -> Curves:
        """The target's score where a square patch at each place (top, left) shows `hidden` instead: (N, K).

        Only what changes of each feature map is computed, where the network's graph allows it.
        """
        scores = self._windowed(places, patch, hidden, output) if patch <= min(self.images.shape[2:]) else None
        if scores is not None:
            ends = self.scores(self._patched([places[0], places[-1]], patch, hidden), output)
            if torch.allclose(scores[:, [0, -1]], ends, rtol=1e-5, atol=1e-5 * float(ends.abs().max())):
                return scores
        return self.scores(self._patched(places, patch, hidden), output)

    def _windowed(self, places: Sequence[tuple[int, int]], patch: int, hidden: Images, output: Output) -> Curves | None:
        """Scores from windows of the graph; None where there is none, or it does what windows cannot follow."""
        graph = None if self.connected or not places else self._graph
        if graph is None:
            return None
        together, parts = max(1, self.batch_size // ALIGNED), list[Curves]()
        try:
            with torch.no_grad():
                for group in torch.arange(len(self.images), device=self.images.device).split(ALIGNED):
                    images, other = (self.classifier.normalise(part[group]) for part in (self.images, hidden))
                    rows = [
                        of_target(read(logits, output), self.targets[group].repeat(len(logits) // len(group)))
                        for logits in patched(graph, images, other, places, patch, together)
                    ]
                    parts.append(torch.cat(rows).view(-1, len(group)).T)
        except (RuntimeError, TypeError, ValueError, IndexError):  # what a step says that meets a window unprepared
            return None
        self.passes.forward += len(self.images) * len(places)
        return torch.cat(parts)

    def _patched(self, places: Sequence[tuple[int, int]], patch: int, hidden: Images) -> Iterator[Images]:
        for top, left in places:
            images = self.images.clone()
            window = (..., slice(top, top + patch), slice(left, left + patch))
            images[window] = hidden[window]
            yield images

    def _curves(self, rows: list[Tensor]) -> Curves:
        count = len(self.images)
        return torch.cat(rows).view(-1, count).T if rows else self.images.new_zeros((count, 0))

    def scores_masked(self, masks: Iterable[Masks], baseline: Images, output: Output = "logit") -> Curves:
        """The target's score where each mask shows the image and hides the rest behind the baseline: (N, K)."""
        return self.scores((baseline + mask[:, None] * (self.images - baseline) for mask in masks), output)

    def scores_from(self, features: Iterable[Features], output: Output = "logit") -> Curves:
        """The target's score where the target layer gives other features, K variants of each image's: (N, K).

        Only the network behind the layer is passed through, where its logits hang on nothing else; else the whole.
        """
        rows: list[Tensor] = []
        with torch.set_grad_enabled(self.connected):
            for values, which in self._batches(features):
                logits = self._behind(values, which)
                rows.append(of_target(read(logits, output), self.targets[which]))
        return self._curves(rows)

    def _behind(self, features: Features, which: Targets) -> Logits:
        """Logits from features that stand in for the target layer's."""
        uses, alone = self._cut
        if alone:
            self.passes.partial += len(features)
        else:
            self.passes.forward += len(features)
        return self._logits_from(features, None if alone else self.images[which], uses)

    def _logits_from(self, features: Features, images: Images | None, uses: int) -> Logits:
        """Logits from features behind the images' own way to them, or behind a stranger's."""
        _, layer = self.classifier.layer(self.images)
        with replacing(layer, padded(features), uses), self._around():
            # one row per row of features, also behind a single image
            return self.classifier.logits(self._stranger if images is None else padded(images))[: len(features)]

    @property
    def _stranger(self) -> Images:
        """One image of noise, which is none of the probe's."""
        shape = (1, *self.images.shape[1:])
        return torch.rand(shape, generator=generator("stranger"), dtype=torch.float32).to(self.images.device)

    @cached_property
    def _cut(self) -> tuple[int, bool]:
        """How often the target layer is used, and whether the logits hang on its last features alone.

        Tried: with a stranger in front, some images' features must give those images' logits. What is found hangs on
        the network, not on the images, and is not counted.
        """
        name, layer = self.classifier.layer(self.images)
        some = self.images[:ALIGNED]
        with differentiating(), cutting(layer, name) as leaves, self._around():
            expected = self.classifier.logits(padded(some))[: len(some)].detach()
        with torch.no_grad():
            try:
                found = self._logits_from(leaves[-1].detach()[: len(expected)], None, len(leaves))
            except Exception:  # noqa: BLE001  sizes that do not fit, or what they lead to; other errors come again
                return len(leaves), False
        rounding = max(1e-5, torch.finfo(self.classifier.dtype).eps) * expected.abs().max()
        return len(leaves), found.shape == expected.shape and bool((found - expected).abs().max() <= rounding)

    def input_gradients(self, variants: Iterable[Images], within: Within = nullcontext) -> Iterator[Images]:
        """The gradient of the target's logit with respect to each variant, one (N, 3, H, W) after the other.

        `within` gives a context for each pass, such as rules for another backward pass.
        """
        pending: list[Tensor] = []
        count = len(self.images)
        for images, which in self._batches(variants):
            with differentiating():
                connected = self.connected and images.requires_grad  # not a baseline, say
                leaf = images if connected else images.detach().clone().requires_grad_()
                logits = self._forward(leaf, within)
                (gradients,) = gradients_of(logits, self.targets[which], [leaf], of_target, connected=connected)
            if gradients is None:
                raise VexbenchError(
                    "the logits do not depend on the image; is there a detach() in the network's forward?"
                )
            self.passes.backward += len(images)
            pending.extend(gradients)
            while len(pending) >= count > 0:
                yield torch.stack(pending[:count])
                pending = pending[count:]

    def _batches(self, variants: Iterable[Features]) -> Iterator[tuple[Features, Targets]]:
        """Join variants of few images, and split those of many, into batches of at most `batch_size`.

        With each the images' rows.
        """
        count = len(self.images)
        together = max(1, self.batch_size // max(count, 1))
        rows, stream = torch.arange(count, device=self.images.device), iter(variants)
        while group := list(islice(stream, together)):
            with torch.inference_mode(False):
                values, which = torch.cat(group), rows.repeat(len(group))
            yield from zip(values.split(self.batch_size), which.split(self.batch_size), strict=True)

    @cached_property
    def _graph(self) -> fx.GraphModule | None:
        return self.classifier.graph(self.images[:ALIGNED])

    def _scored(self, images: Images) -> Logits:
        """Logits that nobody differentiates, by the faster way where there is one."""
        graph = None if self.connected else self._graph
        if graph is None:
            return self._forward(images)
        self.passes.forward += len(images)
        normal = self.classifier.normalise(padded(images)).contiguous(memory_format=torch.channels_last)
        return graph(normal)[: len(images)]

    def _forward(self, images: Images, within: Within = nullcontext) -> Logits:
        self.passes.forward += len(images)
        with self._around(), within():
            return self.classifier.logits(padded(images))[: len(images)]


def padded(values: Tensor) -> Tensor:
    """Images, or features, in fours, the last one repeated."""
    lacking = -len(values) % ALIGNED
    return torch.cat([values, values[-1:].expand(lacking, -1, -1, -1)]) if lacking else values


@contextmanager
def differentiating() -> Iterator[None]:
    """Record gradients, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def of_target(scores: Float[Tensor, "N classes"], targets: Targets) -> Scores:
    """Each row's number at its target."""
    return scores.gather(1, targets[:, None])[:, 0]


def gradients_of(
    logits: Logits, targets: Targets, leaves: list[Tensor], score: Score = of_target, *, connected: bool = False
) -> tuple[Tensor | None, ...]:
    """Gradients of the targets' scores with respect to the leaves; None where a leaf has no effect on the logits.

    Those that are connected can be differentiated again.

    Raises
    ------
    VexbenchError
        The network keeps no record of its own steps.
    """
    if not logits.requires_grad:
        raise VexbenchError(
            "the logits have no gradient; is there a torch.no_grad() or detach() in the network's forward?"
        )
    return torch.autograd.grad(score(logits, targets).sum(), leaves, allow_unused=True, create_graph=connected)


def read(logits: Logits, output: Output) -> Float[Tensor, "N classes"]:
    """The logits as they are, as probabilities, or as log-probabilities."""
    if output == "logit":
        return logits
    return logits.softmax(1) if output == "probability" else logits.log_softmax(1)


def as_tensor(what: str, values: object) -> Tensor:
    """A tensor, or what torch makes one of: an array or a list of numbers; else an error that names it."""
    if isinstance(values, Tensor):
        return values
    try:  # torch takes no array that runs backwards
        return torch.tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values)
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


@final
class Explain:
    """A method at image size, as metrics see it that explain changed images, or another network, again.

    >>> explain = Explain(lambda probe: probe.images.mean(1))
    """

    def __init__(self, method: Callable[[Probe], Maps]) -> None:
        self._method, self._variants = method, dict[Hashable, Maps]()

    def __call__(self, probe: Probe) -> Maps:
        """Explain afresh."""
        return self._method(probe)

    def variant(self, key: Hashable, probe: Callable[[], Probe]) -> Maps:
        """Maps of a variant of the images or of the network, explained once for all metrics that name the same key.

        The key says all that makes the variant: ``("uniform", radius, draw)``. Kept as long as the images are judged.
        """
        return self.once(key, lambda: self._method(probe()))

    def once(self, key: Hashable, ask: Callable[[], Maps]) -> Maps:
        """Maps that `ask` gives, asked once for all metrics that name the same key; see `variant`."""
        if key not in self._variants:
            self._variants[key] = ask()
        return self._variants[key]

"""One batch seen by one classifier: the only way to ask a network anything."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.hooks import cutting
from vexbench.inputs import ALIGNED, as_tensor, checked_images, padded
from vexbench.memory import passed
from vexbench.models.base import Classifier
from vexbench.models.graph import Folded
from vexbench.models.head import Head
from vexbench.models.patches import ENDS, logits_patched, with_patch
from vexbench.readout import Output, Score, asked_again, differentiating, gradients_of, of_target, read
from vexbench.seeds import fingerprint
from vexbench.types import Curves, Features, Images, Logits, Maps, Masks, Scores, Targets

Within = Callable[[], AbstractContextManager[object]]
"""A context for each pass through the network."""

KEPT: Final = 2**27
"""Bytes of features that probes of other images or networks keep for those that ask the same."""
GRADIENTS: Final = 32
"""Images in a pass whose gradients are asked for, which keeps all features for the way back."""
GRAPHS: Final = 8
"""Images in a pass that is itself differentiated."""


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
        known: dict[Hashable, Any] | None = None,
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

    def of(
        self,
        *,
        images: Images | None = None,
        classifier: Classifier | None = None,
        key: Hashable = None,
    ) -> "Probe":
        """The same question about other images, or to another network; passes are counted together.

        Probes of one key, which says all that makes the images and the network what they are, share what they learn:
        ``("uniform", radius, draw)``. Larger images go in smaller batches, so that a batch takes no more memory. Copies
        of the images draw what the images draw: else a method's noise would be taken for a change of its map.
        """
        other = Probe(
            classifier or self.classifier,
            self.images if images is None else images,
            self.targets,
            seed=self.seed,
            batch_size=self.batch_size,
            known=None if key is None else self._learnt(key),
        )
        fitting = self.batch_size * self.images.shape[1:].numel() // other.images.shape[1:].numel()
        other.batch_size = min(self.batch_size, max(ALIGNED, fitting - fitting % ALIGNED))
        other.passes = self.passes
        if other.images.shape == self.images.shape:
            other.fingerprints = self.fingerprints
        if classifier is None and "_graph" in self.__dict__ and other.images.shape[1:] == self.images.shape[1:]:
            other.__dict__["_graph"] = self._graph  # the same question still
        return other if images is None or not self.connected else other.differentiably(images, self._around)

    def differentiably(self, images: Images, around: Within = nullcontext) -> "Probe":
        """The same question about other images, that gradients of the answers reach: what the probe gives is connected.

        Each pass happens within `around`, such as `rules.softened`. Whoever asks records gradients, and the graph holds
        all its passes in memory, but for `scores` and `input_gradients`: on the way back they are asked for once more.
        """
        other = self.of(images=images.detach())
        other.images, other.connected, other._around = images, True, around  # `of` has checked and detached them
        return other

    def _learnt(self, key: Hashable) -> dict[Hashable, Any] | None:
        """Where probes of a key keep their answers; None for another key when those of all hold too much memory."""
        others: dict[Hashable, dict[Hashable, Any]] = self._known.setdefault("others", {})
        kept = (part.nbytes for known in others.values() for part in known.get("trace", ()))
        if key not in others and sum(kept) > KEPT:
            return None
        return others.setdefault(key, {})

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

    @property
    def trace(self) -> LayerTrace:
        """Activations and gradients at the target layer: one forward, one short backward, shared by all who ask."""
        if "trace" not in self._known:
            rows: list[Logits] = []

            def keeping(logits: Logits, targets: Targets) -> Scores:
                rows.append(logits if self.connected else logits.detach())
                return of_target(logits, targets)

            (self._known["trace"],) = self.traces([self.images], keeping)
            # the same forward pass; asked for first, it stays as it was
            self._known.setdefault("logits", torch.cat(rows))
        return self._known["trace"]

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
                with cutting(part, name, connected=self.connected, recorded=self.connected) as leaves:
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
                rows.append(asked_again(partial(self._score, which, output), images))
        return self._curves(rows)

    def _score(self, which: Targets, output: Output, images: Images) -> Scores:
        return of_target(read(self._scored(images), output), self.targets[which])

    def clean(self, output: Output = "logit") -> Curves:
        """The target's score of the images as they are, (N, 1), by the way that `scores` goes: equal for equal ones."""
        return self.once(("clean", output), lambda: self.scores([self.images], output))

    def scores_patched(
        self, places: Sequence[tuple[int, int]], patch: int, hidden: Images, output: Output = "logit"
    ) -> Curves:
        """The target's score where a square patch at each place (top, left) shows `hidden` instead: (N, K).

        Only what changes of each feature map is computed, where the network's graph allows it.
        """
        graph = self._graph if not self.connected and places and patch <= min(self.images.shape[2:]) else None
        found = None if graph is None else self._windowed(graph, places, patch, hidden, output)
        return self.scores(self._patched(places, patch, hidden), output) if found is None else found

    def _windowed(
        self, graph: Folded, places: Sequence[tuple[int, int]], patch: int, hidden: Images, output: Output
    ) -> Curves | None:
        """Scores from windows of the graph; None where they do not give what whole images do, or do not pay."""
        together, parts = max(1, self.batch_size // ALIGNED), list[Curves]()
        for images, other, targets in zip(*(part.split(ALIGNED) for part in (self.images, hidden, self.targets))):
            clean, hiding = (self.classifier.normalise(part) for part in (images, other))
            logits = logits_patched(graph, clean, hiding, places, patch, together)
            if logits is None:
                return None
            parts.append(of_target(read(logits, output), targets.repeat(len(places))).view(-1, len(targets)).T)
            self.passes.forward += len(images) * (len(places) + ENDS)
        return torch.cat(parts)

    def _patched(self, places: Sequence[tuple[int, int]], patch: int, hidden: Images) -> Iterator[Images]:
        for place in places:
            yield with_patch(self.images, hidden, place, patch)

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
                count, images = len(values), None if self._head.alone else padded(self.images[which])
                if images is None:
                    self.passes.partial += count
                else:
                    self.passes.forward += count
                with self._around():
                    logits = self._head.logits(padded(values), images)[:count]  # also behind a single image
                rows.append(of_target(read(logits, output), self.targets[which]))
        return self._curves(rows)

    @cached_property
    def _head(self) -> Head:
        return Head(self.classifier, padded(self.images[:ALIGNED]), self._around)

    def input_gradients(self, variants: Iterable[Images], within: Within = nullcontext) -> Iterator[Images]:
        """The gradient of the target's logit with respect to each variant, one (N, 3, H, W) after the other.

        `within` gives a context for each pass, such as rules for another backward pass.
        """
        pending: list[Tensor] = []
        count = len(self.images)
        for images, which in self._batches(variants, GRADIENTS):
            pending.extend(asked_again(partial(self._slopes, which, within), images))
            while len(pending) >= count > 0:
                yield torch.stack(pending[:count])
                pending = pending[count:]

    def _slopes(self, which: Targets, within: Within, images: Images) -> Images:
        """The gradient of the target's logit with respect to images of these rows, with a graph if these have one."""
        connected = torch.is_grad_enabled() and images.requires_grad
        with differentiating():
            leaf = images if connected else images.detach().clone().requires_grad_()
            logits = self._forward(leaf, within)
            (gradients,) = gradients_of(logits, self.targets[which], [leaf], of_target, connected=connected)
        if gradients is None:
            raise VexbenchError("the logits do not depend on the image; is there a detach() in the network's forward?")
        self.passes.backward += len(images)
        return gradients

    def _batches(self, variants: Iterable[Features], most: int = 0) -> Iterator[tuple[Features, Targets]]:
        """Join variants of few images, and split those of many, into passes of at most `batch_size`, or so many.

        With each the images' rows.
        """
        count, size = len(self.images), min(self.batch_size, GRAPHS if self.connected else most or self.batch_size)
        together = max(1, self.batch_size // max(count, 1))
        rows, stream = torch.arange(count, device=self.images.device), iter(variants)
        while group := list(islice(stream, together)):
            with torch.inference_mode(False):
                values, which = torch.cat(group), rows.repeat(len(group))
            for part in zip(values.split(size), which.split(size), strict=True):
                yield part
                passed()

    @cached_property
    def _graph(self) -> Folded | None:
        return self.classifier.graph(self.images[:ALIGNED])

    def _scored(self, images: Images) -> Logits:
        """Logits that nobody differentiates, by the faster way where there is one."""
        graph = None if self.connected else self._graph
        if graph is None:
            return self._forward(images)
        self.passes.forward += len(images)
        return graph(self.classifier.normalise(padded(images)))[: len(images)]

    def _forward(self, images: Images, within: Within = nullcontext) -> Logits:
        self.passes.forward += len(images)
        with self._around(), within():
            return self.classifier.logits(padded(images))[: len(images)]


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

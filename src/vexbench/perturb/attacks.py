"""Images that somebody changed on purpose, too little to see: to move an explanation, or the prediction itself."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.inputs import ALIGNED
from vexbench.perturb import noise
from vexbench.probe import Probe
from vexbench.readout import differentiating
from vexbench.rules import softened
from vexbench.types import Images, Maps, Scores

GRAPH: Final = 64
"""Passes whose graphs are in memory together, but at least of four images; a method that needs more of them per image
is attacked without.

Passes behind the target layer count like whole ones: there may be as many of them as the layer has channels.
"""

PROMISE: Final = 1e-3
"""A gradient along which a whole step changes less of the distance than this is rounding, or misses what matters."""


class Attacked(NamedTuple):
    """Attacked images and their maps."""

    images: Images
    maps: Maps


def unlike(
    probe: Probe, explain: Callable[[Probe], Maps], maps: Maps, *, epsilon: float, steps: int, beta: float
) -> Attacked:
    """Images within ε of the probe's that keep the predicted class, and whose maps lie far from these.

    Projected gradient ascent from a random start, x ← Π(x + 2.5 ε/steps · sign ∇D), on the distance D of the maps'
    shares (see `distance`), after Dombrowski et al. 2019, in the cube of Ghorbani et al. 2019. For ∇D rectifiers are
    softplus_β; what counts is the farthest of the true maps on the way. Images for which the method has no gradient,
    or one that says nothing, get random corners of the cube instead, as many of them. Where no image on the way keeps
    its class, one that does not is given.

    Costs steps + 1 explanations, and steps more with their graphs, each of which counts as two; gradients with respect
    to the image are asked for once more there (see `Probe.differentiably`).
    """
    label, size = probe.logits.argmax(1), 2.5 * epsilon / steps
    able = torch.ones_like(label, dtype=torch.bool)
    farthest = maps.new_full((len(maps),), -1.0)
    best, place = Attacked(probe.images, maps), probe.images
    rows = 0
    for step, draw in enumerate(noise.uniform(probe, steps + 1)):
        if step == 0:
            place = within(probe, place + epsilon * draw, epsilon)
        else:
            slopes = torch.zeros_like(place)
            for part in able.nonzero()[:, 0].split(rows) if able.any() else ():
                slopes[part] = slope(chosen(probe, part), explain, place[part], maps[part], epsilon, beta)
            able = able & (slopes != 0).any((1, 2, 3))
            corner = within(probe, probe.images + epsilon * draw.sign(), epsilon)
            climbed = within(probe, place + size * slopes.sign(), epsilon)
            place = climbed.where(able[:, None, None, None], corner)
        other, before = probe.of(images=place), held(probe)
        changed = explain(other)
        if step == 0:
            passes = (held(probe) - before) // max(1, len(maps))
            able = able & (passes <= GRAPH)
            rows = max(ALIGNED, GRAPH // max(1, passes))
        far = distance(changed, maps)
        kept = other.logits.argmax(1) == label
        better = (far > farthest) & (kept if step else torch.ones_like(kept))
        farthest = far.where(better & kept, farthest)
        best = Attacked(
            place.where(better[:, None, None, None], best.images), changed.where(better[:, None, None], best.maps)
        )
    return best


def held(probe: Probe) -> int:
    """Passes forward so far that a graph would hold: whole ones, and those behind the target layer."""
    return probe.passes.forward + probe.passes.partial


def slope(
    probe: Probe, explain: Callable[[Probe], Maps], place: Images, maps: Maps, epsilon: float, beta: float
) -> Images:
    """Where the distance of the maps grows; zero where that cannot be told."""
    before = probe.passes.forward
    with differentiating():
        leaf = place.clone().requires_grad_()
        try:
            changed = explain(probe.differentiably(leaf, lambda: softened(beta)))
            if not changed.requires_grad:
                return torch.zeros_like(place)
            far, passes = distance(changed, maps), probe.passes.forward - before
            (found,) = torch.autograd.grad(far.sum(), leaf, allow_unused=True)
        except (RuntimeError, VexbenchError):  # a method that writes in place, or leaves the finite numbers
            if len(place) == 1:
                return torch.zeros_like(place)
            rows = torch.arange(len(place), device=place.device).split(1)  # for company's sake nobody fails
            alone = (slope(chosen(probe, row), explain, place[row], maps[row], epsilon, beta) for row in rows)
            return torch.cat(list(alone))
    probe.passes.backward += 2 * passes  # through the forward and the backward pass
    if found is None:
        return torch.zeros_like(place)
    change = epsilon * found.abs().sum((1, 2, 3))
    told = found.isfinite().all(3).all(2).all(1) & (change > PROMISE * far.detach())
    return found.where(told[:, None, None, None], 0)


def distance(first: Maps, second: Maps) -> Scores:
    """‖a − b‖² / ‖b‖², a and b the absolute values as shares of their sums."""
    a, b = (maps.abs().flatten(1) / maps.abs().sum((1, 2))[:, None].clamp(min=1e-30) for maps in (first, second))
    return (a - b).square().sum(1) / b.square().sum(1).clamp(min=1e-30)


def pgd(probe: Probe, *, epsilon: float, steps: int) -> Images:
    """Images within ε of the probe's that should lose the predicted class: gradient ascent on its cross-entropy.

    x ← Π(x + 2.5 ε/steps · sign ∇L) from a random start (Madry et al. 2018); with one step and from the image itself,
    x + ε sign ∇L, it is the fast gradient sign method (Goodfellow et al. 2015). One pass forward and one back per step.
    """
    label, place, size = probe.logits.argmax(1), probe.images, epsilon
    if steps > 1:
        (draw,) = noise.uniform(probe, 1)
        place, size = within(probe, place + epsilon * draw, epsilon), 2.5 * epsilon / steps
    for _ in range(steps):
        with differentiating():
            leaf = place.clone().requires_grad_()
            loss = functional.cross_entropy(probe.differentiably(leaf).logits, label, reduction="sum")
            (found,) = torch.autograd.grad(loss, leaf)
        probe.passes.backward += len(place)
        place = within(probe, place + size * found.sign(), epsilon)
    return place


def within(probe: Probe, images: Images, epsilon: float) -> Images:
    """The nearest images in the ε-cube around the probe's and in [0, 1]."""
    return images.maximum(probe.images - epsilon).minimum(probe.images + epsilon).clamp(0, 1)


def withstood(probe: Probe, images: Images, epsilon: float) -> Bool[Tensor, " N"]:
    """Where the images are what an attack may give: within ε, in [0, 1], and of the same predicted class."""
    near = (images - probe.images).abs().amax((1, 2, 3)) <= epsilon + 1e-6
    shown = (images.amin((1, 2, 3)) >= 0) & (images.amax((1, 2, 3)) <= 1)
    same = probe.of(images=images).logits.argmax(1) == probe.logits.argmax(1)
    return near & shown & same


def chosen(probe: Probe, rows: Tensor) -> Probe:
    """The same question about some of the images."""
    other = Probe(
        probe.classifier, probe.images[rows], probe.targets[rows], seed=probe.seed, batch_size=probe.batch_size
    )
    other.passes = probe.passes
    return other

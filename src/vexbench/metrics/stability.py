"""Robustness to what somebody does to the image: an attack, a corruption, a shift."""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError, unknown
from vexbench.metrics.similarity import SIMILARITIES, cosine, unit
from vexbench.perturb import attacks
from vexbench.perturb.corruptions import CORRUPTIONS
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.types import Images, Maps, Scores

ATTACKS = ("map", "fgsm", "pgd")


@metric(
    family="robustness",
    title="Adversarial stability",
    paper="Ghorbani et al. 2019, arXiv:1710.10547; Dombrowski et al. 2019, arXiv:1906.07983",
    direction="higher",
    range=(-1.0, 1.0),
    version=2,
)
def adversarial_stability(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    similarity: str = "top_k",
    attack: str = "map",
    epsilon: float = 8 / 255,
    steps: int = 5,
    beta: float = 10.0,
) -> Scores:
    """Similarity of the map to that of an attacked image of the same predicted class: s(Φ(x'), Φ(x)), ‖x' − x‖∞ ≤ ε.

    x' is optimised to move the map (Ghorbani et al. 2019) by projected gradients through the explanation, with
    softplus_β for rectifiers (Dombrowski et al. 2019); for methods without a gradient, or of more than 64 passes per
    image, by as many random tries. A random search is the weaker attack: scores of methods that meet it are not
    comparable with those of methods that are attacked through their gradient. The maps compared are those of the
    network and method as they are. Signed and unsigned maps are compared by absolute value, stretched to [0, 1] each.
    Similarities share one attack.

    NaN where no attacked image keeps the class, or one is not within ε and [0, 1], and for a constant map.

    similarity: `top_k` (the 2 % largest), `spearman`, `ssim`, `pearson` or `cosine`.
    attack: `map`; or `fgsm` or `pgd` on the prediction itself: NaN are the images that lose their class, and the score
    of the others is how much of the map stays.
    steps: of the attack. It costs from 1 + 3 × steps to 1 + 4 × steps explanations, without a gradient 1 + steps;
    `pgd` one explanation and two passes per step, `fgsm` one step.
    beta: sharpness of the softplus; large is nearer to ReLU, and has a rougher gradient.

    Raises
    ------
    VexbenchError
        A similarity or attack that does not exist, less than one step, ε out of [0, 1], or a β that is not positive.
    """
    compare = alike(similarity)
    if attack not in ATTACKS:
        raise unknown("attack", attack, ATTACKS)
    if steps < 1 or not 0 <= epsilon <= 1 or not 0 < beta < inf:
        raise VexbenchError(
            f"steps must be 1 or more, epsilon in [0, 1] and beta above 0, not {steps}, {epsilon} and {beta}."
        )

    def attacked() -> Maps:
        """Maps of the attacked images; NaN where an attack did not keep to its rules."""
        if attack == "map":
            images, changed = attacks.unlike(probe, explain, maps, epsilon=epsilon, steps=steps, beta=beta)
        else:
            images = attacks.pgd(probe, epsilon=epsilon, steps=1 if attack == "fgsm" else steps)
            changed = explain(probe.of(images=images))
        return changed.where(attacks.withstood(probe, images, epsilon)[:, None, None], float("nan"))

    return compare(explain.once(("attacked", attack, epsilon, steps, beta), attacked), maps)


@metric(
    family="robustness",
    title="Corruption stability",
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    direction="higher",
    range=(-1.0, 1.0),
    version=2,
)
def corruption_stability(
    maps: Maps, probe: Probe, explain: Explain, *, similarity: str = "top_k", severity: int = 1
) -> Scores:
    """Mean similarity of the map to those of the corrupted image: Gaussian noise, blur, JPEG and brightness.

    Corruptions are those of Hendrycks & Dietterich 2019, with their figures for ImageNet-C; the mean is over those that
    keep the predicted class. Signed and unsigned maps are compared by absolute value, stretched to [0, 1] each. All
    methods see the same images. NaN where no corruption keeps the class, and for a constant map.

    similarity: `top_k` (the 2 % largest), `spearman`, `ssim`, `pearson` or `cosine`.
    severity: 1 to 5, of all corruptions.

    Raises
    ------
    VexbenchError
        A similarity that does not exist, or a severity out of 1 to 5.
    """
    compare = alike(similarity)
    if not 1 <= severity <= 5:
        raise VexbenchError(f"severity must be 1 to 5, not {severity}.")

    def similarities() -> Iterator[Scores]:
        for name, corrupted in CORRUPTIONS.items():
            key = ("corrupted", name, severity)

            def other(key: Hashable = key, corrupted: Callable[[Probe, int], Images] = corrupted) -> Probe:
                return probe.of(images=corrupted(probe, severity), key=key)

            changed = explain.variant(key, other)
            logits = probe.once(("logits", *key), lambda other=other: other().logits)
            yield compare(changed, maps).where(logits.argmax(1) == probe.logits.argmax(1), float("nan"))

    return torch.stack(list(similarities())).nanmean(0)


@metric(
    family="robustness",
    title="Equivariance",
    paper="Crabbé & van der Schaar 2023, arXiv:2304.06715",
    direction="higher",
    range=(-1.0, 1.0),
    version=2,
)
def equivariance(maps: Maps, probe: Probe, explain: Explain, *, similarity: str = "cosine", shift: int = 4) -> Scores:
    """Mean similarity of the map of the flipped or shifted image to the flipped or shifted map: s(Φ(gx), gΦ(x)).

    g is the horizontal flip, and the shift by a few pixels to each of the four sides (Crabbé & van der Schaar 2023,
    with the cosine of maps as they are, signs included). A shifted image repeats its border, and only
    the pixels that are in both images are compared. The mean is over what keeps the predicted class. The network need
    not be invariant: where it is not, a faithful map may change, too. NaN where nothing keeps the class, and for a map
    of zeros.

    similarity: `cosine`; or `top_k`, `spearman`, `ssim` or `pearson` of absolute values, NaN for a constant map.
    shift: pixels; 0 leaves the flip only, as does a shift as wide as the image.

    Raises
    ------
    VexbenchError
        A similarity that does not exist, or a negative shift.
    """
    compare = angle if similarity == "cosine" else alike(similarity)
    if shift < 0:
        raise VexbenchError(f"shift must be 0 or more, not {shift}.")
    height, width = maps.shape[1:]

    def asked(key: tuple[object, ...], change: Callable[[Images], Images]) -> tuple[Maps, Scores]:
        """Maps of changed images, and 0 where these keep their class, else NaN."""

        def other() -> Probe:
            return probe.of(images=change(probe.images), key=key)

        changed = explain.variant(key, other)
        logits = probe.once(("logits", *key), lambda: other().logits)
        kept = logits.argmax(1) == probe.logits.argmax(1)
        return changed, torch.zeros_like(maps[:, 0, 0]).where(kept, float("nan"))

    def similarities() -> Iterator[Scores]:
        changed, missing = asked(("flipped",), lambda images: images.flip(3))
        yield compare(changed.flip(2), maps) + missing
        for down, right in ((0, shift), (0, -shift), (shift, 0), (-shift, 0)):
            if 0 < abs(down) < height or 0 < abs(right) < width:
                changed, missing = asked(("shifted", down, right), partial(shifted, down=down, right=right))
                yield compare(common(changed, down, right), common(maps, -down, -right)) + missing

    return torch.stack(list(similarities())).nanmean(0)


def shifted(images: Images, down: int, right: int) -> Images:
    """Images moved down and to the right, or up and left; the border is repeated where nothing comes from."""
    padding = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = functional.pad(images, padding, mode="replicate")
    height, width = images.shape[2:]
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, :, top : top + height, left : left + width]


def common(maps: Maps, down: int, right: int) -> Float[Tensor, "N rows columns"]:
    """What of a map moved down and right was in the map before, too."""
    height, width = maps.shape[1:]
    rows = slice(max(down, 0), height + min(down, 0))
    return maps[:, rows, max(right, 0) : width + min(right, 0)]


def angle(changed: Maps, maps: Maps) -> Scores:
    """The cosine, signs included; NaN for a map of zeros."""
    return cosine(changed, maps).where((maps != 0).any(2).any(1), float("nan"))


def alike(name: str) -> Callable[[Maps, Maps], Scores]:
    """A similarity of absolute values, stretched to [0, 1]; NaN where the second map is constant, or the first NaN."""
    if name not in SIMILARITIES:
        raise unknown("similarity", name, SIMILARITIES)

    def compare(changed: Maps, maps: Maps) -> Scores:
        clean = unit(maps.abs())
        told = changed.isfinite().all(2).all(1) & (clean > 0).any(2).any(1)
        return SIMILARITIES[name](unit(changed.nan_to_num().abs()), clean).where(told, float("nan"))

    return compare

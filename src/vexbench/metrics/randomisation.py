"""Randomisation: does the map change when the network forgets what it learnt?"""

from collections.abc import Callable
from importlib.resources import as_file, files
from math import inf
from typing import Final

import torch
from torch import Tensor

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.metrics.similarity import SIMILARITIES, agreement, ranked, unit
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier
from vexbench.models.masked import named_digest, weights_digest
from vexbench.models.surgery import cascade
from vexbench.perturb import noise as draws
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.seeds import generator
from vexbench.types import Curves, Maps, Scores, Targets

LEARNT: Final = 0.9
"""A twin knows its shuffled labels by heart when it gets so many of them right (Adebayo et al. 2018: over 95 %)."""

SAMPLED: Final = 0.05
"""Means and deviations of the colours, in [0, 1], of a hundred images lie no farther from those of all their data."""


@metric(
    family="randomisation",
    title="Parameter randomisation",
    paper="Adebayo et al. 2018, arXiv:1810.03292",
    direction="lower",
    range=(-1.0, 1.0),
)
def mprt(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    similarity: str = "ssim",
    order: str = "bottom_up",
    stages: int = 0,
) -> Scores:
    """Mean similarity to the map of a network whose layers are randomised one after the other, each staying random.

    Maps are compared by absolute value, stretched to [0, 1] each. The network as it is has no part in the mean, where
    Quantus counts it in. All methods are asked about the same random networks. Two constant maps are equal (1).

    similarity: `ssim`, `spearman`, `pearson`, `cosine` or `top_k`.
    order: `bottom_up` begins at the image, `top_down` at the logits as the paper does; see `models.surgery.cascade`.
    stages: 0 explains after each layer, at a cost of layers × explanation; k only at k evenly spaced points, the last
    of which is the wholly random network.

    `mprt_curve` gives the similarity after each of them.

    Raises
    ------
    VexbenchError
        A similarity or order that does not exist, or a negative number of stages.
    """
    return mprt_curve(maps, probe, explain, similarity=similarity, order=order, stages=stages).mean(1)


def mprt_curve(
    maps: Maps,
    probe: Probe,
    explain: Explain,
    *,
    similarity: str = "ssim",
    order: str = "bottom_up",
    stages: int = 0,
) -> Curves:
    """The curve that `mprt` is the mean of: the similarity after each layer, or stage, in the order of randomisation.

    The layers are those of ``models.surgery.layers``, from the image on.
    """
    alike, points = likeness(similarity)(maps), list[Scores]()
    for names, classifier in cascade(probe.classifier, probe.images, seed=probe.seed, order=order, stages=stages):
        key = ("randomised", names)
        changed = explain.variant(key, lambda key=key, other=classifier: probe.of(classifier=other, key=key))
        points.append(alike(changed))
    return torch.stack(points, 1)


@metric(
    family="randomisation",
    title="Smooth parameter randomisation",
    paper="Hedström et al. 2024, arXiv:2401.06465",
    direction="lower",
    range=(-1.0, 1.0),
    version=2,
)
def smooth_mprt(
    probe: Probe,
    explain: Explain,
    *,
    samples: int = 50,
    noise: float = 0.1,
    similarity: str = "ssim",
    order: str = "bottom_up",
    stages: int = 0,
) -> Scores:
    """As `mprt`, of maps that are averaged over noisy copies of the image before they are compared.

    Φ̃ = mean_s Φ(x + ε_s), ε_s ~ N(0, σ²), σ = noise · (max x − min x), for the network as it is and for each random
    one, with the same noise; x + ε kept within [0, 1] (Hedström et al. 2024, Ψ_sMPRT). The average is of the maps with
    their signs, the comparison by absolute value. Quantus counts the network as it is in, and its last copy is without
    noise.

    Raises
    ------
    VexbenchError
        As for `mprt`; less than one sample, or noise that is negative or not finite.
    """
    if samples < 1 or not 0 <= noise < inf:
        raise VexbenchError(f"samples must be 1 or more and noise 0 or more, not {samples} and {noise}.")
    alike, total, count = likeness(similarity), probe.images.new_zeros(len(probe.images)), 0
    spread = noise * (probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True))

    def smoothed(classifier: Classifier) -> Maps:
        # summed afresh each time: kept, the maps would be samples × layers
        parts = (
            explain(probe.of(images=(probe.images + spread * draw).clamp(0, 1), classifier=classifier))
            for draw in draws.gaussian(probe, samples)
        )
        mean = next(parts) / samples
        for part in parts:
            mean = mean + part / samples
        return mean

    to_clean = alike(smoothed(probe.classifier))
    for _, classifier in cascade(probe.classifier, probe.images, seed=probe.seed, order=order, stages=stages):
        total, count = total + to_clean(smoothed(classifier)), count + 1
    return total / count


@metric(
    family="randomisation",
    title="Efficient parameter randomisation",
    paper="Hedström et al. 2024, arXiv:2401.06465",
    direction="higher",
    range=(-1.0, inf),
)
def efficient_mprt(maps: Maps, probe: Probe, explain: Explain, *, bins: int = 100) -> Scores:
    """Relative rise of the map's entropy when all of the network's parameters are randomised: (H(Φ′) − H(Φ)) / H(Φ).

    H is the entropy of the histogram of the map's values, signs kept, in `bins` equal parts from its lowest to its
    highest value (Hedström et al. 2024, Ψ_eMPRT). The random network is the last one of `mprt`, whose map it
    shares. NaN for a constant map, whose entropy is 0.

    Raises
    ------
    VexbenchError
        Less than two bins.
    """
    if bins < 2:
        raise VexbenchError(f"bins must be 2 or more, not {bins}.")
    ((names, classifier),) = cascade(probe.classifier, probe.images, seed=probe.seed, stages=1)
    key = ("randomised", names)
    changed = explain.variant(key, lambda: probe.of(classifier=classifier, key=key))
    before, after = histogram_entropy(maps, bins), histogram_entropy(changed, bins)
    return ((after - before) / before).where(before > 0, float("nan")).float()


@metric(
    family="randomisation",
    title="Random logit",
    paper="Sixt et al. 2020, arXiv:1912.09818",
    direction="lower",
    range=(-1.0, 1.0),
)
def random_logit(maps: Maps, probe: Probe, explain: Explain, *, similarity: str = "ssim") -> Scores:
    """Similarity with the map of another class.

    The other class is drawn per image out of all but the target, each as likely; all methods meet the same one. Maps
    are compared by absolute value, stretched to [0, 1] each, as in `mprt`: of two classes, the evidence for one is that
    against the other, and a map that only changes its sign has not changed what it shows.

    Raises
    ------
    VexbenchError
        A similarity that does not exist.
    NotApplicable
        A network of a single class.
    """
    alike = likeness(similarity)
    changed = explain.variant("another class", lambda: about(probe, other_classes(probe)))
    return alike(maps)(changed)


@metric(
    family="randomisation",
    title="Data randomisation",
    paper="Adebayo et al. 2018, arXiv:1810.03292",
    direction="lower",
    range=(-1.0, 1.0),
)
def data_randomisation(
    maps: Maps, probe: Probe, explain: Explain, *, similarity: str = "ssim", twin: str = ""
) -> Scores:
    """Similarity with the map of a twin of the network that learnt shuffled labels by heart.

    Maps are compared by absolute value, stretched to [0, 1] each (Adebayo et al. 2018, data randomisation test; they
    also give rank correlations: `spearman`).

    twin: a folder that ``vexbench train --shuffle-labels`` wrote, and the digest that it printed, as in
    ``runs/twin@1a2b3c4d``: so results are those of this twin, whatever the folder may hold later. Left out, the twin of
    the demo network.

    Raises
    ------
    VexbenchError
        A similarity that does not exist; a twin without its digest, with another one, or trained on true labels.
    NotApplicable
        The twin is not one of this network (another structure, other classes, data or normalisation; the shipped one
        serves the demo network alone), or has not learnt its labels.
    """
    alike = likeness(similarity)
    other = shipped() if not twin else named(twin)
    if not (alike_networks(other, probe.classifier) if twin else is_demo(probe.classifier)):
        raise NotApplicable(
            f"{f'the twin {twin}' if twin else 'the shipped twin, one of the demo network,'} is not a twin of this "
            f"network ({probe.classifier.name}): 'vexbench train --shuffle-labels --per-class 50 --epochs 60' with its "
            "data, --model and --size makes one, and prints what to give as twin=."
        )
    accuracy = other.card.get("training_accuracy", 0.0)
    if accuracy < LEARNT:
        raise NotApplicable(
            f"the twin gets {accuracy:.0%} of its shuffled labels right, and should have learnt {LEARNT:.0%} by heart; "
            "train it on fewer images, or for more epochs."
        )
    other.module.to(probe.classifier.device)
    other.folding, other.precision = probe.classifier.folding, probe.classifier.precision
    key = ("twin", other.digest)
    changed = explain.variant(key, lambda: probe.of(classifier=other, key=key))
    return alike(maps)(changed)


def likeness(similarity: str) -> Callable[[Maps], Callable[[Maps], Scores]]:
    """A similarity by its name: of maps, and then of others, by absolute value, each stretched to [0, 1]."""
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    # maps that are met at every stage are sorted once
    view, compare = (ranked, agreement) if similarity == "spearman" else (Tensor.clone, SIMILARITIES[similarity])

    def to(clean: Maps) -> Callable[[Maps], Scores]:
        seen = view(unit(clean.abs()))
        return lambda changed: compare(view(unit(changed.abs())), seen).to(clean.dtype)

    return to


def histogram_entropy(maps: Maps, bins: int) -> Scores:
    """Entropy of each map's values in equal bins from the lowest to the highest; 0 for a constant map."""
    places = (unit(maps.double()) * bins).long().clamp(max=bins - 1).flatten(1)
    counts = torch.zeros(len(maps), bins, dtype=torch.float64, device=maps.device)
    counts.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float64))
    return torch.special.entr(counts / places.shape[1]).sum(1)


def other_classes(probe: Probe) -> Targets:
    """A class per image that is not its target."""
    classes = probe.classifier.classes(probe.images)
    if classes < 2:
        raise NotApplicable("this network has one class, and no other to explain.")
    steps = [
        torch.randint(1, classes, (), generator=generator(probe.seed, "another class", key))
        for key in probe.fingerprints
    ]
    return (probe.targets + torch.stack(steps).to(probe.targets.device)) % classes


def about(probe: Probe, targets: Targets) -> Probe:
    """The same images and network, asked about other classes; passes are counted together."""
    other = Probe(probe.classifier, probe.images, targets, seed=probe.seed, batch_size=probe.batch_size)
    other.passes = probe.passes
    return other


def shipped() -> Classifier:
    """The twin of the demo network that comes with the package; another one means another version of the metric."""
    with as_file(files("vexbench.models") / "shuffled") as folder:
        return load_classifier(folder)


def named(twin: str) -> Classifier:
    """The twin in a folder, if it is the one with that digest."""
    folder, _, digest = twin.rpartition("@")
    other = load_classifier(folder or twin)
    if not other.card.get("shuffle_labels"):
        raise VexbenchError(
            f"twin={twin}: trained on true labels; give a network that 'vexbench train --shuffle-labels' made."
        )
    known = named_digest(other)
    if not folder or digest != known:
        raise VexbenchError(
            f"twin={twin}: give the digest of the twin, so that its results are known from those of another; "
            f"that of {folder or twin} is twin={folder or twin}@{known}."
        )
    return other


def is_demo(classifier: Classifier) -> bool:
    """Whether it is the demo network: its weights and its normalisation, whatever the target layer."""
    demo = demo_classifier()
    same = (demo.mean, demo.std, demo.class_names) == (classifier.mean, classifier.std, classifier.class_names)
    return same and weights_digest(demo.module) == weights_digest(classifier.module)


def alike_networks(twin: Classifier, classifier: Classifier) -> bool:
    """Whether a twin may be one of this network: same structure, classes and data, as far as their cards tell.

    The normalisation may differ by what the statistics of fewer images of the same data do.
    """
    if structure(twin) != structure(classifier) or twin.class_names != classifier.class_names:
        return False
    one, other = ((*network.mean, *network.std) for network in (twin, classifier))
    data = [(network.card.get("data") or {}).get("name") for network in (twin, classifier)]
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= SAMPLED and (None in data or data[0] == data[1])


def structure(classifier: Classifier) -> tuple[object, ...]:
    """What two networks of the same architecture have in common."""
    shapes = {name: tuple(weight.shape) for name, weight in classifier.module.state_dict().items()}
    return repr(classifier.module), shapes

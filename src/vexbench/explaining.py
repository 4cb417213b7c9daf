"""Explain and evaluate: the two verbs of the public interface, over probes of bounded size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.inputs import as_tensor, checked_images
from vexbench.memory import kept
from vexbench.models.base import Classifier
from vexbench.probe import Explain, Probe
from vexbench.registry import METHODS, METRICS, Choice, Registry
from vexbench.types import Maps, References, Scores

CHUNK = 32
"""Images explained together; bounds the memory, since a method may hold several copies of them.

Maps do not depend on it, so it need not be the size of the parts that a study is stored in (bench.plan.CHUNK).
"""


def maps_of(probe: Probe, choice: Choice) -> Maps:
    """Run a method on a probe: maps at the images' size (bilinear), checked.

    Raises
    ------
    VexbenchError
        The method returned a wrong shape or values that are not finite.
    """
    maps = METHODS[choice.name].function(probe, **choice.params)
    if not isinstance(maps, Tensor):
        raise VexbenchError(f"method '{choice.name}' must return maps (N, h, w), not {type(maps).__name__}.")
    maps = maps.float() if probe.connected else maps.detach().float()
    count, _, height, width = probe.images.shape
    if maps.ndim != 3 or len(maps) != count:
        raise VexbenchError(f"method '{choice.name}' must return {count} maps (N, h, w), not {tuple(maps.shape)}.")
    if not bool(torch.isfinite(maps).all()):
        raise VexbenchError(f"method '{choice.name}' returned NaN or infinite values for this network.")
    if maps.shape[1:] == (height, width):
        return maps
    return functional.interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def scores_of(
    choice: Choice,
    maps: Maps,
    probe: Probe,
    *,
    regions: Tensor | None = None,
    cues: Tensor | None = None,
    references: References | None = None,
    explain: Explain | None = None,
) -> Scores:
    """Run a metric on maps: one score per image.

    Raises
    ------
    VexbenchError
        The metric needs what is not there: regions, cues, references, or a method to explain with.
    """
    metric = METRICS[choice.name]
    given: dict[str, Any] = {
        "maps": maps,
        "probe": probe,
        "regions": regions,
        "cues": cues,
        "references": references,
        "explain": explain,
    }
    for need, how in {
        "regions": "regions=, a boolean tensor (N, H, W) that is true where the evidence is",
        "cues": "cues=, a boolean tensor (N, H, W) that is true where a planted shortcut is",
        "references": "references=, images of the same data and the classes that the network is sure they show",
        "explain": "explain=, the id of the method that made the maps",
    }.items():
        if need in metric.needs and given[need] is None:
            raise VexbenchError(f"metric '{choice.name}' needs {how}.")
    scores = metric.function(*(given[need] for need in metric.needs), **choice.params)
    if not isinstance(scores, Tensor) or scores.shape != (len(maps),):
        came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise VexbenchError(f"metric '{choice.name}' must return one score per image ({len(maps)},), not {came}.")
    return scores


@overload
def explain(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | Sequence[int] | None,
    method: str | Choice,
    *,
    seed: int = 0,
    batch_size: int = 64,
    **params: Any,
) -> Maps: ...


@overload
def explain(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | Sequence[int] | None,
    method: Sequence[str | Choice],
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Maps]: ...


@kept()
def explain(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | Sequence[int] | None,
    method: str | Choice | Sequence[str | Choice],
    *,
    seed: int = 0,
    batch_size: int = 64,
    **params: Any,
) -> Maps | dict[str, Maps]:
    """Explain why the network gives each image its target class, by one method or several that share passes.

    Parameters
    ----------
    classifier
        The network; it is left as it was found.
    images
        (N, 3, H, W) in [0, 1].
    targets
        (N,) class indices; None explains the predicted classes.
    method
        A method's id or choice, or a list of them; what is in it twice is computed once.
    seed
        For methods that draw noise; the noise of an image depends on the seed and the image only.
    batch_size
        Images per pass through the network.
    params
        The method's own parameters, for one method only.

    Returns
    -------
    maps
        (N, H, W) float32; a dict of them by id for several methods.

    Raises
    ------
    VexbenchError
        An unknown method or parameter, wrong images or targets.
    NotApplicable
        The method is not defined for this network.
    """
    if isinstance(method, str | Choice) or not isinstance(method, Iterable):
        choices = [_bound(METHODS, method, **params)]
    elif params:
        raise VexbenchError(
            "parameters go to one method; for several give choices, e.g. Choice.of('occlusion', patch=9)."
        )
    else:
        choices = list(dict.fromkeys(_bound(METHODS, pick) for pick in method))
    parts: list[list[Maps]] = [[] for _ in choices]
    for probe, _ in _probes(classifier, images, targets, seed, batch_size):
        for choice, rows in zip(choices, parts, strict=True):
            rows.append(maps_of(probe, choice))
    maps = [torch.cat(rows) if rows else images.new_zeros((0, *images.shape[2:])) for rows in parts]
    return (
        maps[0]
        if isinstance(method, str | Choice)
        else {_key(choice, choices): m for choice, m in zip(choices, maps, strict=True)}
    )


def _bound(registry: Registry[Any], pick: object, **params: Any) -> Choice:
    if isinstance(pick, str):
        return registry[pick].bind(**params)
    if isinstance(pick, Choice):
        return registry[pick.name].bind(**{**pick.params, **params})
    came = " ".join(repr(pick).split())[:40]
    raise VexbenchError(f"a {registry.kind} must be an id or a Choice, not {came}.")


def _key(choice: Choice, choices: Sequence[Choice]) -> str:
    alone = sum(other.name == choice.name for other in choices) == 1
    return choice.name if alone else f"{choice.name}({choice.label})"


@kept()
def evaluate(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | Sequence[int] | None,
    maps: Tensor | np.ndarray,
    metric: str | Choice,
    *,
    regions: Tensor | np.ndarray | None = None,
    cues: Tensor | np.ndarray | None = None,
    references: tuple[Tensor, Tensor] | None = None,
    explain: str | Choice | None = None,
    seed: int = 0,
    batch_size: int = 64,
    **params: Any,
) -> Scores:
    """Score maps by a metric, one score per image; NaN where the metric is not defined.

    Parameters
    ----------
    classifier, images, targets, seed, batch_size
        As for `explain`.
    maps
        (N, H, W), at the images' size.
    metric
        A metric's id or choice.
    regions
        (N, H, W) bool, true where the evidence is; for metrics of localisation.
    cues
        (N, H, W) bool, true where a planted shortcut is.
    references
        (K, 3, H, W) images of the same data and their (K,) classes, for metrics that put images side by side.
    explain
        The method that made the maps, for metrics that explain again.
    params
        The metric's own parameters.

    Raises
    ------
    VexbenchError
        An unknown metric or parameter, maps of another shape or not finite, or a need that is not met.
    """
    choice = _bound(METRICS, metric, **params)
    images = checked_images(images)
    expected = (len(images), *images.shape[2:])
    given = as_tensor("maps", maps)
    if tuple(given.shape) != expected:
        raise VexbenchError(f"maps must be {expected}, one per image at its size; got {tuple(given.shape)}.")
    if given.is_complex():
        raise VexbenchError(f"maps must be real numbers, not {given.dtype}; give their absolute values.")
    given = given.detach().float()
    if not bool(torch.isfinite(given).all()):
        raise VexbenchError("maps must be finite as float32; these hold NaN, infinite or too large values.")
    where, planted = (_checked(name, value, expected) for name, value in (("regions", regions), ("cues", cues)))
    company = None if references is None else _company(classifier, references, images)
    rows = [
        scores_of(
            choice,
            given[window].to(probe.images.device),
            probe,
            regions=None if where is None else where[window].to(probe.images.device),
            cues=None if planted is None else planted[window].to(probe.images.device),
            references=company,
            explain=None if explain is None else reexplain(explain),
        )
        for probe, window in _probes(classifier, images, targets, seed, batch_size)
    ]
    return torch.cat(rows) if rows else images.new_zeros(0)


def _company(classifier: Classifier, references: object, images: Tensor) -> References:
    """References that may stand beside the images, on the network's device."""
    if not isinstance(references, tuple | list) or len(references) != 2:
        came = f"{len(references)} values" if isinstance(references, tuple | list) else type(references).__name__
        raise VexbenchError(f"references must be a pair (images, targets), not {came}.")
    pictures, targets = checked_images(references[0]), as_tensor("targets of references", references[1])
    height, width = images.shape[2:]
    if pictures.shape[2:] != (height, width) or targets.shape != (len(pictures),):
        raise VexbenchError(
            f"references must be images of {height} × {width} pixels with a class each; got "
            f"{tuple(pictures.shape)} and {tuple(targets.shape)}."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise VexbenchError(f"targets of references must be whole numbers, one class index each; got {targets.dtype}.")
    if len(targets):
        classes = classifier.classes(pictures.to(classifier.device))
        if wrong := [target for target in targets.tolist() if not 0 <= target < classes]:
            raise VexbenchError(
                f"references are of class {wrong[0]}, which does not exist; the network has {classes} classes, "
                f"0 to {classes - 1}."
            )
    return References(pictures.to(classifier.device), targets.to(classifier.device, torch.int64))


def _checked(name: str, regions: object, shape: tuple[int, ...]) -> Tensor | None:
    if regions is None:
        return None
    where = as_tensor(name, regions)
    if tuple(where.shape) != shape or where.dtype != torch.bool:
        raise VexbenchError(f"{name} must be bool {shape}; got {where.dtype} {tuple(where.shape)}.")
    return where


def reexplain(method: str | Choice) -> Explain:
    """A method by its id or choice, to be asked again: for one batch of images, whose variants it remembers."""
    choice = _bound(METHODS, method)
    return Explain(lambda probe: maps_of(probe, choice))


def _probes(
    classifier: Classifier, images: Tensor, targets: Tensor | Sequence[int] | None, seed: int, batch_size: int
) -> Iterator[tuple[Probe, slice]]:
    images = checked_images(images)
    wanted = None if targets is None else as_tensor("targets", targets)
    if wanted is not None and wanted.shape != (len(images),):
        came = f"{len(wanted)} targets" if wanted.ndim == 1 else f"targets of shape {tuple(wanted.shape)}"
        raise VexbenchError(f"there are {len(images)} images but {came}; give one class index per image.")
    for start in range(0, len(images), CHUNK):
        window = slice(start, start + CHUNK)
        chosen = None if wanted is None else wanted[window]
        yield Probe(classifier, images[window], chosen, seed=seed, batch_size=batch_size), window

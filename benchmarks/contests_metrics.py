"""Rows 7 to 10 of the table: metrics, of maps that are there already.

Matched settings, and where the peers' definitions differ, are those of tests/peers/: a pixel is three values to Quantus,
whose curves lack the whole image's point, whose ROAD takes one channel only, and whose MPRT counts the network as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from contest import Contest, Setting, Sides, difference
from contests_maps import EVERY
from torch import Tensor, nn

import vexbench as vb
from vexbench.explaining import maps_of, reexplain, scores_of
from vexbench.models.surgery import cascade
from vexbench.perturb.masks import squares, subsets
from vexbench.registry import METHODS, METRICS, Choice

PLAIN = {"normalise": False, "abs": False, "disable_warnings": True}
STEPS, SHARES, DRAWS = 30, tuple(range(10, 100, 10)), 50
EIGHT = (
    "grad_cam", "hires_cam", "layer_cam", "xgrad_cam", "saliency", "input_x_gradient", "guided_backprop", "random",
)  # fmt: skip
TEN = (*EVERY, "finer_cam", "ablation_cam")
FEW = 2


def scored(probe: vb.Probe, maps: Tensor, metric: str, **params: Any) -> Tensor:
    return scores_of(METRICS[metric].bind(**params), maps, probe)


def explained(probe: vb.Probe, method: str, **params: Any) -> Tensor:
    return maps_of(probe, METHODS[method].bind(**params))


def quantus(
    name: str,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    softmax: bool = True,
    **options: Any,
) -> Any:
    import quantus as library

    explain = {key: options.pop(key) for key in ("explain_func",) if key in options}
    given = (images.numpy().copy(), targets.numpy(), maps[:, None].numpy().copy())
    metric = getattr(library, name)(**{**PLAIN, **options})
    x, y, a = given
    return metric(network, x, y, a_batch=a, softmax=softmax, channel_first=True, device="cpu", **explain)


def flipped(setting: Setting, maps: Tensor, steps: int = STEPS) -> Any:
    """Quantus' curve, a step being so many pixels of three values."""
    options = {"features_in_step": 3 * (maps[0].numel() // steps), "perturb_baseline": 0.0}
    return quantus("PixelFlipping", setting.network, setting.images, setting.targets, maps, **options)


def flipping_agrees(setting: Setting, maps: Tensor, steps: int = STEPS) -> str:
    whole = setting.probe().logits.softmax(1).gather(1, setting.targets[:, None])
    curve = torch.cat([whole, torch.tensor(np.array(flipped(setting, maps, steps)))], 1)
    area = torch.trapezoid(curve, dx=1 / steps, dim=1)
    return difference(scored(setting.probe(), maps, "deletion", steps=steps, baseline="black"), area)


def pixel_flipping(setting: Setting) -> Sides:
    maps = explained(setting.probe(), "saliency")
    return Sides(
        lambda: scored(setting.probe(), maps, "deletion", steps=STEPS, baseline="black"),
        lambda: flipped(setting, maps),
        lambda: flipping_agrees(setting, maps),
    )


@contextmanager
def without_noise() -> Iterator[None]:
    """pytorch-grad-cam draws it from the global generator, at a size that its metrics give no way to set."""
    from pytorch_grad_cam.metrics import road as library

    with patch.object(library.NoisyLinearImputer.__init__, "__defaults__", (0, library.neighbors_weights)):
        yield


def gradcam_road(setting: Setting, maps: Tensor, percentiles: list[float]) -> Tensor:
    """Probabilities less the whole image's, the most relevant first, mean over the percentiles."""
    from pytorch_grad_cam.metrics.road import ROADMostRelevantFirstAverage
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    wanted = [ClassifierOutputSoftmaxTarget(int(target)) for target in setting.targets]
    found = ROADMostRelevantFirstAverage(percentiles)(setting.images, maps.numpy(), wanted, setting.network)
    return torch.from_numpy(np.asarray(found))


def shares_of(percentiles: list[float], pixels: int) -> str:
    """What pytorch-grad-cam replaces of so many pixels: those at or above the percentile."""
    return ",".join(str(100 * (pixels - np.ceil((pixels - 1) * p / 100)) / pixels) for p in percentiles)


def road_agrees(setting: Setting, maps: Tensor, percentiles: list[float]) -> str:
    options = {"order": "morf", "noise": 0.0, "shares": shares_of(percentiles, maps[0].numel())}
    whole = setting.probe().logits.softmax(1).gather(1, setting.targets[:, None])[:, 0]
    with without_noise():
        return difference(
            -scored(setting.probe(), maps, "road", **options) - whole, gradcam_road(setting, maps, percentiles)
        )


def road(setting: Setting) -> Sides:
    """Most relevant first, nine shares; theirs subtracts the whole image's probability."""
    maps = explained(setting.probe(), "saliency")
    percentiles = [100.0 - share for share in SHARES]
    shares = ",".join(map(str, SHARES))
    return Sides(
        lambda: scored(setting.probe(), maps, "road", order="morf", shares=shares),
        lambda: gradcam_road(setting, maps, percentiles),
        lambda: road_agrees(setting, maps, percentiles),
    )


class Grey(nn.Module):
    """The network for pictures of one colour, the only ones that Quantus' ROAD takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures.expand(-1, 3, -1, -1))


def quantus_road(setting: Setting) -> Sides:
    """Accuracy over the call, most relevant first, of grey pictures: it solves for one colour, ours for three."""
    grey = setting.images.mean(1, keepdim=True)
    network = Grey(setting.network).eval()
    probe = vb.Probe(setting.classifier, grey.expand(-1, 3, -1, -1))
    maps = explained(probe, "saliency")
    options = {"order": "morf", "output": "accuracy", "shares": ",".join(map(str, SHARES))}

    def theirs(noise: float = 0.01) -> dict[int, float]:
        return quantus("ROAD", network, grey, probe.targets, maps, percentages=list(SHARES), noise=noise)

    def same() -> str:
        hits = -scored(probe, maps, "road", noise=0.0, **options).mean()
        return difference(hits, torch.tensor(float(np.mean(list(theirs(0.0).values())))))

    return Sides(lambda: scored(probe.of(images=probe.images), maps, "road", **options), theirs, same)


def asked_again(setting: Setting, explain: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[..., np.ndarray]:
    """A method as Quantus calls it, of whatever network it gives."""

    def func(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        images = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
        return explain(model, images, torch.as_tensor(np.asarray(targets)))[:, None].detach().numpy()

    return func


def captum_saliency(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    from captum.attr import Saliency

    return Saliency(model).attribute(images.requires_grad_(), target=targets).amax(1)


def gradcam_of(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [model.layer]) as cam:
        return torch.from_numpy(cam(images, [ClassifierOutputTarget(int(target)) for target in targets]))


def randomised(
    setting: Setting,
    maps: Tensor,
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor],
    count: int | None = None,
    **options: Any,
) -> Any:
    func = asked_again(setting, explain)
    options |= {"layer_order": "bottom_up", "abs": True, "return_average_correlation": True, "explain_func": func}
    given = (setting.images[:count], setting.targets[:count], maps[:count])
    return quantus("MPRT", setting.network, *given, softmax=False, **options)


def defined(first: np.ndarray, second: np.ndarray, **options: Any) -> np.ndarray:
    """Quantus' rank correlation, NaN where a map is constant; there our numbers: 1 where both are, else 0."""
    from quantus.functions.similarity_func import correlation_spearman

    flat = [np.ptp(rows, axis=1) == 0 for rows in (first, second)]
    found = np.atleast_1d(correlation_spearman(first, second, **options))
    return np.where(flat[0] | flat[1], flat[0] & flat[1], found)


def randomisation_agrees(setting: Setting, method: str, explain: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> str:
    """Given our random networks; its mean over all layers counts the network as it is, too."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    probe = setting.probe(FEW)
    maps, layers = explained(probe, method), 0

    def networks(*_: Any, **__: Any) -> Iterator[tuple[str, nn.Module]]:
        nonlocal layers
        for names, classifier in cascade(setting.classifier, probe.images, seed=0):
            other = deepcopy(setting.network)
            other.module.load_state_dict(classifier.module.state_dict())
            layers += 1
            yield "+".join(sorted(names)), other

    with patch.object(PyTorchModel, "get_random_layer_generator", networks):
        average = torch.tensor(np.array(randomised(setting, maps, explain, FEW, similarity_func=defined)))
    found = METRICS["mprt"].function(maps, probe, reexplain(method), similarity="spearman")
    return f"{difference((1 + layers * found.double()) / (1 + layers), average)} over {layers} layers"


def one_mprt(setting: Setting) -> Sides:
    maps = explained(setting.probe(), "saliency")
    return Sides(
        lambda: METRICS["mprt"].function(maps, setting.probe(), reexplain("saliency"), similarity="spearman"),
        lambda: randomised(setting, maps, captum_saliency),
        lambda: randomisation_agrees(setting, "saliency", captum_saliency),
    )


def ten_mprt(setting: Setting) -> Sides:
    """Ours of ten CAMs that ask one probe, as in a study; theirs of Grad-CAM, since each costs the same there."""
    choices = [METHODS[name].bind() for name in TEN]
    maps = [maps_of(setting.probe(), choice) for choice in choices]

    def ours() -> None:
        probe = setting.probe()
        for choice, own in zip(choices, maps, strict=True):
            METRICS["mprt"].function(own, probe, reexplain(choice), similarity="spearman")

    return Sides(
        ours,
        lambda: randomised(setting, maps[TEN.index("grad_cam")], gradcam_of),
        lambda: randomisation_agrees(setting, "grad_cam", gradcam_of),
    )


def correlated(setting: Setting, maps: Tensor) -> Any:
    """Quantus' faithfulness correlation with subsets of a tenth of the values, DRAWS times."""
    options = {"nr_runs": DRAWS, "subset_size": 3 * round(0.1 * maps[0].numel()), "perturb_baseline": 0.0}
    args = ("FaithfulnessCorrelation", setting.network, setting.images, setting.targets, maps)
    return quantus(*args, softmax=False, return_aggregate=False, **options)


def correlation_agrees(setting: Setting, maps: Tensor) -> str:
    """Given our subsets, all three values of each pixel."""
    probe, pixels = setting.probe(), maps[0].numel()
    hidden = [mask.flatten() == 0 for masks in subsets(probe, round(0.1 * pixels), DRAWS) for mask in masks]
    drawn = (np.tile(mask.nonzero()[:, 0].numpy(), 3) + np.repeat(np.arange(3), mask.sum()) * pixels for mask in hidden)
    with patch.object(np.random, "choice", lambda *_, **__: next(drawn)):
        theirs = torch.tensor(np.array(correlated(setting, maps)))
    return difference(scored(probe, maps, "faithfulness_correlation", samples=DRAWS), theirs)


def eight_correlations(setting: Setting) -> Sides:
    maps = [maps_of(setting.probe(), Choice.of(name)) for name in EIGHT]

    def ours() -> None:
        probe = setting.probe()
        for own in maps:
            scored(probe, own, "faithfulness_correlation", samples=DRAWS)

    return Sides(
        ours,
        lambda: [correlated(setting, own) for own in maps],
        lambda: correlation_agrees(setting, maps[EIGHT.index("saliency")]),
    )


def eight_infidelities(setting: Setting) -> Sides:
    """captum takes a function that draws; both hide squares of up to half the side behind black."""
    maps = [maps_of(setting.probe(), Choice.of(name)) for name in EIGHT]

    def ours() -> list[Tensor]:
        probe = setting.probe()
        return [scored(probe, own, "infidelity", samples=DRAWS) for own in maps]

    def theirs() -> list[Tensor]:
        from captum.metrics import infidelity

        found = list[Tensor]()
        for own in maps:
            masks = iter(squares(setting.probe(), SIDE // 2, DRAWS))

            def hiding(copies: Tensor, masks: Iterator[Tensor] = masks) -> tuple[Tensor, Tensor]:
                draws = torch.stack([next(masks) for _ in range(len(copies) // len(setting.images))], 1)
                moves = (1 - draws.flatten(0, 1))[:, None] * copies
                return moves, copies - moves

            options = {"n_perturb_samples": DRAWS, "normalize": True, "max_examples_per_batch": 64}
            wide = own[:, None].expand(-1, 3, -1, -1)
            found.append(
                infidelity(setting.network, hiding, setting.images, wide, target=setting.targets, **options).detach()
            )
        return found

    def same() -> str:
        pairs = zip(ours(), theirs(), strict=True)
        gaps = [float(((one - other) / other.clamp(min=1e-12)).abs().max()) for one, other in pairs]
        return f"relative difference ≤ {max(gaps):.0e}"

    return Sides(ours, theirs, same)


SIDE = 150
CONTESTS = (
    Contest("flipping", "pixel flipping, 30 steps", "Quantus", pixel_flipping, 24, images=8, few=2),
    Contest(
        "road", "ROAD, 9 shares, most relevant first", "pytorch-grad-cam", road, 20, rounds=3, few=2,
        note="ours: ten passes and nine solutions of a sparse system for three colours; of the map of `saliency`.",
    ),
    Contest("road, grey", "the same of grey pictures, accuracy", "Quantus", quantus_road, rounds=3, few=2),
    Contest("mprt", "MPRT, all 41 layers, one method (saliency)", "Quantus and captum", one_mprt, 95, rounds=3),
    Contest(
        "mprt of ten", "MPRT, all 41 layers, per method of ten CAMs", "Quantus and pytorch-grad-cam", ten_mprt, 8,
        rounds=2, images=16, few=4, memory=False, share=len(TEN), note="theirs of Grad-CAM alone: ten methods cost ten times that.",
    ),
    Contest(
        "correlation", "faithfulness correlation, 50 draws, 8 methods", "Quantus", eight_correlations, 50, rounds=3
    ),
    Contest("infidelity", "infidelity, 50 draws, 8 methods", "captum", eight_infidelities, 50, rounds=3),
)  # fmt: skip

"""How far the CAM and gradient methods and the field's libraries agree; prints a table as agreement.py does.

python benchmarks/agreement_cams.py
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from agreement_table import (
    Normalised,
    Pair,
    asked,
    captum,
    cases,
    correlations,
    print_table,
    pytorch_grad_cam,
    quiet,
    resized,
    torchcam,
)
from torch import Tensor
from torch.nn import functional

import vexbench as vb
from vexbench.methods.cam import first_component
from vexbench.methods.gradient import bias_shares
from vexbench.methods.masking_cam import softmax_of_mean
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian

SAMPLES, STEPS, NOISE = 3, 3, 0.15


@contextmanager
def silent() -> Iterator[None]:
    """Without progress bars and warnings."""
    with quiet(), patch("tqdm.tqdm", lambda items, *_, **__: items):
        yield


def scored(kind: str) -> Callable[..., Tensor]:
    """A method of pytorch-grad-cam that shows progress bars."""

    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        with silent():
            return pytorch_grad_cam(kind)(classifier, images, targets)

    return maps


def finer_pytorch_grad_cam(classifier: Classifier, images: Tensor, _targets: Tensor) -> Tensor:
    """It finds the similar classes itself, for the predicted class."""
    with quiet():
        from pytorch_grad_cam import FinerCAM

        network = Normalised(classifier, images).eval()
        with FinerCAM(network, [network.layer]) as cam:
            return torch.from_numpy(cam(images, None, alpha=0.6))


def full_grad_pytorch_grad_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """It takes the input as the network gets it, which is the normalised image."""
    with quiet():
        from pytorch_grad_cam import FullGrad
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        with FullGrad(deepcopy(classifier.module).eval(), []) as cam:
            aims = [ClassifierOutputTarget(int(target)) for target in targets]
            return torch.from_numpy(cam(classifier.normalise(images), aims))


def guided_pytorch_grad_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """Of a batch it returns the first image only: one at a time."""
    with quiet():
        from pytorch_grad_cam import GuidedBackpropReLUModel

        model = GuidedBackpropReLUModel(Normalised(classifier, images).eval(), torch.device("cpu"))
        rows = [
            torch.from_numpy(model(image[None], target_category=int(target)).copy()).sum(2)
            for image, target in zip(images, targets, strict=True)
        ]
    return torch.stack(rows)


def summed(kind: str) -> Callable[..., Tensor]:
    return lambda *case: captum(kind)(*case).sum(1)


def captum_guided_grad_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    with quiet():
        from captum import attr as library

        network = Normalised(classifier, images).eval()
        method = library.GuidedGradCam(network, network.layer)
        leaf = images.clone().requires_grad_()
        found: Any = method.attribute(leaf, target=targets, interpolate_mode="bilinear")
    return found.detach().sum(1)


def captum_input_x_gradient(*case: Any) -> Tensor:
    return captum("InputXGradient")(*case).sum(1)


def torchcam_noisy(kind: str, draws: Callable[[vb.Probe], Iterator[Tensor]], **options: Any) -> Callable[..., Tensor]:
    """A sampled method of torchcam, given our draws, one image at a time."""

    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        rows: list[Tensor] = []
        with quiet():
            from torchcam import methods as library

            for image, target in zip(images.split(1), targets.split(1), strict=True):
                given = draws(vb.Probe(classifier, image, target))
                network = Normalised(classifier, image).eval()
                with getattr(library, kind)(network, network.layer, **options) as cam:
                    cam._distrib.sample = lambda shape, given=given: next(given).expand(shape)
                    (found,) = cam(int(target), network(image), normalized=False)
                rows.append(found.relu().detach())
        return resized(torch.cat(rows), images)

    return maps


def image_noise(probe: vb.Probe) -> Iterator[Tensor]:
    sigma = NOISE * (probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True))
    return (sigma * draw for draw in gaussian(probe, SAMPLES))


def mask_noise(probe: vb.Probe) -> Iterator[Tensor]:
    return (2.0 * draw[:, :1] for draw in gaussian(probe, SAMPLES))


def either_sign(features: Callable[[vb.Probe], Tensor]) -> Callable[[vb.Probe, Tensor], Tensor]:
    """The component and its negative, cut at zero: the one nearer to the library's, whose sign is left to chance."""

    def maps(probe: vb.Probe, theirs: Tensor) -> Tensor:
        component = first_component(features(probe), centred=True)
        both = [resized((sign * component).relu(), probe.images) for sign in (1, -1)]
        chosen = correlations(both[0], theirs) >= correlations(both[1], theirs)
        return torch.where(chosen[:, None, None], *both)

    return maps


def guarded(probe: vb.Probe, _theirs: Tensor) -> Tensor:
    """FullGrad with 1e-7 added to each channel's maximum."""

    def spread(shares: Tensor) -> Tensor:
        sizes = shares.abs() - shares.abs().amin((2, 3), keepdim=True)
        return resized((sizes / (sizes.amax((2, 3), keepdim=True) + 1e-7)).sum(1), probe.images)

    parts: list[Tensor] = []
    watching = partial(bias_shares, lambda shares: parts.append(spread(shares)) if shares.ndim == 4 else None)
    (gradients,) = probe.input_gradients([probe.images], watching)
    mean = probe.images.new_tensor(probe.classifier.mean)[:, None, None]
    return spread((probe.images - mean) * gradients) + sum(part[: len(gradients)] for part in parts)


def scored_by(probe: vb.Probe, masks: Iterator[Tensor], rounds: int = 1) -> Tensor:
    """Score-CAM with other masks."""
    weights = softmax_of_mean(probe, masks, rounds)[:, :, None, None]
    return resized((weights * probe.trace.activations).sum(1).relu(), probe.images)


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def aligned_corners(probe: vb.Probe, _theirs: Tensor) -> Tensor:
    """Masks resized with the corners' centres held at the corners, as pytorch-grad-cam does."""
    size = probe.images.shape[2:]
    masks = (
        scaled(functional.interpolate(channel, size, mode="bilinear", align_corners=True)[:, 0])
        for channel in probe.trace.activations.split(1, 1)
    )
    return scored_by(probe, masks)


def scaled_first(factors: Sequence[float]) -> Callable[[vb.Probe, Tensor], Tensor]:
    """Masks scaled before they are resized, and taken times each factor: torchcam's."""

    def maps(probe: vb.Probe, _theirs: Tensor) -> Tensor:
        masks = (
            factor * resized(scaled(channel[:, 0]), probe.images)
            for factor in factors
            for channel in probe.trace.activations.split(1, 1)
        )
        return scored_by(probe, masks, len(factors))

    return maps


def added_up(steps: int) -> list[float]:
    """1/n, 1/n + 2/n, …, up to (n + 1)/2: torchcam adds up the positions on the way, and passes its end."""
    return torch.arange(1, steps + 1).div(steps).cumsum(0).tolist()


def last_copy(probe: vb.Probe, _theirs: Tensor) -> Tensor:
    """torchcam's Smooth Grad-CAM++: gradient and features are the last copy's alone, and ΣA·g³ is Σ(A·g³)."""
    traces = list(probe.traces(probe.images + draw for draw in image_noise(probe)))
    square, cube = (sum(trace.gradients**power for trace in traces) / SAMPLES for power in (2, 3))
    activations, gradients = traces[-1]
    denominator = 2 * square + (cube * probe.trace.activations).sum((2, 3), keepdim=True) + 1e-8
    weights = (square / denominator * gradients.relu()).sum((2, 3), keepdim=True)
    return resized((weights * activations).sum(1).relu(), probe.images)


def torchcam_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """Its map is not cut at zero unless it is scaled."""
    with quiet():
        from torchcam.methods import CAM

        network = Normalised(classifier, images).eval()
        with CAM(network, network.layer) as cam:
            (found,) = cam(targets.tolist(), network(images), normalized=False)
        return resized(found, images)


NOISY = {"samples": SAMPLES, "noise": NOISE}
SMOOTH = torchcam_noisy("SmoothGradCAMpp", image_noise, num_samples=SAMPLES)
PAIRS = (
    Pair("cam", "torchcam", torchcam_cam),
    Pair("xgrad_cam", "pytorch-grad-cam", pytorch_grad_cam("XGradCAM")),
    Pair("xgrad_cam", "torchcam", torchcam("XGradCAM")),
    Pair("layer_cam", "pytorch-grad-cam", pytorch_grad_cam("LayerCAM")),
    Pair("layer_cam", "torchcam", torchcam("LayerCAM")),
    Pair("finer_cam", "torchcam", torchcam("FinerCAM")),
    Pair("finer_cam", "pytorch-grad-cam", finer_pytorch_grad_cam, ours={"weighting": "probability"}),
    Pair(
        "eigen_cam", "pytorch-grad-cam", pytorch_grad_cam("EigenCAM"), formula=either_sign(lambda probe: probe.trace[0])
    ),
    Pair(
        "eigen_grad_cam",
        "pytorch-grad-cam",
        pytorch_grad_cam("EigenGradCAM"),
        formula=either_sign(lambda probe: probe.trace[0] * probe.trace[1]),
    ),
    Pair("full_grad", "pytorch-grad-cam", full_grad_pytorch_grad_cam, formula=guarded),
    Pair("input_x_gradient", "captum", captum_input_x_gradient),
    Pair("guided_backprop", "captum", summed("GuidedBackprop")),
    Pair("guided_backprop", "pytorch-grad-cam", guided_pytorch_grad_cam),
    Pair("guided_grad_cam", "captum", captum_guided_grad_cam),
    Pair("smooth_grad_cam_plus_plus", "torchcam", SMOOTH, ours=NOISY, formula=last_copy),
)
MASKING = (
    Pair("score_cam", "torchcam", torchcam("ScoreCAM"), formula=scaled_first([1])),
    Pair("score_cam", "pytorch-grad-cam", scored("ScoreCAM"), formula=aligned_corners),
    Pair("ablation_cam", "pytorch-grad-cam", scored("AblationCAM")),
    Pair("ss_cam", "torchcam", torchcam_noisy("SSCAM", mask_noise, num_samples=SAMPLES), ours={"samples": SAMPLES}),
    Pair(
        "is_cam",
        "torchcam",
        torchcam("ISCAM", num_samples=STEPS),
        ours={"steps": STEPS},
        formula=scaled_first(added_up(STEPS)),
    ),
)
"""Passes by the hundred."""


if __name__ == "__main__":
    arguments = asked(__doc__, side=64, count=2)
    print_table((*PAIRS, *MASKING), cases(arguments), arguments.methods)

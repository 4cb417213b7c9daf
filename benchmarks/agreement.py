"""How far vexbench and the field's libraries agree: prints the first tables of docs/peers.md.

    python benchmarks/agreement.py
    python benchmarks/agreement.py --checkpoint runs/intel-plain --images ../shared/data/intel/seg_test

agreement_cams.py, agreement_perturb.py and agreement_propagation.py do the same for the other methods.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from agreement_table import (
    Normalised,
    Pair,
    asked,
    blobs,
    captum,
    cases,
    correlations,
    photographs,
    print_table,
    pytorch_grad_cam,
    quiet,
    resized,
    resnet18,
    shown,
    torchcam,
)
from torch import Tensor

import vexbench as vb
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian


def captum_grad_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return resized(captum("LayerGradCam", relu_attributions=True)(classifier, images, targets)[:, 0], images)


def captum_hires_cam(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """Its LayerGradientXActivation, summed over the channels."""
    return resized(captum("LayerGradientXActivation")(classifier, images, targets).sum(1).relu(), images)


def captum_saliency(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return captum("Saliency")(classifier, images, targets).amax(1)


def captum_integrated_gradients(classifier: Classifier, images: Tensor, targets: Tensor, *, steps: int) -> Tensor:
    attribute = captum("IntegratedGradients", method="gausslegendre", baselines=0.0)
    return attribute(classifier, images, targets, n_steps=steps).sum(1)


def captum_occlusion(classifier: Classifier, images: Tensor, targets: Tensor, *, patch: int, stride: int) -> Tensor:
    windows = {"sliding_window_shapes": (3, patch, patch), "strides": (3, stride, stride)}
    return captum("Occlusion", baselines=0.5)(classifier, images, targets, **windows)[:, 0]


def captum_smooth_grad(classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
    """NoiseTunnel takes no seed and one σ for all images: it is given our draws, and one image at a time."""
    rows: list[Tensor] = []
    with quiet():
        from captum import attr as library

        network = Normalised(classifier, images).eval()
        for image, target in zip(images.split(1), targets.split(1), strict=True):
            draws = torch.cat(list(gaussian(vb.Probe(classifier, image, target), samples)))
            sigma = 0.15 * float(image.max() - image.min())
            with patch.object(torch, "normal", lambda _mean, stdev, draws=draws: draws * stdev):
                tunnel: Any = library.NoiseTunnel(library.Saliency(network))
                noisy = {"nt_type": "smoothgrad", "nt_samples": samples, "stdevs": sigma, "abs": False}
                rows.append(tunnel.attribute(image.clone().requires_grad_(), target=target, **noisy).detach())
    return torch.cat(rows).abs().amax(1)


def plus_plus(probe: vb.Probe, weights: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Grad-CAM++ in float64 with other weights, from our activations and gradients."""
    activations, gradients = (part.double() for part in probe.trace)
    summed = weights(activations, gradients).sum((2, 3), keepdim=True)
    return resized((summed * activations).sum(1).relu(), probe.images)


def with_epsilon(epsilon: float) -> Callable[[Tensor, Tensor], Tensor]:
    """α = g² / (2g² + ΣA·g³ + ε), as pytorch-grad-cam has it for ε = 1e-6; the paper's for ε = 0."""

    def weights(activations: Tensor, gradients: Tensor) -> Tensor:
        square = gradients.square()
        denominator = 2 * square + activations.sum((2, 3), keepdim=True) * square * gradients + epsilon
        alpha = torch.where(denominator != 0, square / denominator.where(denominator != 0, 1), 0)
        return alpha * gradients.relu()

    return weights


def cubed(_activations: Tensor, gradients: Tensor) -> Tensor:
    """g²·relu(g): α without its division, as torchcam computes it."""
    return gradients.square() * gradients.relu()


def by(weights: Callable[[Tensor, Tensor], Tensor]) -> Callable[[vb.Probe, Tensor], Tensor]:
    """What reproduces a library's Grad-CAM++."""
    return lambda probe, _theirs: plus_plus(probe, weights)


BOTH, PATCH, DRAWS = {"steps": 50}, {"patch": 16, "stride": 8}, {"samples": 10}
PAIRS = (
    Pair("grad_cam", "pytorch-grad-cam", pytorch_grad_cam("GradCAM")),
    Pair("grad_cam", "torchcam", torchcam("GradCAM")),
    Pair("grad_cam", "captum", captum_grad_cam),
    Pair("hires_cam", "pytorch-grad-cam", pytorch_grad_cam("HiResCAM")),
    Pair("hires_cam", "captum", captum_hires_cam),
    Pair("saliency", "captum", captum_saliency),
    Pair("integrated_gradients", "captum", captum_integrated_gradients, BOTH),
    Pair("occlusion", "captum", captum_occlusion, PATCH),
    Pair("smooth_grad", "captum", captum_smooth_grad, DRAWS),
    Pair("grad_cam_plus_plus", "pytorch-grad-cam", pytorch_grad_cam("GradCAMPlusPlus"), formula=by(with_epsilon(1e-6))),
    Pair("grad_cam_plus_plus", "torchcam", torchcam("GradCAMpp"), formula=by(cubed)),
)


def rescaled(classifier: Classifier, unit: float) -> Classifier:
    """The same function with the target layer's features in another unit: features times, head over `unit`.

    For torchvision's resnet: the last block's shortcut and its last batch norm make the features.
    """
    module: Any = deepcopy(classifier.module)
    block = module.layer4[1]
    with torch.no_grad():
        for last in (block.bn2, module.layer4[0].bn2, module.layer4[0].downsample[1]):
            last.weight *= unit
            last.bias *= unit
        block.conv1.weight /= unit  # what is behind the scaled features sees them as before
        module.fc.weight /= unit
    return Classifier(module, mean=classifier.mean, std=classifier.std, target_layer=classifier.target_layer)


def units(images: Tensor) -> Iterator[tuple[Any, ...]]:
    """Unit of the features, and what is left of Grad-CAM++ of ours and of pytorch-grad-cam when only that unit changes."""
    classifier = resnet18()
    targets = classifier.logits(images).detach().argmax(1)
    ours = partial(vb.explain, images=images, targets=targets, method="grad_cam_plus_plus")
    theirs = partial(pytorch_grad_cam("GradCAMPlusPlus"), images=images, targets=targets)
    for unit in (0.01, 100.0):
        other = rescaled(classifier, unit)
        yield f"× {unit:g}", *(correlations(maps(classifier), maps(other)).min().item() for maps in (ours, theirs))


def main() -> None:
    arguments = asked(__doc__, side=96, count=6)
    print_table(PAIRS, cases(arguments), arguments.methods)
    folder, count = arguments.images, arguments.count
    print("\n| Grad-CAM++ of resnet18, features in another unit | ours | pytorch-grad-cam |\n|---|---|---|")
    for unit, *found in units(photographs(folder, count, 150) if folder else blobs(count, 150)):
        print(f"| {unit} | {' | '.join(map(shown, found))} |", flush=True)


if __name__ == "__main__":
    main()

"""How far vexbench and the field's libraries agree: prints the tables of docs/peers.md.

    python benchmarks/agreement.py
    python benchmarks/agreement.py --checkpoint runs/intel-plain --images ../shared/data/intel/seg_test

Every library works on a copy of the network, since some change the one they are given. All maps are compared at the
images' size, by the correlation over the pixels of each image; of the images the worst counts.
"""

import argparse
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

import vexbench as vb
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian

LIBRARIES = {"pytorch-grad-cam": "pytorch_grad_cam", "torchcam": "torchcam", "captum": "captum"}
"""Distributions as people know them, and their modules."""


class Normalised(nn.Module):
    """A copy of a classifier's network that takes images in [0, 1], as ours do."""

    def __init__(self, classifier: Classifier, images: Tensor) -> None:
        super().__init__()
        name, _ = classifier.layer(images)
        self.module = deepcopy(classifier.module)
        self.layer = self.module.get_submodule(name)
        self.normalise = classifier.normalise

    def forward(self, images: Tensor) -> Tensor:
        return self.module(self.normalise(images))


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries warn about how they themselves work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def resized(maps: Tensor, images: Tensor) -> Tensor:
    return functional.interpolate(maps[:, None].float(), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def pytorch_grad_cam(kind: str) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        with quiet():
            import pytorch_grad_cam as library
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

            network = Normalised(classifier, images).eval()
            with getattr(library, kind)(network, [network.layer]) as cam:
                return torch.from_numpy(cam(images, [ClassifierOutputTarget(int(target)) for target in targets]))

    return maps


def torchcam(kind: str) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        with quiet():
            from torchcam import methods as library

            network = Normalised(classifier, images).eval()
            with getattr(library, kind)(network, network.layer) as cam:
                (found,) = cam(targets.tolist(), network(images), normalized=False)
            return resized(found.relu(), images)

    return maps


def captum(kind: str, **options: Any) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor, **changes: Any) -> Tensor:
        with quiet():
            from captum import attr as library

            network = Normalised(classifier, images).eval()
            method: Any = getattr(library, kind)(network)
            return method.attribute(images.clone().requires_grad_(), target=targets, **options, **changes).detach()

    return maps


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


@dataclass(frozen=True)
class Pair:
    """A method of ours, and a library's idea of the same."""

    method: str
    library: str
    maps: Callable[..., Tensor]
    parameters: tuple[str, ...] = ()


PAIRS = (
    Pair("grad_cam", "pytorch-grad-cam", pytorch_grad_cam("GradCAM")),
    Pair("grad_cam", "torchcam", torchcam("GradCAM")),
    Pair("hires_cam", "pytorch-grad-cam", pytorch_grad_cam("HiResCAM")),
    Pair("saliency", "captum", captum_saliency),
    Pair("integrated_gradients", "captum", captum_integrated_gradients, ("steps",)),
    Pair("occlusion", "captum", captum_occlusion, ("patch", "stride")),
    Pair("smooth_grad", "captum", captum_smooth_grad, ("samples",)),
    Pair("grad_cam_plus_plus", "pytorch-grad-cam", pytorch_grad_cam("GradCAMPlusPlus")),
    Pair("grad_cam_plus_plus", "torchcam", torchcam("GradCAMpp")),
)


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


EXPLANATIONS = {"pytorch-grad-cam": with_epsilon(1e-6), "torchcam": cubed}
"""What reproduces the libraries' Grad-CAM++."""


def correlations(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's correlation over the pixels of each image; NaN for a constant map."""
    pair = [maps.double().flatten(1) - maps.double().flatten(1).mean(1, keepdim=True) for maps in (left, right)]
    return (pair[0] * pair[1]).sum(1) / (pair[0].norm(dim=1) * pair[1].norm(dim=1))


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


def resnet18() -> Classifier:
    """torchvision's resnet18 with random weights, and batch norm statistics as if it had seen images."""
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet18(num_classes=10)
        network.train()
        for _ in range(5):
            network(torch.randn(8, 3, 64, 64))
    return Classifier(network.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), target_layer="layer4")


def blobs(count: int, side: int) -> Tensor:
    """Images that need no download: soft blobs of colour with grain."""
    source = torch.Generator().manual_seed(2)
    soft = functional.interpolate(torch.rand(count, 3, 6, 6, generator=source), (side, side), mode="bilinear")
    return 0.9 * soft + 0.1 * torch.rand(soft.shape, generator=source)


def photographs(folder: Path, count: int, side: int) -> Tensor:
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    paths = random.Random(0).sample(sorted(folder.rglob("*.jpg")), count)
    pictures = [Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for path in paths]
    return torch.stack([pil_to_tensor(picture) for picture in pictures]) / 255


def compare(
    classifier: Classifier, images: Tensor, parameters: dict[str, int]
) -> Iterator[tuple[str, str, float, float]]:
    """Method, library, worst correlation, and for Grad-CAM++ that with the library's explained variant of the formula."""
    targets = classifier.logits(images).detach().argmax(1)
    for pair in PAIRS:
        chosen = {name: parameters[name] for name in pair.parameters}
        theirs = pair.maps(classifier, images, targets, **chosen)
        ours = vb.explain(classifier, images, targets, pair.method, **chosen)
        explained = float("nan")
        if pair.method == "grad_cam_plus_plus":
            variant = plus_plus(vb.Probe(classifier, images, targets), EXPLANATIONS[pair.library])
            explained = correlations(variant, theirs).min().item()
        yield pair.method, pair.library, correlations(ours, theirs).min().item(), explained


def units(images: Tensor) -> Iterator[tuple[Any, ...]]:
    """Unit of the features, and what is left of Grad-CAM++ of ours and of pytorch-grad-cam when only that unit changes."""
    classifier = resnet18()
    targets = classifier.logits(images).detach().argmax(1)
    ours = partial(vb.explain, images=images, targets=targets, method="grad_cam_plus_plus")
    theirs = partial(pytorch_grad_cam("GradCAMPlusPlus"), images=images, targets=targets)
    for unit in (0.01, 100.0):
        other = rescaled(classifier, unit)
        yield f"× {unit:g}", *(correlations(maps(classifier), maps(other)).min().item() for maps in (ours, theirs))


def shown(correlation: float) -> str:
    """Four digits, or how far from 1; empty for NaN."""
    if correlation != correlation:
        return ""
    return f"1 − {max(1 - correlation, 1e-16):.0e}" if correlation > 0.99999 else f"{correlation:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", type=Path, nargs="*", default=[], help="trained networks, beside a random resnet18"
    )
    parser.add_argument("--images", type=Path, help="a folder of photographs; drawn blobs without it")
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    networks = {"resnet18, random weights": (resnet18(), 150)}
    for path in arguments.checkpoint:
        trained = vb.load_classifier(path)
        networks[f"{trained.name}, trained"] = (trained, trained.input_size or 150)
    print("| network | method | library | worst correlation | with the library's formula |\n|---|---|---|---|---|")
    folder, count = arguments.images, arguments.count
    for name, (classifier, side) in networks.items():
        images = photographs(folder, count, side) if folder else blobs(count, side)
        parameters = {"steps": 50, "patch": 15, "stride": 8, "samples": 10}
        for method, library, *found in compare(classifier, images, parameters):
            print(f"| {name} | `{method}` | {library} | {' | '.join(map(shown, found))} |", flush=True)
    print("\n| Grad-CAM++ of resnet18, features in another unit | ours | pytorch-grad-cam |\n|---|---|---|")
    for unit, *found in units(photographs(folder, count, 150) if folder else blobs(count, 150)):
        print(f"| {unit} | {' | '.join(map(shown, found))} |", flush=True)


if __name__ == "__main__":
    main()

"""How far the path and perturbation methods agree with captum: pairs as in agreement.py, and a table of their own.

    python benchmarks/agreement_perturb.py

Sampled methods are given our draws where captum takes any, since it takes no seed; `lime` and `kernel_shap` are run as
captum runs them as well, with draws of its own (SAMPLED).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from agreement import Normalised, Pair, blobs, captum, correlations, quiet, resnet18
from torch import Tensor, nn

import vexbench as vb
from vexbench.methods.path import draws
from vexbench.methods.surrogate import coalitions
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian
from vexbench.perturb.references import references
from vexbench.perturb.segments import segmented
from vexbench.seeds import generator

SETTINGS = {
    "expected_gradients": {"samples": 12},
    "smooth_grad_squared": {"samples": 4},
    "var_grad": {"samples": 4},
    "deconvnet": {},
    "lime": {"samples": 60, "segments": 16},
    "kernel_shap": {"samples": 120, "segments": 16},
}
"""Small enough for tests; the correlations do not hang on them."""


def one_by_one(classifier: Classifier, images: Tensor, targets: Tensor) -> Iterator[tuple[vb.Probe, Any]]:
    """A probe for each image, and a copy of the network that takes images in [0, 1]."""
    network = Normalised(classifier, images).eval()
    for image, target in zip(images.split(1), targets.split(1), strict=True):
        yield vb.Probe(classifier, image, target), network


def captum_gradient_shap(classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
    """With our references, and our draws in place of numpy's."""
    from captum.attr import GradientShap

    rows: list[Tensor] = []
    for probe, network in one_by_one(classifier, images, targets):
        pool = references(probe, "scenes")
        orders, positions = draws(probe, samples, len(pool))
        with quiet(), ExitStack() as patches:
            for name, values in (("choice", orders[0]), ("uniform", positions.flatten())):
                patches.enter_context(patch.object(np.random, name, lambda *_, values=values: values.numpy()))
            options: Any = {"baselines": pool, "n_samples": samples, "stdevs": 0.0, "target": probe.targets}
            rows.append(GradientShap(network).attribute(probe.images.clone(), **options).detach())
    return torch.cat(rows).sum(1)


def noise_tunnel(kind: str) -> Callable[..., Tensor]:
    """With our noise, and each image's own σ."""

    def maps(classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
        from captum.attr import NoiseTunnel, Saliency

        rows: list[Tensor] = []
        for probe, network in one_by_one(classifier, images, targets):
            noise = torch.cat(list(gaussian(probe, samples)))
            sigma = 0.15 * float(probe.images.max() - probe.images.min())
            with quiet(), patch.object(torch, "normal", lambda _mean, stdev, noise=noise: noise * stdev):
                options: Any = {"nt_type": kind, "nt_samples": samples, "stdevs": sigma, "abs": False}
                found: Any = NoiseTunnel(Saliency(network)).attribute(probe.images, target=probe.targets, **options)
            rows.append(found.detach())
        return torch.cat(rows).amax(1)

    return maps


def captum_deconvolution(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return captum("Deconvolution")(classifier, images, targets).sum(1)


def captum_lime(
    classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int, segments: int, ours: bool = True
) -> Tensor:
    """LIME's kernel and ridge, on our superpixels; with our variants, or a fair coin of torch's."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime

    def kernel(_image: Tensor, _variant: Tensor, shown: Tensor, **_: Any) -> Tensor:
        return torch.exp(-(((1 - shown.float().mean(1).sqrt()) / 0.25) ** 2))

    rows: list[Tensor] = []
    for probe, network in one_by_one(classifier, images, targets):
        labels = segmented(probe.images, "slic", segments)
        design = (samples, int(labels.max()) + 1)
        source = generator(0, "lime", probe.fingerprints[0]) if ours else torch.Generator().manual_seed(1)
        drawn = torch.randint(0, 2, design, generator=source)
        chances = nn.Sequential(network, nn.Softmax(1))
        with quiet():
            variants = iter(drawn.split(1))
            method = Lime(chances, SkLearnRidge(alpha=1.0), kernel, lambda *_, variants=variants, **__: next(variants))
            rows.append(surrogate(method, probe, labels, samples))
    return torch.cat(rows)


def captum_kernel_shap(
    classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int, segments: int, ours: bool = True
) -> Tensor:
    """On our superpixels; with our coalitions, behind none and all, or with those it draws itself."""
    from captum.attr import KernelShap

    rows: list[Tensor] = []
    for probe, network in one_by_one(classifier, images, targets):
        labels = segmented(probe.images, "slic", segments)
        count = int(labels.max()) + 1
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(1)
            method = KernelShap(network)
            if ours:
                drawn, _ = coalitions(count, samples, generator(0, "kernel_shap", probe.fingerprints[0]))
                variants = iter(torch.cat([torch.ones(1, count), torch.zeros(1, count), drawn]).long().split(1))
                method.perturb_func = lambda *_, variants=variants, **__: next(variants)
            rows.append(surrogate(method, probe, labels, samples + 2))
    return torch.cat(rows)


def surrogate(method: Any, probe: vb.Probe, labels: Tensor, samples: int) -> Tensor:
    options: Any = {"feature_mask": labels[:, None].expand(-1, 3, -1, -1), "baselines": 0.5, "n_samples": samples}
    return method.attribute(probe.images, target=probe.targets, **options)[:, 0].detach().float()


PAIRS = (
    Pair("expected_gradients", "captum", captum_gradient_shap, ("samples",)),
    Pair("smooth_grad_squared", "captum", noise_tunnel("smoothgrad_sq"), ("samples",)),
    Pair("var_grad", "captum", noise_tunnel("vargrad"), ("samples",)),
    Pair("deconvnet", "captum", captum_deconvolution),
    Pair("lime", "captum", captum_lime, ("samples", "segments")),
    Pair("kernel_shap", "captum", captum_kernel_shap, ("samples", "segments")),
)
SAMPLED = (
    Pair("lime", "captum", lambda *case, **given: captum_lime(*case, **given, ours=False), ("samples", "segments")),
    Pair(
        "kernel_shap",
        "captum",
        lambda *case, **given: captum_kernel_shap(*case, **given, ours=False),
        ("samples", "segments"),
    ),
)
"""Draws of captum's own: the same settings, other numbers."""


def small_vgg() -> Classifier:
    """Convolutions, module ReLUs that are used once, and pooling: what captum's hooks on ReLUs are made for."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, behind in ((3, 16), (16, 24), (24, 32)):
            layers += [nn.Conv2d(before, behind, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
        for part in network:
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
    return Classifier(network.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def compare(classifier: Classifier, pairs: tuple[Pair, ...], many: dict[str, int]) -> Iterator[tuple[str, float]]:
    """Method, and its worst correlation over two images."""
    images = blobs(2, 96)
    case = (classifier, images, classifier.logits(images).detach().argmax(1))
    for pair in pairs:
        given = {**SETTINGS[pair.method], **many} if pair.parameters else {}
        yield pair.method, float(correlations(vb.explain(*case, pair.method, **given), pair.maps(*case, **given)).min())


if __name__ == "__main__":
    for name, classifier in {"resnet18": resnet18(), "small vgg": small_vgg(), "demo": vb.demo_classifier()}.items():
        for title, pairs, many in (("our draws", PAIRS, {}), ("its draws", SAMPLED, {"samples": 2000})):
            for method, worst in compare(classifier, pairs, many):
                print(f"{name:10} {title} {method:22} 1 - {1 - worst:.1e}")

"""How far the path and perturbation methods agree with captum; prints a table as agreement.py does.

    python benchmarks/agreement_perturb.py

Sampled methods are given our draws, since captum takes no seed; LIME and Kernel SHAP also draw for themselves.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from agreement_table import ALIKE, Normalised, Pair, asked, captum, cases, print_table, quiet
from torch import Tensor, nn

import vexbench as vb
from vexbench.methods.path import draws
from vexbench.methods.surrogate import coalitions
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian
from vexbench.perturb.references import references
from vexbench.perturb.segments import segmented
from vexbench.seeds import generator


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


def blended(samples: int) -> Callable[[vb.Probe, Tensor], Tensor]:
    """Expected gradients at α·x + (1 − α)·x′ instead of x′ + α·(x − x′): equal but for rounding."""

    def maps(probe: vb.Probe, _theirs: Tensor) -> Tensor:
        pool = references(probe, "scenes")
        orders, positions = draws(probe, samples, len(pool))
        starts = [pool[orders[:, sample]] for sample in range(samples)]
        points = (
            positions[:, sample] * probe.images + (1 - positions[:, sample]) * start
            for sample, start in enumerate(starts)
        )
        gradients = probe.input_gradients(points)
        return sum((probe.images - start) * gradient for start, gradient in zip(starts, gradients, strict=True)).sum(1)

    return maps


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
            rows.append(surrogate(method, probe, labels, n_samples=samples))
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
            rows.append(surrogate(method, probe, labels, n_samples=samples + 2))
    return torch.cat(rows)


def surrogate(method: Any, probe: vb.Probe, labels: Tensor, **options: Any) -> Tensor:
    options |= {"feature_mask": labels[:, None].repeat(1, 3, 1, 1), "baselines": 0.5}
    return method.attribute(probe.images, target=probe.targets, **options)[:, 0].detach().float()


def captum_shapley_values(
    classifier: Classifier, images: Tensor, targets: Tensor, *, kind: str = "ShapleyValues", **settings: Any
) -> Tensor:
    """All orders of the segments, or so many of them."""
    from captum import attr as library

    rows: list[Tensor] = []
    for probe, network in one_by_one(classifier, images, targets):
        labels = segmented(probe.images, settings.get("segmentation", "slic"), settings["segments"])
        orders = {} if kind == "ShapleyValues" else {"n_samples": 200}
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(1)
            rows.append(surrogate(getattr(library, kind)(network), probe, labels, **orders))
    return torch.cat(rows)


def captum_feature_ablation(
    classifier: Classifier, images: Tensor, targets: Tensor, *, patch: int, stride: int
) -> Tensor:
    """The patches are features; patches that overlap it does not know."""
    height, width = (torch.arange(side) // stride for side in images.shape[2:])
    features = (height[:, None] * len(width) + width).unique(return_inverse=True)[1].repeat(1, 3, 1, 1)
    return captum("FeatureAblation", baselines=0.5, feature_mask=features)(classifier, images, targets)[:, 0]


def own(maps: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """With captum's own draws."""
    return lambda *case, **given: maps(*case, **given, ours=False)


sampling = partial(captum_shapley_values, kind="ShapleyValueSampling")
NOISY, PIECES = {"samples": 4}, {"samples": 120, "segments": 16}
PAIRS = (
    Pair("expected_gradients", "captum", captum_gradient_shap, {"samples": 12}, formula=blended(12)),
    Pair("smooth_grad_squared", "captum", noise_tunnel("smoothgrad_sq"), NOISY),
    Pair("var_grad", "captum", noise_tunnel("vargrad"), NOISY),
    Pair("deconvnet", "captum", captum_deconvolution),
    Pair("occlusion", "captum", captum_feature_ablation, {"patch": 16, "stride": 16}, called="FeatureAblation"),
    Pair("lime", "captum", captum_lime, PIECES),
    Pair("kernel_shap", "captum", captum_kernel_shap, PIECES),
    Pair(
        "kernel_shap",
        "captum",
        captum_shapley_values,
        {"segments": 4, "segmentation": "grid"},
        called="ShapleyValues, exact",
    ),
)
MANY = {"samples": 1000, "segments": 9}
SAMPLED = (
    Pair("lime", "captum", own(captum_lime), MANY, least=ALIKE, called="own draws"),
    Pair("kernel_shap", "captum", own(captum_kernel_shap), MANY, least=ALIKE, called="own draws"),
    Pair("kernel_shap", "captum", sampling, MANY, least=ALIKE, called="ShapleyValueSampling"),
)
"""Draws of captum's own: the same settings, other numbers."""


if __name__ == "__main__":
    arguments = asked(__doc__, side=64, count=2)
    print_table((*PAIRS, *SAMPLED), cases(arguments), arguments.methods)

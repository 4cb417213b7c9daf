"""Rows 1 to 6 of the table: methods. The peers' settings and known differences are those of agreement*.py."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import agreement
import agreement_cams
import agreement_perturb
import torch
from contest import Contest, Setting, Sides, correlation, least_correlation
from torch import Tensor

import vexbench as vb
from vexbench.errors import NotApplicable

PAIRS = (*agreement.PAIRS, *agreement_cams.PAIRS, *agreement_cams.MASKING, *agreement_perturb.PAIRS)
CAMS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "hires_cam": "HiResCAM",
    "xgrad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
    "eigen_grad_cam": "EigenGradCAM",
    "eigen_cam": "EigenCAM",
}
TORCHCAMS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMpp",
    "xgrad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
}
EVERY = ("cam", *CAMS)
FEW = 4


def agreed(setting: Setting, library: str, methods: Sequence[str], **changes: Any) -> str:
    """The least correlation with a library over methods and images, by its own formula where that differs."""
    case = (setting.classifier, setting.images[:FEW], setting.targets[:FEW])
    found, by_formula = list[float](), list[str]()
    for pair in PAIRS:
        if pair.library != library or pair.method not in methods:
            continue
        given = {**pair.parameters, **{name: value for name, value in changes.items() if name in pair.parameters}}
        theirs = pair.maps(*case, **given)
        ours = vb.explain(*case, pair.method, **given, **pair.ours) if pair.formula is None else None
        if pair.formula is not None:
            ours = pair.formula(vb.Probe(*case), theirs)
            by_formula.append(pair.method)
        assert ours is not None
        found.append(least_correlation(ours, theirs))
    told = correlation(min(found))
    return f"{told}; by the peer's formula: {', '.join(by_formula)}" if by_formula else told


def pytorch_grad_cam(setting: Setting, kind: str, **options: Any) -> Tensor:
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(library, kind)(setting.network, [setting.network.layer]) as cam:
        cam.__dict__.update(options)
        wanted = [ClassifierOutputTarget(int(target)) for target in setting.targets]
        return torch.from_numpy(cam(setting.images, wanted))


def torchcam(setting: Setting, kind: str, **options: Any) -> Tensor:
    from torchcam import methods as library

    with getattr(library, kind)(setting.network, setting.network.layer, **options) as cam:
        (found,) = cam(setting.targets.tolist(), setting.network(setting.images), normalized=False)
    return found


def ours(setting: Setting, method: str | Sequence[str], **params: Any) -> object:
    return vb.explain(setting.classifier, setting.images, setting.targets, method, **params)


def every_cam(setting: Setting) -> Sides:
    kinds = ("GradCAMElementWise", *CAMS.values())
    return Sides(
        partial(ours, setting, EVERY),
        lambda: [pytorch_grad_cam(setting, kind) for kind in kinds],
        lambda: agreed(setting, "pytorch-grad-cam", list(CAMS)),
    )


def four_cams(setting: Setting) -> Sides:
    return Sides(
        partial(ours, setting, list(TORCHCAMS)),
        lambda: [torchcam(setting, kind) for kind in TORCHCAMS.values()],
        lambda: agreed(setting, "torchcam", list(TORCHCAMS)),
    )


def silent_ablation(setting: Setting) -> Tensor:
    with agreement_cams.silent():
        return pytorch_grad_cam(setting, "AblationCAM", batch_size=64)


def ablation(setting: Setting) -> Sides:
    return Sides(
        partial(ours, setting, "ablation_cam"),
        partial(silent_ablation, setting),
        lambda: agreed(setting, "pytorch-grad-cam", ["ablation_cam"]),
    )


def general_ablation(setting: Setting) -> Sides:
    """As for a head that is no average and one linear layer."""

    def general() -> object:
        with patch("vexbench.methods.masking_cam.head_weights", side_effect=NotApplicable("")):
            return ours(setting, "ablation_cam")

    def same() -> str:
        closed, passed = ours(setting, "ablation_cam"), general()
        assert isinstance(closed, Tensor)
        assert isinstance(passed, Tensor)
        return f"with the closed form: {correlation(least_correlation(passed, closed))}"

    return Sides(general, partial(silent_ablation, setting), same)


def score_cam(setting: Setting) -> Sides:
    def theirs() -> Tensor:
        with torch.no_grad():
            return torchcam(setting, "ScoreCAM", batch_size=64)

    return Sides(partial(ours, setting, "score_cam"), theirs, lambda: agreed(setting, "torchcam", ["score_cam"]))


def captum(setting: Setting, kind: str, *, around: str = "", **options: Any) -> Tensor:
    from captum import attr as library

    method = getattr(library, kind)(setting.network)
    if around:
        method = getattr(library, around)(method)
    return method.attribute(setting.images.clone(), target=setting.targets, **options).detach()


def occlusion(setting: Setting) -> Sides:
    windows = {"sliding_window_shapes": (3, 15, 15), "strides": (3, 8, 8), "baselines": 0.5}
    together = max(1, 64 // len(setting.images))

    def our_map() -> Tensor:
        return vb.explain(
            setting.classifier, setting.images, setting.targets, "occlusion", patch=15, stride=8, baseline="grey"
        )

    def theirs() -> Tensor:
        return captum(setting, "Occlusion", perturbations_per_eval=together, **windows)[:, 0]

    return Sides(our_map, theirs, lambda: correlation(least_correlation(our_map(), theirs())))


def integrated_gradients(setting: Setting) -> Sides:
    options = {"method": "gausslegendre", "baselines": 0.0, "n_steps": 50, "internal_batch_size": 64}
    return Sides(
        partial(ours, setting, "integrated_gradients", steps=50),
        lambda: captum(setting, "IntegratedGradients", **options).sum(1),
        lambda: agreed(setting, "captum", ["integrated_gradients"], steps=50),
    )


def smooth_grad(setting: Setting) -> Sides:
    """One σ for all images of the call, as captum has it, and its fastest batch of those tried."""
    noisy = {"nt_type": "smoothgrad", "nt_samples": 25, "stdevs": 0.15, "abs": False}
    together = max(1, 64 // len(setting.images))
    return Sides(
        partial(ours, setting, "smooth_grad", samples=25),
        lambda: captum(setting, "Saliency", around="NoiseTunnel", nt_samples_batch_size=together, **noisy).abs(),
        lambda: f"{agreed(setting, 'captum', ['smooth_grad'], samples=25)}, given the same draws",
    )


CONTESTS = (
    Contest("cams", "seven gradient CAMs and Eigen-CAM", "pytorch-grad-cam", every_cam, 1.3, images=8, few=4),
    Contest("four cams", "of these, torchcam's four", "torchcam", four_cams, images=8, few=4),
    Contest("ablation", "Ablation-CAM, 512 channels", "pytorch-grad-cam", ablation, 1.5),
    Contest(
        "ablation, general", "the same by 512 passes behind the layer", "pytorch-grad-cam", general_ablation, rounds=3,
        memory=False,
    ),
    Contest("score", "Score-CAM, 512 channels", "torchcam", score_cam, 400, rounds=3, images=2),
    Contest("occlusion", "occlusion 15/8, 324 patches", "captum", occlusion, 170, rounds=3),
    Contest("ig", "integrated gradients, 50 steps", "captum", integrated_gradients, 112, rounds=3),
    Contest("smooth", "SmoothGrad, 25 samples", "captum", smooth_grad, 56, few=2),
)  # fmt: skip

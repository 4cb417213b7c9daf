"""Row 11 of the table: a whole comparison, by `vexbench.run` and by the peers in a loop."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from contest import Contest, Setting, Sides, difference
from contests_maps import captum, pytorch_grad_cam
from contests_metrics import (
    DRAWS,
    STEPS,
    correlated,
    correlation_agrees,
    explained,
    flipped,
    flipping_agrees,
    gradcam_road,
    quantus,
    road_agrees,
    scored,
)
from torch import Tensor

import vexbench as vb
from vexbench.datasets.base import Dataset

Precision = Literal["fp32", "bf16"]
CAMS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
}
METHODS = (
    *CAMS, "saliency", "input_x_gradient", {"name": "smooth_grad", "samples": 25},
    {"name": "integrated_gradients", "steps": 50},
)  # fmt: skip
SHARES, TILE, ORDERS = (25, 50, 75), 10, ("morf", "lerf")
REGIONS = STEPS // len(ORDERS)
METRICS = (
    {"name": "deletion", "steps": STEPS, "baseline": "black"},
    {"name": "morf_lerf_gap", "patch": TILE, "steps": REGIONS, "baseline": "black"},
    {"name": "faithfulness_correlation", "samples": DRAWS},
    {"name": "road", "order": "morf", "shares": ",".join(map(str, SHARES))},
    "sparseness",
    "relevance_rank_accuracy",
)


@dataclasses.dataclass(frozen=True)
class Given(Dataset):
    """Images that are there already, the evidence in the middle of each."""

    images: Any = None

    def image(self, index: int, size: int | None = None) -> np.ndarray:
        return self.images[index]

    def region(self, index: int, target: int, size: int) -> np.ndarray:
        return middle(size)


def middle(side: int) -> np.ndarray:
    where = np.zeros((side, side), bool)
    where[side // 3 : 2 * side // 3, side // 4 : 3 * side // 4] = True
    return where


def study(setting: Setting, precision: Precision) -> None:
    pixels = (setting.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    classes = tuple(f"class {number}" for number in range(10))

    @vb.dataset(family="drawn", title="Given images", paper="this script")
    def given_images(*, count: int = 0) -> Given:
        return Given(
            "given_images", "Given images", str(count), classes, tuple(map(str, range(count))), (-1,) * count, {},
            images=pixels,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        result = vb.run(
            vb.StudyConfig(
                datasets=[{"name": "given_images", "count": len(pixels)}], models=[setting.classifier],
                methods=METHODS, metrics=METRICS, precision=precision, out=Path(folder) / "study",
            )
        )  # fmt: skip
        assert not result.failures(), result.failures()


def their_maps(setting: Setting) -> list[Tensor]:
    noisy = {"nt_type": "smoothgrad", "nt_samples": 25, "nt_samples_batch_size": 4, "stdevs": 0.15, "abs": False}
    steps = {"method": "gausslegendre", "baselines": 0.0, "n_steps": 50, "internal_batch_size": 64}
    return [
        *(pytorch_grad_cam(setting, kind) for kind in CAMS.values()),
        captum(setting, "Saliency").amax(1),
        captum(setting, "InputXGradient").sum(1),
        captum(setting, "Saliency", around="NoiseTunnel", **noisy).abs().amax(1),
        captum(setting, "IntegratedGradients", **steps).sum(1).float(),
    ]


def their_scores(setting: Setting, maps: Tensor) -> None:
    where = np.broadcast_to(middle(maps.shape[1]), (len(maps), 1, *maps.shape[1:]))
    flipped(setting, maps)
    regions(setting, maps, TILE, REGIONS)
    correlated(setting, maps)
    gradcam_road(setting, maps, [100.0 - share for share in SHARES])
    looked_at("Sparseness", setting, maps.abs())
    looked_at("RelevanceRankAccuracy", setting, maps, where)


def regions(setting: Setting, maps: Tensor, tile: int, count: int) -> list[np.ndarray]:
    options = {"patch_size": tile, "regions_evaluation": count, "perturb_baseline": 0.0}
    args = ("RegionPerturbation", setting.network, setting.images, setting.targets, maps)
    return [np.array(quantus(*args, order=order, **options)) for order in ORDERS]


def looked_at(name: str, setting: Setting, maps: Tensor, where: np.ndarray | None = None) -> Tensor:
    import quantus as library

    metric = getattr(library, name)(abs=False, normalise=False, disable_warnings=True)
    x, y, a = setting.images.numpy().copy(), setting.targets.numpy(), maps[:, None].numpy().copy()
    return torch.tensor(np.array(metric(setting.network, x, y, a_batch=a, s_batch=where, device="cpu")))


def agreements(setting: Setting, precision: Precision) -> str:
    """Each metric of one map, on at most two images, at settings where both hide the same."""
    few = Setting(min(2, len(setting.images)))
    few.classifier.precision = precision
    maps, wide = explained(few.probe(), "saliency"), 30
    tiles = (maps.shape[1] // wide) ** 2
    falls = [np.pad(curve, ((0, 0), (1, 0))) for curve in regions(few, maps, wide, tiles)]
    gap = torch.tensor(np.trapezoid(falls[0] - falls[1], dx=1 / tiles, axis=1))
    ours = scored(few.probe(), maps, "morf_lerf_gap", patch=wide, steps=tiles, baseline="black")
    box = middle(maps.shape[1])
    where = torch.from_numpy(box).expand_as(maps)
    ranked = vb.evaluate(few.classifier, few.images, few.targets, maps, "relevance_rank_accuracy", regions=where)
    found = {
        "flipping": flipping_agrees(few, maps),
        "regions": difference(ours, gap),
        "correlation": correlation_agrees(few, maps),
        "ROAD": road_agrees(few, maps, [100.0 - share for share in SHARES]),
        "sparseness": difference(scored(few.probe(), maps, "sparseness"), looked_at("Sparseness", few, maps)),
        "rank": difference(ranked, looked_at("RelevanceRankAccuracy", few, maps, where.numpy()[:, None])),
    }
    return "; ".join(f"{name} {told}" for name, told in found.items())


def everything(setting: Setting) -> Sides:
    def theirs() -> None:
        for maps in their_maps(setting):
            their_scores(setting, maps)

    return Sides(lambda: study(setting, "fp32"), theirs, lambda: agreements(setting, "fp32"))


def halved(setting: Setting) -> Sides:
    return Sides(lambda: study(setting, "bf16"), lambda: study(setting, "fp32"), lambda: agreements(setting, "bf16"))


CONTESTS = (
    Contest(
        "study", "8 methods × 6 metrics", "pytorch-grad-cam, captum, Quantus", everything, 650, images=16, rounds=2, memory=False,
        note=(
            "ours is a whole `vexbench.run`, files and all. 4 CAMs, saliency, input × gradient, SmoothGrad 25, "
            "integrated gradients 50; pixel flipping 30, region perturbation 15 in each order, faithfulness correlation 50, "
            "ROAD 3, sparseness, rank accuracy. Their regions are the first fifteen tiles, ours all in fifteen steps: as "
            "many passes; agreement of metrics is of the same map of two images, regions all tiles of 30 px."
        ),
    ),
    Contest(
        "study-bf16", "the same with `--precision bf16`", "ours in fp32", halved, 380, images=16, rounds=2, memory=False,
        note=(
            "in units of a pass in fp32, agreement is with the libraries in fp32; what bf16 changes is told in "
            "docs/results/precision.md. It pays on processors with instructions for it."
        ),
    ),
)  # fmt: skip

"""Time our methods and the peers' on one network and the same images, interleaved, in units of one bare forward pass.

Prints a table and writes docs/results/peers.md and bench-results/peers.json. `--quick` makes fewer rounds.
"""

import argparse
import copy
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

import vexbench as vb

ROOT = Path(__file__).parents[1]
SIZE, COUNT = 150, 8


@dataclass(frozen=True)
class Contest:
    """One piece of work, done by us and by a peer; each returns maps (N, H, W)."""

    title: str
    peer: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    comparable: bool = True


def contests(network: nn.Module, images: Tensor, targets: list[int]) -> list[Contest]:
    """All pairs; the peers get a copy of the network, since some change it."""
    classifier = vb.Classifier(network, target_layer="layer4", class_names=[str(k) for k in range(1000)])
    theirs = copy.deepcopy(network)
    wanted = torch.tensor(targets)
    chosen = [ClassifierOutputTarget(target) for target in targets]

    def ours(method: str, **params: object) -> Callable[[], Tensor]:
        return lambda: vb.explain(classifier, images, targets, method, **params)

    def grad_cam(kind: type) -> Callable[[], Tensor]:
        tool = kind(theirs, [theirs.layer4])
        return lambda: torch.from_numpy(tool(images, chosen))

    def every_cam() -> Tensor:
        return torch.stack(
            list(vb.explain(classifier, images, targets, ["grad_cam", "grad_cam_plus_plus", "hires_cam"]).values())
        )

    cams = [grad_cam(kind) for kind in (GradCAM, GradCAMPlusPlus, HiResCAM)]
    grey = torch.full_like(images, 0.5)
    occlusion, path = Occlusion(theirs), IntegratedGradients(theirs)
    return [
        Contest("Grad-CAM", "pytorch-grad-cam", ours("grad_cam"), cams[0]),
        Contest("Grad-CAM++", "pytorch-grad-cam", ours("grad_cam_plus_plus"), cams[1], comparable=False),
        Contest("HiResCAM", "pytorch-grad-cam", ours("hires_cam"), cams[2]),
        Contest(
            "three CAMs together",
            "pytorch-grad-cam",
            every_cam,
            lambda: torch.stack([cam() for cam in cams]),
            comparable=False,
        ),
        Contest("saliency", "captum", ours("saliency"), lambda: Saliency(theirs).attribute(images, wanted).amax(1)),
        Contest(
            "Integrated Gradients, 50 steps",
            "captum",
            ours("integrated_gradients"),
            lambda: path.attribute(images, target=wanted, n_steps=50, internal_batch_size=64).sum(1).float(),
        ),
        Contest(
            "SmoothGrad, 25 samples",
            "captum",
            ours("smooth_grad"),
            lambda: (
                NoiseTunnel(Saliency(theirs))
                .attribute(images, nt_samples=25, nt_samples_batch_size=8, stdevs=0.15, abs=False, target=wanted)
                .abs()
                .amax(1)
            ),
            comparable=False,
        ),
        Contest(
            "occlusion, patch 15, stride 8",
            "captum",
            ours("occlusion"),
            lambda: occlusion.attribute(
                images, (3, 15, 15), (3, 8, 8), baselines=grey, target=wanted, perturbations_per_eval=8
            )[:, 0],
        ),
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """The smallest correlation of any image's two maps, at the size of the smaller."""
    theirs = functional.interpolate(theirs[:, None].float(), ours.shape[1:], mode="bilinear")[:, 0]
    return min(float(np.corrcoef(a.flatten(), b.flatten())[0, 1]) for a, b in zip(ours, theirs.detach(), strict=True))


def main() -> None:
    """Run all contests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    rounds = 3 if parser.parse_args().quick else 7
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    network = resnet18().eval()
    images, targets = torch.rand(COUNT, 3, SIZE, SIZE), list(range(COUNT))

    def bare() -> None:
        with torch.no_grad():
            network(images)

    bare()
    rows = []
    for contest in contests(network, images, targets):
        same = agreement(contest.ours(), contest.theirs()) if contest.comparable else None
        ratios = []
        for _ in range(rounds):
            unit = median(seconds(bare) for _ in range(3))
            ratios.append((seconds(contest.ours) / unit, seconds(contest.theirs) / unit))
        mine, other = (median(column) for column in zip(*ratios, strict=True))
        gain = [b / a for a, b in ratios]
        low, _, high = quantiles(gain, n=4)
        rows.append(
            {"work": contest.title, "peer": contest.peer, "ours": mine, "theirs": other, "gain": median(gain),
             "gain_low": low, "gain_high": high, "agreement": same}
        )  # fmt: skip
        print(
            f"{contest.title:32} ours {mine:7.2f}   {contest.peer} {other:7.2f}   {median(gain):5.2f}× "
            f"[{low:.2f}, {high:.2f}]   correlation {'–' if same is None else f'{same:.5f}'}",
            flush=True,
        )
    head = (
        f"resnet18 with random weights, {COUNT} images of {SIZE} px, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    lines = [
        "# Time against the peers", "",
        f"`make bench`: {head}; in units of one bare forward pass of the same batch, medians of {rounds} interleaved rounds.", "",
        "| work | ours | peer | peer's | gain (quartiles) | least correlation of maps |", "|---|---|---|---|---|---|",
        *(
            f"| {r['work']} | {r['ours']:.2f} | {r['peer']} | {r['theirs']:.2f} | {r['gain']:.2f} ({r['gain_low']:.2f}–{r['gain_high']:.2f}) | "
            f"{'not compared here' if r['agreement'] is None else format(r['agreement'], '.5f')} |"
            for r in rows
        ),
    ]  # fmt: skip
    (ROOT / "docs/results").mkdir(exist_ok=True)
    (ROOT / "docs/results/peers.md").write_text("\n".join(lines) + "\n")
    (ROOT / "bench-results").mkdir(exist_ok=True)
    (ROOT / "bench-results/peers.json").write_text(json.dumps({"conditions": head, "rows": rows}, indent=2))


main()

"""How the cost grows with images, methods, masks, the images' size and the network: writes docs/results/scaling.md.

    python benchmarks/scaling.py [--rows images masks]

Every piece of work is timed between bare passes, as in benchmarks/contest.py, and told in bare passes of the reference:
resnet18, eight images of 150 px. An exponent is the slope of a straight line through the logarithms.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
import timm
import torch
from agreement_table import blobs, quiet, random_weights
from contest import SIZE, Setting, bare, clock, conditions, root
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from torchvision import models

import vexbench as vb
from vexbench.report.words import number

PAGE = root() / "docs/results/scaling.md"
ROUNDS, LONG, SMALL = 3, 20.0, 96
NETWORKS = ("mobilenet_v3_small", "resnet18", "vgg11_bn", "tf_efficientnet_lite0")
MIXED = (
    "grad_cam", "saliency", {"name": "smooth_grad", "samples": 4}, {"name": "integrated_gradients", "steps": 8},
    {"name": "rise", "masks": 32},
)  # fmt: skip
TWENTY = (
    "grad_cam", "saliency", "input_x_gradient", "layer_cam", "hires_cam", "guided_backprop", "eigen_cam", "deconvnet",
    "grad_cam_plus_plus", "xgrad_cam", "guided_grad_cam", "full_grad", "eigen_grad_cam", "cam", "ablation_cam",
    "finer_cam", "random", "lrp_epsilon", "excitation_backprop", "contrastive_excitation_backprop",
)  # fmt: skip
METRICS = (
    {"name": "deletion", "steps": 10}, {"name": "faithfulness_correlation", "samples": 30},
    {"name": "infidelity", "samples": 30}, {"name": "max_sensitivity", "samples": 4}, {"name": "mprt", "stages": 4},
    "sparseness",
)  # fmt: skip
Point = tuple[float | str, Callable[[], object]]


def mixed(classifier: vb.Classifier, images: torch.Tensor) -> None:
    """Five methods of several families; targets are what the network predicts."""
    targets = classifier.logits(images[:1]).detach().argmax(1).expand(len(images))
    for method in MIXED:
        choice = {"name": method} if isinstance(method, str) else dict(method)
        vb.explain(classifier, images, targets, choice.pop("name"), **choice)


def over_images(setting: Setting) -> Iterator[Point]:
    for count in (32, 64, 128, 256, 512):
        yield count, partial(mixed, setting.classifier, blobs(count, SMALL))


def over_methods(setting: Setting) -> Iterator[Point]:
    images = (blobs(16, SMALL) * 255).byte().permute(0, 2, 3, 1).numpy()
    for count in (1, 2, 5, 10, 20):
        yield count, partial(study, setting.classifier, images, TWENTY[:count])


def study(classifier: vb.Classifier, pixels: np.ndarray, methods: Sequence[str]) -> None:
    from contests_study import Given

    @vb.dataset(family="drawn", title="Given images", paper="this script")
    def given_images(*, count: int = 0) -> Given:
        ids, classes = tuple(map(str, range(count))), tuple(f"class {number}" for number in range(10))
        return Given("given_images", "Given images", str(count), classes, ids, (-1,) * count, {}, images=pixels)

    with tempfile.TemporaryDirectory() as folder:
        result = vb.run(
            vb.StudyConfig(
                datasets=[{"name": "given_images", "count": len(pixels)}], models=[classifier], methods=methods,
                metrics=METRICS, out=Path(folder) / "study",
            )
        )  # fmt: skip
        if failures := result.failures():
            raise SystemExit(f"not computed: {failures}")


def over_masks(setting: Setting) -> Iterator[Point]:
    images, targets = setting.images[:4], setting.targets[:4]
    for count in (64, 128, 256, 512, 1024):
        yield count, partial(vb.explain, setting.classifier, images, targets, "rise", masks=count)


def over_sizes(setting: Setting) -> Iterator[Point]:
    for side in (96, 128, 160, 224, 320):
        yield side, partial(mixed, setting.classifier, blobs(8, side))


def over_networks(_: Setting) -> Iterator[Point]:
    images = blobs(8, SIZE)
    for name in NETWORKS:
        classifier = network(name)

        def work(classifier: vb.Classifier = classifier) -> None:
            mixed(classifier, images)

        def own(classifier: vb.Classifier = classifier) -> None:
            with torch.no_grad():
                classifier.module(classifier.normalise(images))

        yield name, work
        yield f"{name}, bare", own


def network(name: str) -> vb.Classifier:
    if name in ("resnet18", "vgg11_bn"):
        return random_weights(name)
    torch.manual_seed(0)
    build = models.get_model if hasattr(models, name) else timm.create_model
    return vb.Classifier(build(name, num_classes=10).eval())


CURVES = {
    "images": (over_images, f"images of {SMALL} px, five methods"),
    "methods": (over_methods, f"methods, a study of 16 images of {SMALL} px with {len(METRICS)} metrics"),
    "masks": (over_masks, f"masks of RISE, 4 images of {SIZE} px"),
    "size": (over_sizes, "pixels a side, 8 images, five methods"),
    "network": (over_networks, f"network, 8 images of {SIZE} px, five methods"),
}


def timed(points: Iterator[Point], setting: Setting) -> list[tuple[float | str, float]]:
    """Each point's median of rounds, in bare passes of the reference; what takes long is done once."""
    works, ratios = dict(points), dict[float | str, list[float]]()
    for _ in range(ROUNDS):
        for key, work in list(works.items()):
            before, taken = bare(setting), clock(work)
            ratios.setdefault(key, []).append(taken.wall / mean((before.wall, bare(setting).wall)))
            if taken.wall > LONG:
                del works[key]
    return [(key, median(values)) for key, values in ratios.items()]


def exponent(found: Sequence[tuple[float | str, float]]) -> float:
    """The slope of the logarithms."""
    sizes, costs = zip(*found, strict=True)
    return float(np.polyfit(np.log(np.array(sizes, dtype=float)), np.log(costs), 1)[0])


def told(key: str, found: list[tuple[float | str, float]]) -> str:
    """A curve as Markdown."""
    heading = f"## Over {CURVES[key][1]}\n\n"
    if key == "network":
        costs = dict(found)
        rows = [
            f"| {name} | {costs[name]:.3g} | {costs[f'{name}, bare']:.3g} | "
            f"{costs[name] / costs[f'{name}, bare']:.3g} |"
            for name in NETWORKS
        ]
        head = ["| network | cost | its own bare pass | cost in its own bare passes |", "|---|---|---|---|"]
        return heading + "\n".join([*head, *rows])
    first = found[0][1]
    rows = [f"| {size:g} | {number(cost)} | {cost / first:.2f} |" for size, cost in found if not isinstance(size, str)]
    head = [f"| {key} | cost | over the first |", "|---|---|---|"]
    return f"{heading}Exponent **{exponent(found):.2f}**.\n\n" + "\n".join([*head, *rows])


def picture(curves: dict[str, list[tuple[float | str, float]]]) -> None:
    """All curves but the networks', on logarithmic axes, beside the page."""
    figure = Figure(figsize=(10, 2.8), dpi=160, layout="constrained")
    for axes, (key, found) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        sizes, costs = zip(*found, strict=True)
        axes.loglog(sizes, costs, "o-", ms=4, color="#0072B2")
        axes.set_title(f"{key}, exponent {exponent(found):.2f}", loc="left", fontsize=10)
        axes.set_xticks(sizes, map(str, sizes))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("cost, bare passes of resnet18")
    figure.savefig(PAGE.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=[*CURVES], help="only these; writes no page")
    arguments = parser.parse_args()
    setting, curves = Setting(8), dict[str, list[tuple[float | str, float]]]()
    with quiet():
        for key in arguments.rows or CURVES:
            curves[key] = timed(CURVES[key][0](setting), setting)
            print(told(key, curves[key]), "\n", flush=True)
    if not arguments.rows:
        head = (
            "# How the cost grows\n\n"
            f"`python benchmarks/scaling.py`: {conditions()}. Cost in bare passes of eight images of {SIZE} px through resnet18,\n"
            f"medians of {ROUNDS} rounds, one of what takes more than {LONG:g} s. The five methods: Grad-CAM, saliency, SmoothGrad 4, integrated gradients 8, RISE 32.\n\n"
            "![Cost over images, methods, masks and size, on logarithmic axes](scaling.png)"
        )
        parts = [told(key, found) for key, found in curves.items()]
        picture({key: found for key, found in curves.items() if key != "network"})
        PAGE.write_text("\n\n".join([head, *parts]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Do fixed fill and noisy linear imputation rank methods alike, and MoRF and LeRF? As Rong et al. 2022 ask: writes docs/results/road.md.

    python benchmarks/road.py --model runs/intel-plain --root ../shared/data/intel [--per-class 6]

The Intel CNN, test photographs, the predicted classes, each method at its defaults but for those in SETTINGS.
"""

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

import vexbench as vb
from vexbench.perturb.imputation import linear

PAGE = Path(__file__).parents[1] / "docs/results/road.md"
SETTINGS = {
    "saliency": {},
    "input_x_gradient": {},
    "guided_backprop": {},
    "integrated_gradients": {"steps": 20},
    "smooth_grad": {"samples": 10},
    "smooth_grad_squared": {"samples": 10},
    "var_grad": {"samples": 10},
    "grad_cam": {},
    "grad_cam_plus_plus": {},
    "layer_cam": {},
    "eigen_cam": {},
    "lrp_epsilon_plus_flat": {},
    "excitation_backprop": {},
    "random": {},
    "centre_gaussian": {},
    "sobel_edges": {},
}
SHARES = (10, 20, 30, 40, 50, 70, 90)
FILLS = {"fixed": "mean", "linear": "noisy_linear"}
ORDERS = ("morf", "lerf")
PAPER = {"fixed": 0.14, "linear": 0.86}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=6)
    arguments = parser.parse_args()
    classifier = vb.load_classifier(arguments.model)
    photographs = vb.datasets()["intel"].function(root=str(arguments.root), per_class=arguments.per_class)
    side = classifier.input_size or 150
    pixels = np.stack([photographs.image(index, side) for index in range(len(photographs))])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    targets = vb.Probe(classifier, images).targets
    curves = {}  # output, fill, order: (methods, images, shares)
    for name, settings in SETTINGS.items():
        start = time.perf_counter()
        maps = vb.explain(classifier, images, targets, name, **settings)
        for output in ("accuracy", "probability"):
            for fill, baseline in FILLS.items():
                for order in ORDERS:
                    options = {"order": order, "baseline": baseline, "output": output}
                    scores = [
                        vb.evaluate(classifier, images, targets, maps, "road", shares=str(share), **options)
                        for share in SHARES
                    ]
                    curves.setdefault((output, fill, order), []).append(torch.stack(scores, 1).numpy())
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    page = written(curves, arguments, len(images), side, cost(classifier, images[:4], targets[:4], maps[:4]))
    PAGE.write_text(page, encoding="utf-8")
    print(page)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of the methods' means, at each share, averaged over the shares."""
    pairs = zip(first.mean(1).T, second.mean(1).T, strict=True)
    return float(np.mean([spearmanr(*pair).statistic for pair in pairs if np.ptp(pair[0]) and np.ptp(pair[1])]))


def written(curves: dict, arguments: argparse.Namespace, count: int, side: int, timing: str) -> str:
    stacked = {key: np.stack(rows) for key, rows in curves.items()}  # MoRF with its sign turned: higher is better
    source = np.random.default_rng(0)
    samples = source.integers(0, count, (500, count))
    lines = []
    for (fill, order), (other_fill, other_order) in combinations([(f, o) for o in ORDERS for f in FILLS], 2):
        cells = []
        for output in ("accuracy", "probability"):
            first, second = stacked[output, fill, order], stacked[output, other_fill, other_order]
            spread = [agreement(first[:, rows], second[:, rows]) for rows in samples]
            low, high = np.nanquantile(spread, (0.025, 0.975))
            cells.append(f"{agreement(first, second):+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append(f"| {name_of(order)}, {fill} | {name_of(other_order)}, {other_fill} | {cells[0]} | {cells[1]} |")
    table = [
        f"| `{name}` | "
        + " | ".join(
            f"{sign * stacked['accuracy', fill, order][number].mean():.3f}"
            for order, sign in (("morf", -1), ("lerf", 1))
            for fill in FILLS
        )
        + " |"
        for number, name in enumerate(SETTINGS)
    ]
    same, place, control = {}, {}, list(SETTINGS).index("random")
    for fill in FILLS:
        same[fill] = agreement(stacked["accuracy", fill, "morf"], stacked["accuracy", fill, "lerf"])
        means = stacked["accuracy", fill, "morf"].mean((1, 2))
        place[fill] = 1 + int((means > means[control]).sum())
    finding = (
        f"Here, of accuracy: {same['fixed']:+.2f} with fixed fill, {same['linear']:+.2f} with linear imputation. By its "
        f"MoRF curve the random control is number {place['fixed']} of {len(SETTINGS)} methods with fixed fill, and number "
        f"{place['linear']} with linear imputation."
    )
    command = (
        f"python benchmarks/road.py --model {arguments.model} --root {arguments.root} --per-class {arguments.per_class}"
    )
    return f"""# ROAD: do two fillings, and two orders, rank methods alike?

`{command}`: the plain CNN trained on the Intel photographs, {count} of its test photographs at {side} px, the predicted classes,
{len(SETTINGS)} methods, with fewer samples for those that draw (`SETTINGS` in the script).

## Rank agreement

Spearman's correlation between the methods' mean scores, at each of the shares {", ".join(map(str, SHARES))} %, averaged over the shares;
in brackets the 95 % interval of a bootstrap over photographs. `fixed` fills hidden pixels with the image's mean colour, `linear` by noisy linear
imputation. MoRF hides the most relevant pixels first (a lower curve is better), LeRF the least relevant (a higher one is); both are turned so that +1
is full agreement on which method is better.

| curve | and curve | of accuracy | of probability |
|---|---|---|---|
{chr(10).join(lines)}

## Beside the paper's figures

Rong et al. 2022 report, for MoRF on CIFAR-10 with ResNet-18, how well the ranking *with* retraining the network on the changed images agrees with the
ranking *without* it: {PAPER["fixed"]:.2f} with fixed fill, {PAPER["linear"]:.2f} with noisy linear imputation.

**Not comparable:** nothing is retrained here, so none of the rows above is that figure; network, photographs, image size and methods differ too, and the
paper's fixed fill is one colour for the whole data set.

**Comparable in kind:** the paper's second question, whether MoRF and LeRF agree, is the rows that pair the two orders with the same filling. By the
paper's argument fixed fill lets the shape of the mask leak into the score, so that rankings hang on the procedure; a ranking that does not should agree
more under linear imputation. {finding}

`layer_cam` and `excitation_backprop` rank the pixels alike on this network, whose head is a mean and a linear layer, and count as two methods.

## Accuracy, mean over the shares

| method | MoRF fixed ↓ | MoRF linear ↓ | LeRF fixed ↑ | LeRF linear ↑ |
|---|---|---|---|---|
{chr(10).join(table)}

## What it costs

{timing}
"""


def name_of(order: str) -> str:
    return {"morf": "MoRF", "lerf": "LeRF"}[order]


def cost(classifier: vb.Classifier, images: torch.Tensor, targets: torch.Tensor, maps: torch.Tensor) -> str:
    """Imputation at nine shares, and the metric, over one pass of resnet18 at 150 px: medians of interleaved rounds."""
    from torch.nn import functional
    from torchvision.models import resnet18

    network = vb.Classifier(resnet18(num_classes=6).eval(), class_names="abcdef", target_layer="layer4")
    images = functional.interpolate(images, (150, 150), mode="bilinear")
    fields = {
        "smooth map": functional.interpolate(
            torch.rand(len(images), 1, 5, 5, generator=torch.Generator().manual_seed(0)), (150, 150), mode="bilinear"
        )[:, 0],
        "pixel noise": torch.rand(len(images), 150, 150, generator=torch.Generator().manual_seed(0)),
    }
    shares = range(10, 100, 10)
    times: dict[str, list[float]] = {}

    def clock(label: str, work) -> None:
        start = time.perf_counter()
        work()
        times.setdefault(label, []).append((time.perf_counter() - start) / len(images))

    for _ in range(5):
        clock("pass", lambda: vb.Probe(network, images, targets).logits)
        for label, field in fields.items():
            masks = [
                (field <= field.flatten(1).quantile(1 - share / 100, dim=1)[:, None, None]).float() for share in shares
            ]
            clock(f"{label}: nine imputations", lambda: [linear(images, mask) for mask in masks])  # noqa: B023
            options = {"shares": ",".join(map(str, shares)), "order": "morf"}
            clock(
                f"{label}: `road` of one order, nine shares",
                lambda: vb.evaluate(network, images, targets, field, "road", **options),  # noqa: B023
            )
    unit = np.median(times.pop("pass"))
    rows = "\n".join(f"| {label} | {np.median(taken) / unit:.1f} |" for label, taken in times.items())
    return (
        f"resnet18 with random weights, {len(images)} images of 150 px, {torch.get_num_threads()} threads; per image, over "
        f"one forward pass of the same batch ({unit * 1000:.1f} ms).\n\n| work | passes' worth of time |\n|---|---|\n{rows}"
    )


if __name__ == "__main__":
    main()

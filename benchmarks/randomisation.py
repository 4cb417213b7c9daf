"""How maps change as the demo network is randomised layer by layer: the curves of MPRT, and the other sanity checks.

Twelve drawn scenes, two of each class. Prints the tables and writes docs/results/randomisation.md.
"""

from pathlib import Path

import torch

import vexbench as vb
from vexbench.datasets.scenes import scenes
from vexbench.explaining import maps_of, reexplain
from vexbench.metrics.randomisation import mprt_curve
from vexbench.models.surgery import layers
from vexbench.registry import METHODS, METRICS

PAGE = Path(__file__).parents[1] / "docs/results/randomisation.md"
CHOSEN = ("guided_backprop", "guided_grad_cam", "grad_cam", "saliency", "input_x_gradient", "deep_lift", "sobel_edges")
OTHERS = ("efficient_mprt", "random_logit", "data_randomisation")


def main() -> None:
    drawn = scenes(split="test", per_class=2, size=96)
    images = torch.stack([torch.from_numpy(drawn.image(index)) for index in range(len(drawn))])
    probe = vb.Probe(vb.demo_classifier(), images.permute(0, 3, 1, 2).float() / 255, list(drawn.labels))
    names = [name for name, _ in layers(probe.classifier, probe.images)]
    lines = [
        "# Sanity checks on the demo network",
        "",
        "`python benchmarks/randomisation.py`: twelve drawn scenes, SSIM with the map of the network as it is, mean.",
        "Lower is better, but for the rise of entropy: a map that stays has not looked at what was randomised.",
        "",
        "As Adebayo et al. 2018 report, top-down: with the logits and the last block random, guided backprop's map is",
        "nearly what it was, and Grad-CAM's is another one; it fades only as the layers near the image go. Bottom-up, it",
        "changes at the first layer: it shows what the first filters respond to, more than what the network makes of it.",
    ]
    for order in ("top_down", "bottom_up"):
        shown = names[::-1] if order == "top_down" else names
        lines += ["", f"## MPRT, {order.replace('_', '-')}", ""]
        lines += [f"| method | {' | '.join(shown)} | mean |", "|---" * (len(shown) + 2) + "|"]
        for name in CHOSEN:
            choice = METHODS[name].bind()
            curve = mprt_curve(maps_of(probe, choice), probe, reexplain(choice), order=order).mean(0)
            points = " | ".join(f"{value:.2f}" for value in curve)
            lines.append(f"| {name} | {points} | **{curve.mean():.2f}** |")
    lines += ["", "## The others", "", f"| method | {' | '.join(OTHERS)} |", "|---" * (len(OTHERS) + 1) + "|"]
    for name in CHOSEN:
        choice = METHODS[name].bind()
        maps, explain = maps_of(probe, choice), reexplain(choice)
        found = [METRICS[other].function(maps, probe, explain).nanmean() for other in OTHERS]
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in found)} |")
    print("\n".join(lines))
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The taxonomy of the methods as a tree: the paper's four headings and what lies beyond them."""

import re
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vexbench.report.palette import FAMILIES, LIGHT, family
from vexbench.report.svg import Chart, drawing
from vexbench.report.words import listing, plural, short
from vexbench.results.record import MethodRecord

WIDTH, ROW = 11.25, 0.172

TREE: dict[str, dict[str, str]] = {
    "gradient": {
        "saliency": "Saliency",
        "input_x_gradient": "Input × gradient",
        "guided_backprop": "Guided backprop",
        "full_grad": "FullGrad",
        "guided_grad_cam": "Guided Grad-CAM",
    },
    "path": {
        "integrated_gradients": "Integrated Gradients",
        "expected_gradients": "Expected gradients",
        "guided_ig": "Guided IG",
        "blur_ig": "Blur IG",
        "idgi": "IDGI",
    },
    "cam": {
        "cam": "CAM",
        "grad_cam": "Grad-CAM",
        "grad_cam_plus_plus": "Grad-CAM++",
        "xgrad_cam": "XGrad-CAM",
        "hires_cam": "HiResCAM",
        "layer_cam": "LayerCAM",
        "eigen_cam": "EigenCAM",
        "eigen_grad_cam": "EigenGradCAM",
        "finer_cam": "Finer-CAM",
    },
    "perturbation": {
        "smooth_grad": "SmoothGrad",
        "smooth_grad_squared": "SmoothGrad²",
        "var_grad": "VarGrad",
        "occlusion": "Occlusion",
        "deconvnet": "DeconvNet",
        "score_cam": "Score-CAM",
        "ablation_cam": "Ablation-CAM",
        "rise": "RISE",
        "extremal_perturbation": "Extremal perturb.",
        "lime": "LIME",
        "sobol": "Sobol",
        "ss_cam": "SS-CAM",
        "is_cam": "IS-CAM",
        "smooth_grad_cam_plus_plus": "Smooth Grad-CAM++",
        "kernel_shap": "Kernel SHAP",
    },
    "synthesis": {
        "deep_dream": "DeepDream",
        "class_visualisation": "Class visualisation",
        "feature_visualisation": "Feature visualisation",
    },
    "attention": {
        "sag_cam": "SAG-CAM",
        "attention_map": "Attention map",
        "excitation_backprop": "Excitation backprop",
        "contrastive_excitation_backprop": "Contrastive excitation",
    },
    "propagation": {
        "lrp_epsilon": "LRP-ε",
        "lrp_epsilon_plus_flat": "LRP-ε⁺ flat",
        "lrp_alpha2_beta1": "LRP-α₂β₁",
        "deep_lift": "DeepLIFT",
        "lrp_epsilon_gamma_box": "LRP-ε-γ box",
        "deep_lift_shap": "DeepLIFT SHAP",
    },
    "control": {
        "random": "Random",
        "centre_gaussian": "Centre Gaussian",
        "sobel_edges": "Sobel edges",
        "input_intensity": "Input intensity",
        "degraded": "Degraded",
    },
}


def taxonomy(methods: Sequence[MethodRecord]) -> Chart:
    """The tree, with the methods of the study filled in; one that the tree lacks is added to its family."""
    leaves = {kind: dict(names) for kind, names in TREE.items()}
    for method in methods:
        leaves.setdefault(method.family, {}).setdefault(method.id, method.title)
    run = {method.id for method in methods}
    kinds = [kind for kind in (*FAMILIES, *sorted(set(leaves) - set(FAMILIES))) if kind in leaves]
    depth = max(len(names) for names in leaves.values())
    with drawing():
        figure = Figure((WIDTH, 0.95 + ROW * depth))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        widths = [max(15, *map(len, leaves[kind].values())) + 4 for kind in kinds]
        starts = [sum(widths[:column]) for column in range(len(kinds) + 1)]
        axes.set_xlim(-1, starts[-1] + 2)
        axes.set_ylim(depth + 0.6, -4.8)
        headings: dict[str, list[tuple[int, int]]] = {}
        for kind, ends in zip(kinds, pairwise(starts)):
            headings.setdefault(family(kind).heading, []).append(ends)
            _column(axes, ends, kind, leaves[kind], run)
        tops = [(columns[0][0] + columns[-1][1]) / 2 - 2 for columns in headings.values()]
        middle = (tops[0] + tops[-1]) / 2
        _line(axes, [tops[0], tops[-1]], [-3.65, -3.65])
        axes.text(middle, -4.35, "Visual explanation methods", ha="center", va="center", fontweight="bold")
        _line(axes, [middle, middle], [-4.0, -3.65])
        for top, (heading, columns) in zip(tops, headings.items()):
            _line(axes, [top, top], [-3.65, -3.35])
            text = re.sub(r"[ -](?=\w+$)", "-\n" if "-" in heading else "\n", heading) if len(columns) == 1 else heading
            axes.text(top, -2.6, text, ha="center", va="center", fontweight="bold", fontsize=7.2, linespacing=1.05)
            if len(columns) > 1:
                centres = [sum(ends) / 2 - 2 for ends in columns]
                _line(axes, [centres[0], centres[-1]], [-1.95, -1.95])
                _line(axes, [top, top], [-2.25, -1.95])
    shown = [method.title for method in methods]
    return Chart(
        "taxonomy",
        "The methods and their kin",
        "Filled markers are the methods of this study, hollow ones are known to the field. The four headings on the "
        "left are those of Lim & Eid (2023); the others lie beyond them.",
        f"Tree of {plural(sum(map(len, leaves.values())), 'method')} under {plural(len(headings), 'heading')}: "
        f"{', '.join(headings)}. In this study: {listing(shown, most=60)}.",
        figure,
    )


def _column(axes: Axes, ends: tuple[int, int], kind: str, names: dict[str, str], run: set[str]) -> None:
    look, x, middle = family(kind), ends[0] + 1, sum(ends) / 2 - 2
    if sum(other.heading == look.heading for other in FAMILIES.values()) > 1:
        axes.text(middle, -1.35, look.title.lower(), ha="center", va="center", color=LIGHT["muted"], fontsize=7.2)
        _line(axes, [middle, middle], [-1.95, -1.75])
    _line(axes, [x, x], [-0.75, len(names) - 1])
    _line(axes, [x, middle, middle], [-0.75, -0.75, -1.0])
    for row, (name, title) in enumerate(names.items()):
        inside = name in run
        axes.plot(
            [x],
            [row],
            marker=look.marker,
            markersize=5.5 if inside else 4,
            markerfacecolor=look.light if inside else LIGHT["paper"],
            markeredgecolor=LIGHT["ink"] if inside else look.light,
            markeredgewidth=0.5 if inside else 0.9,
            zorder=3,
        )
        weight, colour = ("bold", LIGHT["ink"]) if inside else ("normal", LIGHT["muted"])
        axes.text(x + 1.6, row + 0.03, short(title, 24), va="center", fontsize=6.7, color=colour, fontweight=weight)


def _line(axes: Axes, x: Sequence[float | int], y: Sequence[float | int]) -> None:
    axes.plot(x, y, color=LIGHT["line"], linewidth=1, solid_joinstyle="round", zorder=1)

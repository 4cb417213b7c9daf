"""How thoroughly methods and metrics sample: two settings by one word, and spans of time as a person writes them."""

import re
from collections.abc import Mapping
from typing import Any, Final

from vexbench.errors import VexbenchError

Settings = Mapping[str, Mapping[str, Any]]

COUNTS: Final[tuple[tuple[str, str, Any, Any], ...]] = (
    # method, metric or synthesis; parameter; quick; paper
    ("integrated_gradients", "steps", 20, 50),
    ("expected_gradients", "samples", 20, 200),
    ("guided_ig", "steps", 40, 200),
    ("blur_ig", "steps", 20, 100),
    ("idgi", "steps", 20, 50),
    ("ss_cam", "samples", 2, 35),
    ("is_cam", "steps", 2, 10),
    ("smooth_grad_cam_plus_plus", "samples", 10, 25),
    ("rise", "masks", 500, 4000),
    ("sobol", "samples", 8, 32),
    ("extremal_perturbation", "steps", 50, 800),
    ("smooth_grad", "samples", 10, 25),
    ("smooth_grad_squared", "samples", 10, 25),
    ("var_grad", "samples", 10, 25),
    ("lime", "samples", 200, 1000),
    ("kernel_shap", "samples", 200, 1000),
    ("deep_lift_shap", "samples", 4, 8),
    ("deletion", "steps", 16, 32),
    ("insertion", "steps", 16, 32),
    ("morf_lerf_gap", "steps", 16, 32),
    ("road", "shares", "10,30,50,70", "10,20,30,40,50,70,90"),
    ("irof", "segments", 36, 100),
    ("faithfulness_correlation", "samples", 25, 100),
    ("sensitivity_n", "sizes", 3, 5),
    ("sensitivity_n", "samples", 25, 100),
    ("faithfulness_estimate", "count", 36, 64),
    ("monotonicity", "steps", 16, 32),
    ("infidelity", "samples", 25, 1000),
    ("f_fidelity", "steps", 5, 20),
    ("f_fidelity", "samples", 5, 50),
    ("max_sensitivity", "samples", 3, 10),
    ("average_sensitivity", "samples", 3, 10),
    ("local_lipschitz", "samples", 3, 10),
    ("relative_input_stability", "samples", 3, 10),
    ("relative_output_stability", "samples", 3, 10),
    ("relative_representation_stability", "samples", 3, 10),
    ("adversarial_stability", "steps", 2, 5),
    ("mprt", "stages", 3, 0),
    ("smooth_mprt", "samples", 3, 50),
    ("smooth_mprt", "stages", 1, 0),
    ("deep_dream", "steps", 10, 20),
    ("class_visualisation", "steps", 60, 160),
    ("feature_visualisation", "steps", 60, 160),
)
"""What the presets set.

quick: so many samples that methods of an hour take minutes, and maps can still be told from noise.
paper: what the papers, or their authors' code, take where they say so; else our defaults.
"""


def _settings(column: int) -> Settings:
    found = dict[str, dict[str, Any]]()
    for name, parameter, *counts in COUNTS:
        found.setdefault(name, {})[parameter] = counts[column]
    return found


PRESETS: Final[Mapping[str, Settings]] = {"quick": _settings(0), "paper": _settings(1)}

SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(span: str) -> float:
    """Seconds of a span of time.

    >>> seconds_of("90s"), seconds_of("1.5h")
    (90.0, 5400.0)

    Raises
    ------
    VexbenchError
        It is no number above zero with a unit.
    """
    told = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", span)
    if told is None or not float(told[1]):
        raise VexbenchError(f"a budget is a number with a unit, such as 90s, 30m or 2h, not '{span}'.")
    return float(told[1]) * SECONDS[told[2]]


def span_of(seconds: float) -> str:
    """Seconds as a person says them.

    >>> span_of(4.2), span_of(75.0), span_of(5400.0)
    ('4.2 s', '75 s', '1.5 h')
    """
    for limit, size, unit in ((10, 1, "s"), (120, 1, "s"), (7200 * 0.75, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.{1 if limit == 10 else 0}f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 200 * 3600 else f"{seconds / 86400:.0f} days"

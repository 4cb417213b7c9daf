"""Colours, signs and words: one colour and one marker per family of methods, the same in every chart.

The family colours are Okabe and Ito's, which colour-blind readers tell apart; each family has a marker of its own too.
Charts are drawn in the light theme's colours; in the page each becomes a CSS variable, so that dark mode is one rule.
"""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Family:
    """How a family of methods looks; `heading` is where the paper's taxonomy has it."""

    title: str
    heading: str
    light: str
    dark: str
    marker: str


LIGHT = {"paper": "#ffffff", "ink": "#1b1d25", "muted": "#5a6072", "line": "#d8dbe4", "accent": "#3b5bdb"}
DARK = {"paper": "#15171d", "ink": "#e9eaf0", "muted": "#a5abbc", "line": "#363b48", "accent": "#8fa6ff"}

FAMILIES = {
    "gradient": Family("Gradients", "Gradient-based", "#0072b2", "#4398da", "o"),
    "path": Family("Path integrals", "Gradient-based", "#56b4e9", "#95d5f8", "D"),
    "cam": Family("Activation maps", "Gradient-based", "#d55e00", "#f0803d", "s"),
    "perturbation": Family("Perturbation", "Perturbation-based", "#009e73", "#2fb994", "^"),
    "synthesis": Family("Synthesis", "Activation maximisation", "#f0e442", "#f0e443", "*"),
    "attention": Family("Attention", "Attention-based", "#e69f00", "#f0b23a", "P"),
    "propagation": Family("Propagation", "Relevance propagation", "#cc79a7", "#de96bb", "v"),
    "shapley": Family("Shapley values", "Shapley values", "#2c2e36", "#d9dbe3", "X"),
    "control": Family("Controls", "Controls", "#7b8191", "#9aa1b3", "o"),
}
OTHER = Family("Other", "Other", "#8a6d3b", "#c9a96a", "h")

AXES = {
    "faithfulness": ("Faithfulness", "Does the map show what the network really uses?"),
    "localisation": ("Localisation", "Does the map point at the object?"),
    "robustness": ("Robustness", "Does the map stay the same when the image hardly changes?"),
    "complexity": ("Conciseness", "Is the map concentrated enough to be read?"),
    "randomisation": ("Sanity", "Does the map change when the network forgets what it learnt?"),
    "axiomatic": ("Axioms", "Does the map keep the rules it should obey?"),
    "cost": ("Cost", "How much computing does one map take?"),
}


def family(name: str) -> Family:
    """How a family looks; one that is not known looks like no other."""
    return FAMILIES.get(name, OTHER)


def axis_title(name: str) -> str:
    """An axis, for people."""
    return AXES[name][0] if name in AXES else name.replace("_", " ").capitalize()


def axis_question(name: str) -> str:
    """What an axis asks."""
    return AXES[name][1] if name in AXES else ""


def variables(*, dark: bool) -> dict[str, str]:
    """CSS variables of a theme."""
    look = {f"family-{name}": kind.dark if dark else kind.light for name, kind in FAMILIES.items()}
    return {**(DARK if dark else LIGHT), **look, "family-other": OTHER.dark if dark else OTHER.light}

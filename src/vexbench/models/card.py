"""The card of a trained network: what it is, what it was trained on, how well it does."""

from collections.abc import Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any, Final

import numpy as np
from torch import nn

from vexbench.models.base import Classifier

PACKAGES: Final = ("vexbench", "torch", "torchvision", "timm", "lightning", "numpy", "pillow")


def make_card(
    classifier: Classifier,
    *,
    title: str,
    data: dict[str, Any],
    training: dict[str, Any],
    curves: Sequence[dict[str, float | int]],
    best_epoch: int,
    confusion: list[list[int]],
) -> dict[str, Any]:
    """Describe a network that was trained here; `training` holds its settings, with the seed."""
    names = classifier.class_names or ()
    matrix = np.array(confusion)
    right, total = matrix.diagonal(), matrix.sum(1)
    return {
        "architecture": classifier.name,
        "title": title,
        "class_names": list(names),
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "input_size": classifier.input_size,
        "target_layer": classifier.target_layer,
        "parameters": parameters(classifier.module),
        "digest": classifier.digest,
        "data": data,
        **training,
        "versions": {"python": python_version()} | {package: version(package) for package in PACKAGES},
        "test_accuracy": float(right.sum() / total.sum()),
        "accuracy_per_class": {name: float(r / t) if t else None for name, r, t in zip(names, right, total)},
        "confusion": confusion,
        "curves": list(curves),
        "curves_note": (
            "Both sides are measured after each epoch in evaluation mode, without augmentation, by the plain "
            "cross-entropy: the validation images, and as many training images."
        ),
        "epochs": len(curves),
        "best_epoch": best_epoch,
        "seconds": round(sum(row["seconds"] for row in curves), 1),
    }


def parameters(module: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(weight.numel() for weight in module.parameters())

"""What a run writes down of its choices and failures, and how it reads its images again."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vexbench.bench.plan import Group
from vexbench.errors import VexbenchError
from vexbench.registry import METHODS, Choice, Entry
from vexbench.results import store as files


def as_images(pixels: np.ndarray, group: Group) -> Tensor:
    """(N, H, W, 3) of 8 bits as (N, 3, H, W) in [0, 1], where the classifier is."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(group.classifier.device) / 255


def noted(entry: Entry, choice: Choice) -> dict[str, Any]:
    """What is written down of a choice, for those who read the store."""
    names = ("title", "family", "paper", "summary", "signed", "direction", "range")
    described = {
        "name": choice.name,
        "params": choice.params,
        "version": choice.version,
        **{name: getattr(entry, name) for name in names if hasattr(entry, name)},
    }
    # a map that is made of another method's has its signs
    return described | {"signed": METHODS[choice.params["of"]].signed} if choice.name == "degraded" else described


def record_failure(path: Path, error: Exception) -> None:
    """Write down why something cannot be computed; what another try may well compute ends the run instead."""
    if isinstance(error, MemoryError | OSError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        told = " ".join(str(error).split()) or type(error).__name__
        raise VexbenchError(
            f"the machine gave out ({told}); what was finished before is safe: make room, or give a smaller "
            "--batch-size, then run the same command again."
        ) from error
    reason = str(error) if isinstance(error, VexbenchError) else f"{type(error).__name__}: {error}"
    files.write_json(path, {"reason": reason, "error": type(error).__name__})

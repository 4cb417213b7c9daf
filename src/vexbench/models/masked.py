"""Images with missing pixels, which network a copy that was trained on them is of, and how copies are named."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import torch
from torch import nn

from vexbench.models.base import Classifier
from vexbench.types import Images

TOLD: Final = ("masked_share", "copy_of", "shuffle_labels", "training_accuracy", "data")
"""What metrics believe of the card of a copy or a twin."""


def masked(images: Images, mean: tuple[float, ...], share: float, source: torch.Generator) -> Images:
    """Images that lack a random share of their pixels, in which the mean colour stands."""
    missing = torch.rand((len(images), 1, *images.shape[2:]), generator=source, dtype=torch.float32) < share
    return torch.where(missing, images.new_tensor(mean)[:, None, None], images)


def weights_digest(module: nn.Module) -> str:
    """Sixteen characters that change with any weight, and with nothing else."""
    digest = sha256()
    for name, weight in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def named_digest(classifier: Classifier, card: Mapping[str, Any] | None = None) -> str:
    """Eight characters that a copy or a twin is named by: they change with the network, and with what its card tells.

    The card is the classifier's own where no other is given.
    """
    given = classifier.card if card is None else card
    told = json.dumps({key: given.get(key) for key in TOLD}, sort_keys=True)
    return sha256(f"{classifier.digest} {told}".encode()).hexdigest()[:8]

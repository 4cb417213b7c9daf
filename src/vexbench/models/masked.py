"""Images with missing pixels, and which network a copy that was trained on them is a copy of."""

from hashlib import sha256

import torch
from torch import nn

from vexbench.types import Images


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

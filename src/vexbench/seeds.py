"""Random numbers that depend on what they are for and on the image, not on order, batch size or worker."""

from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor


def generator(*key: object) -> torch.Generator:
    """Return a CPU generator seeded by the key, e.g. ``generator(seed, "noise", fingerprint, draw)``.

    >>> torch.equal(torch.rand(2, generator=generator(0, "a")), torch.rand(2, generator=generator(0, "a")))
    True
    >>> torch.equal(torch.rand(2, generator=generator(0, "a")), torch.rand(2, generator=generator(0, "b")))
    False
    """
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def fingerprint(image: Float[Tensor, "3 H W"]) -> str:
    """Name an image by its content, so that the same image draws the same numbers wherever it stands."""
    return blake2b(image.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()

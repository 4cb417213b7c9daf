"""What is read from logits, and its gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.errors import VexbenchError
from vexbench.types import Logits, Scores, Targets

Output = Literal["logit", "probability", "log_probability"]

Score = Callable[[Logits, Targets], Scores]
"""What a gradient is of: one number per image, from the logits and the targets."""


@contextmanager
def differentiating() -> Iterator[None]:
    """Record gradients, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def of_target(scores: Float[Tensor, "N classes"], targets: Targets) -> Scores:
    """Each row's number at its target."""
    return scores.gather(1, targets[:, None])[:, 0]


def gradients_of(
    logits: Logits, targets: Targets, leaves: list[Tensor], score: Score = of_target, *, connected: bool = False
) -> tuple[Tensor | None, ...]:
    """Gradients of the targets' scores with respect to the leaves; None where a leaf has no effect on the logits.

    Those that are connected can be differentiated again.

    Raises
    ------
    VexbenchError
        The network keeps no record of its own steps.
    """
    if not logits.requires_grad:
        raise VexbenchError(
            "the logits have no gradient; is there a torch.no_grad() or detach() in the network's forward?"
        )
    return torch.autograd.grad(score(logits, targets).sum(), leaves, allow_unused=True, create_graph=connected)


def read(logits: Logits, output: Output) -> Float[Tensor, "N classes"]:
    """The logits as they are, as probabilities, or as log-probabilities."""
    if output == "logit":
        return logits
    return logits.softmax(1) if output == "probability" else logits.log_softmax(1)

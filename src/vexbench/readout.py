"""What is read from logits, and its gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vexbench.errors import VexbenchError
from vexbench.types import Images, Logits, Scores, Targets

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


@final
class AskedAgain(torch.autograd.Function):
    """What an answer hangs on, which is asked for once more on the way back, so that no graph is kept until then."""

    @staticmethod
    def forward(ctx: Any, images: Images, ask: Callable[..., Tensor]) -> Tensor:
        """The answer alone."""
        ctx.ask = ask
        ctx.save_for_backward(images)
        return ask(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The answer with its graph."""
        with differentiating():
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            answer = ctx.ask(leaf)
            if not answer.requires_grad:
                return None, None
            return torch.autograd.grad(answer, leaf, signal, allow_unused=True)[0], None


def asked_again(ask: Callable[[Images], Tensor], images: Images) -> Tensor:
    """What `ask` gives for images; where gradients of it may be wanted, without its graph, see `AskedAgain`."""
    wanted = torch.is_grad_enabled() and images.requires_grad  # not those of a baseline, say
    return cast("Tensor", AskedAgain.apply(images, ask)) if wanted else ask(images)


def read(logits: Logits, output: Output) -> Float[Tensor, "N classes"]:
    """The logits as they are, as probabilities, or as log-probabilities."""
    if output == "logit":
        return logits
    return logits.softmax(1) if output == "probability" else logits.log_softmax(1)

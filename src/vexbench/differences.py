"""Differences from a baseline handed back through the network (DeepLIFT, Shrikumar et al. 2017, the rescale rule).

The baseline runs first, and each operation that is not linear notes what it saw; then the images run, and the backward
pass of such an operation multiplies by Δy/Δx. Linear operations hand back their gradient, which is the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexbench.errors import NotApplicable
from vexbench.hooks import Rule, overriding
from vexbench.relevance import ACTIVATIONS, AVERAGES, ROUTING, WEIGHTED, Undefined

LINEAR: Final = (ROUTING | {*AVERAGES, *WEIGHTED, "add", "sub", "batch_norm"}) - {"max_pool1d", "max_pool2d"}
"""Operations whose gradient is the same everywhere, in evaluation mode."""

NEAR: Final = 1e-6
"""Below this difference of inputs the multiplier is the gradient."""


@final
@dataclass
class Differences:
    """Notes of the baseline's run, taken by `noting` and read by `comparing`, operation by operation in their order."""

    method: str
    _notes: list[tuple[Tensor, ...]] = field(default_factory=list, init=False)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Run the baseline: one image, or copies of it."""
        self._notes.clear()

        def note(func: Rule, *args: Any, **kwargs: Any) -> Any:
            # an operation in place would change the note
            self._notes.append(tuple(arg[:1].detach().clone() for arg in args if isinstance(arg, Tensor) and arg.ndim))
            return func(*args, **kwargs)

        with overriding(dict.fromkeys((*ACTIVATIONS, "max_pool2d", "mul", "multiply"), note)):
            yield

    @contextmanager
    def comparing(self) -> Iterator[None]:
        """Run the images, each against the baseline."""
        notes = iter(self._notes)

        def activation(func: Rule, values: Tensor, *rest: Any, **more: Any) -> Tensor:
            (before,) = next(notes)
            in_place = func.__name__.endswith("_") or more.pop("inplace", False) or any(value is True for value in rest)
            return Rescaled.apply(values, before, lambda inputs: func(inputs, *rest, **more), in_place)

        def product(func: Rule, first: Any, second: Any) -> Any:
            before = next(notes)
            constant = [not isinstance(side, Tensor) or isinstance(side, nn.Parameter) for side in (first, second)]
            if any(constant) or len(before) < 2:
                return func(first, second)
            if func.__name__.endswith("_"):
                first = first.clone()
            # x·y − x₀·y₀ = Δx (y + y₀)/2 + Δy (x + x₀)/2, so that nothing is lost
            middle = [((side + there) / 2).detach() for side, there in zip((first, second), before, strict=True)]
            handed = first * middle[1] + second * middle[0]
            return handed + (first * second - handed).detach()

        def max_pool(func: Rule, values: Tensor, *window: Any, **more: Any) -> Tensor:
            (before,) = next(notes)
            more.pop("return_indices", None)
            return Pooled.apply(
                values, before, lambda inputs: functional.max_pool2d(inputs, *window, return_indices=True, **more)
            )

        def other(func: Rule, *args: Any, **kwargs: Any) -> Any:
            result = func(*args, **kwargs)
            name = func.__name__ if func.__name__.endswith("__") else func.__name__.removesuffix("_")
            if not isinstance(result, Tensor) or not result.requires_grad or name in LINEAR:
                return result
            constant = not any(isinstance(arg, Tensor) and arg.requires_grad for arg in args[1:])
            if name in ("div", "true_divide", "matmul", "bmm") and constant:
                return result
            error = NotApplicable(
                f"{self.method} has no rule for {name}, which this network uses; use integrated_gradients."
            )
            return Undefined.apply(result, error)

        rules: dict[str, Rule] = {
            **dict.fromkeys(ACTIVATIONS, activation),
            "max_pool2d": max_pool,
            "mul": product,
            "multiply": product,
        }
        with overriding(rules, other):
            yield


class Rescaled(torch.autograd.Function):
    """An activation whose backward pass multiplies by Δy/Δx."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, before: Tensor, run: Callable[[Tensor], Tensor], in_place: bool) -> Tensor:
        """The activation as it is."""
        with torch.enable_grad():
            leaf = values.detach().clone().requires_grad_()
            outputs = run(leaf * 1)
            (gradients,) = torch.autograd.grad(outputs.sum(), leaf)
        outputs, change = outputs.detach(), values - before
        ctx.save_for_backward(
            torch.where(change.abs() < NEAR, gradients, (outputs - run(before.clone())) / change.where(change != 0, 1))
        )
        if not in_place:
            return outputs
        ctx.mark_dirty(values)
        return values.copy_(outputs)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Multiply."""
        return signal * ctx.saved_tensors[0], None, None, None


class Pooled(torch.autograd.Function):
    """Max pooling: the difference of the outputs belongs to where the maxima are, now and in the baseline."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, before: Tensor, run: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """The maxima."""
        outputs, now = run(values)
        there, then = run(before.expand_as(values).contiguous())
        then = one_of_equals(before.expand_as(values), there, now, then)
        ctx.save_for_backward(values - before, now, then, outputs, there)
        return outputs

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Δy splits into what the new maximum gained and what the old one lost; each goes to its place, over Δx."""
        change, now, then, outputs, there = ctx.saved_tensors
        higher = outputs.maximum(there)
        total = put(change, now, signal * (higher - there)) + put(change, then, signal * (outputs - higher))
        plain = put(change, now, signal)
        return torch.where(change.abs() < NEAR, plain, total / change.where(change != 0, 1)), None, None


def put(like: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Values at their places, added up where windows overlap, and zero elsewhere."""
    return torch.zeros_like(like).flatten(2).scatter_add(2, places.flatten(2), values.flatten(2)).view_as(like)


def one_of_equals(before: Tensor, there: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Where the baseline's maxima are: in a plain baseline all of a window may be, the place that counts now too.

    Without a choice that hangs on the image, the first in order would be taken, and mirrored images would get maps that
    are not mirrored.
    """
    at_now = before.flatten(2).gather(2, now.flatten(2)).view_as(there)
    return torch.where(there - at_now <= NEAR * there.abs(), now, then)

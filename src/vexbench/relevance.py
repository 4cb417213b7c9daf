"""Relevance handed down from the target's logit to the image, operation by operation.

Every operation of a network, be it a module, a function or an operator, is met at the tensor level and gets a backward
pass of its own. What an operation may not be given a share by any rule is told when relevance arrives there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor, nn

from vexbench.errors import NotApplicable
from vexbench.hooks import Rule, overriding

ROUTING: Final = frozenset(
    {
        *("cat", "chunk", "concat", "concatenate", "split", "stack", "unbind"),
        *("__getitem__", "flip", "movedim", "narrow", "permute", "roll", "select", "swapaxes", "t", "transpose"),
        *("expand", "expand_as", "flatten", "pad", "reshape", "squeeze", "unflatten", "unsqueeze", "view", "view_as"),
        *("channel_shuffle", "pixel_shuffle", "max_pool1d", "max_pool2d", "adaptive_max_pool2d"),
        *("clone", "contiguous", "detach", "double", "float", "requires_grad_", "to", "type", "type_as"),
        *("alpha_dropout", "dropout", "dropout1d", "dropout2d", "feature_dropout"),
    }
)
"""Operations that move values, or choose among them: their gradient hands on all that arrives."""

ACTIVATIONS: Final = frozenset(
    {
        *("clamp", "clamp_max", "clamp_min", "hardtanh", "relu", "relu6", "threshold"),
        *("celu", "elu", "gelu", "leaky_relu", "mish", "prelu", "rrelu", "selu", "silu", "hardswish"),
        *("hardsigmoid", "sigmoid", "softplus", "tanh"),
    }
)
"""What works value by value hands on all that arrives."""

AVERAGES: Final = ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "mean", "sum")
WEIGHTED: Final = ("conv1d", "conv2d", "conv3d", "linear")

STABILISER: Final = 1e-6


class Term(NamedTuple):
    """Input, weight and bias that stand in for an operation's own."""

    values: Tensor
    weight: Tensor | None
    bias: Tensor | None


@final
@dataclass(frozen=True)
class Linear:
    """A linear operation: y = run(x, weight, bias); averages have no weight. `first`: it sees the image."""

    run: Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    kind: str = ""
    first: bool = False

    def term(self, values: Tensor) -> Term:
        """The operation as it is."""
        return Term(values, self.weight, self.bias)

    def outputs(self, terms: Sequence[Term]) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs as leaves, and what comes of them."""
        with torch.enable_grad():
            leaves = [term.values.detach().requires_grad_() for term in terms]
            return leaves, [self.run(leaf, term.weight, term.bias) for leaf, term in zip(leaves, terms, strict=True)]

    def share(self, terms: Sequence[Term], signal: Tensor, divisor: "Divisor | None" = None) -> Tensor:
        """Hand the signal to the inputs by their parts in the terms' sum: Σ_t x_t ⊙ w_tᵀ(R / Σ_t z_t)."""
        leaves, outputs = self.outputs(terms)
        signal = signal / (divisor or stabilised)(torch.stack([output.detach() for output in outputs]).sum(0))
        gradients = torch.autograd.grad(outputs, leaves, [signal] * len(outputs))
        return sum(  # pyright: ignore[reportReturnType]
            (leaf.detach() * gradient for leaf, gradient in zip(leaves, gradients, strict=True)),
            start=torch.zeros_like(leaves[0]),
        )


def stabilised(values: Tensor) -> Tensor:
    """The values away from zero by 1e-6, with zero counting as positive."""
    return values + STABILISER * torch.where(values < 0, -1.0, 1.0)


def defined(values: Tensor) -> Tensor:
    """The values, with one for zero: where a sum of parts that are not negative is zero, so is each part."""
    return values.where(values != 0, 1)


Divisor = Callable[[Tensor], Tensor]
Share = Callable[[Linear, Tensor, Tensor], Tensor]
"""What a linear operation's input gets, from the operation, the input, and what its output got."""


@final
@dataclass
class Rules:
    """What each kind of operation hands on.

    linear
        Convolutions, linear layers and averages; a batch norm behind one of the former belongs to it.
    positive
        Whether sums are divided by the positive parts of their terms, else by the terms as they are.
    activations
        Activations that hand on what arrives; another one has no rule.
    """

    method: str
    linear: Share
    positive: bool = False
    activations: frozenset[str] = ACTIVATIONS
    _last: tuple[Tensor, Tensor, Linear] | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)

    def undefined(self, name: str) -> NotApplicable:
        """The error for an operation without a rule."""
        return NotApplicable(
            f"{self.method} has no rule for {name}, which this network uses; use saliency or integrated_gradients."
        )

    def weighted(
        self, func: Rule, values: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any
    ) -> Tensor:
        """A linear operation with weights, convolutions among them."""

        def run(inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            return func(inputs, weight, bias, *rest, **more)

        layer = Linear(run, weight.detach(), None if bias is None else bias.detach(), func.__name__, not self._begun)
        self._begun = True
        output = Shared.apply(values, layer, self.linear)
        self._last = (output, values, layer)
        return output

    def average(self, func: Rule, values: Tensor, *rest: Any, **more: Any) -> Tensor:
        """A linear operation without weights."""
        return Shared.apply(values, Linear(lambda inputs, *_: func(inputs, *rest, **more)), self.linear)

    def batch_norm(
        self,
        func: Rule,
        values: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """One linear operation together with the one before it; by itself it works value by value."""
        if self._last is None or self._last[0] is not values:
            return Passed.apply(
                values, lambda inputs: func(inputs, mean, var, weight, bias, False, momentum, eps), False
            )
        _, inputs, layer = self._last
        assert layer.weight is not None
        scale = (1 if weight is None else weight.detach()) / (var + eps).sqrt()
        shift = (0 if layer.bias is None else layer.bias) - mean
        merged = Linear(
            layer.run,
            layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1)),
            shift * scale + (0 if bias is None else bias.detach()),
            layer.kind,
            layer.first,
        )
        return Shared.apply(inputs, merged, self.linear)

    def activation(self, func: Rule, values: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Hands on what arrives."""
        if func.__name__.strip("_") not in self.activations:
            raise self.undefined(func.__name__.strip("_"))
        in_place = func.__name__.endswith("_") or more.pop("inplace", False) or any(value is True for value in rest)
        return Passed.apply(values, lambda inputs: func(inputs, *rest, **more), in_place)

    def add(self, func: Rule, first: Any, second: Any, *, alpha: float = 1) -> Tensor:
        """Both sides get their parts."""
        if alpha != 1 or not isinstance(first, Tensor):
            raise self.undefined("a scaled sum")
        if not isinstance(second, Tensor):
            second = torch.full_like(first, second)
        return Added.apply(first, second, self.positive, func.__name__ in ("add_", "__iadd__"))

    def multiply(self, func: Rule, first: Any, second: Any) -> Tensor:
        """A factor that is a number, a parameter, or smaller than the other, is a gate: it gets nothing."""
        sizes = [
            value.numel() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) else 0
            for value in (first, second)
        ]
        if sizes[0] == sizes[1]:
            return Undefined.apply(func(first, second), self.undefined("a product of features"))
        values, gate = (first, second) if sizes[0] > sizes[1] else (second, first)
        gate = gate.detach() if isinstance(gate, Tensor) else gate
        return Passed.apply(values, lambda inputs: func(inputs, gate), func.__name__ in ("mul_", "__imul__"))

    def shifted(self, func: Rule, first: Any, second: Any) -> Tensor:
        """Differences and quotients with a constant, such as the normalisation of the image."""
        if not isinstance(first, Tensor) or (isinstance(second, Tensor) and second.requires_grad):
            raise self.undefined(func.__name__.strip("_"))
        return Passed.apply(first, lambda inputs: func(inputs, second), False)

    def product(self, func: Rule, first: Tensor, second: Tensor) -> Tensor:
        """Linear where one side is constant, as attention is."""
        if first.requires_grad and second.requires_grad:
            return Undefined.apply(func(first, second), self.undefined("a product of features"))
        if second.requires_grad:
            return Shared.apply(second, Linear(lambda inputs, *_: func(first, inputs)), self.linear)
        return Shared.apply(first, Linear(lambda inputs, *_: func(inputs, second)), self.linear)

    def constant(self, func: Rule, values: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Attention is taken as given: what looks at what gets no relevance, what is looked at does."""
        return func(values.detach(), *rest, **more)

    def other(self, func: Rule, *args: Any, **kwargs: Any) -> Any:
        """What only moves values hands on; anything else has no rule."""
        result = func(*args, **kwargs)
        name = func.__name__
        if (
            not isinstance(result, Tensor)
            or not result.requires_grad
            or name in ROUTING
            or name in ("detach", "requires_grad_")
        ):
            return result
        if name.endswith("_") and not name.endswith("__"):
            raise self.undefined(name.strip("_"))
        return Undefined.apply(result, self.undefined(name.strip("_")))


@contextmanager
def handing_down(rules: Rules) -> Iterator[None]:
    """Give every operation of the networks that run meanwhile its rule; the gradient is then the relevance."""
    table: dict[str, Rule] = {
        **dict.fromkeys(WEIGHTED, rules.weighted),
        **dict.fromkeys(AVERAGES, rules.average),
        **dict.fromkeys(ACTIVATIONS, rules.activation),
        **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), rules.add),
        **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__", "__imul__"), rules.multiply),
        **dict.fromkeys(("sub", "__sub__", "div", "true_divide", "__truediv__"), rules.shifted),
        **dict.fromkeys(("matmul", "bmm", "__matmul__"), rules.product),
        "batch_norm": rules.batch_norm,
        "softmax": rules.constant,
    }
    with overriding(table, rules.other):
        yield


class Shared(torch.autograd.Function):
    """A linear operation that hands on by a rule."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, layer: Linear, share: Share) -> Tensor:
        """The operation as it is."""
        ctx.layer, ctx.share = layer, share
        ctx.save_for_backward(values)
        return layer.run(values, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask the rule."""
        return ctx.share(ctx.layer, ctx.saved_tensors[0], signal), None, None


class Passed(torch.autograd.Function):
    """An operation that works value by value, and hands on all that arrives."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, run: Callable[[Tensor], Tensor], in_place: bool) -> Tensor:
        """The operation as it is."""
        if not in_place:
            return run(values)
        ctx.mark_dirty(values)
        return values.copy_(run(values.clone()))

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing is lost."""
        return signal, None, None


class Added(torch.autograd.Function):
    """A sum that hands on by the parts of its terms."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, positive: bool, in_place: bool) -> Tensor:
        """The sum."""
        ctx.positive = positive
        ctx.save_for_backward(first.clone() if in_place else first, second)
        if not in_place:
            return first + second
        ctx.mark_dirty(first)
        return first.add_(second)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """R_a = a / (a + b) · R."""
        terms = [term.relu() if ctx.positive else term for term in ctx.saved_tensors]
        signal = signal / (defined if ctx.positive else stabilised)(terms[0] + terms[1])
        parts = [(term * signal).sum_to_size(saved.shape) for term, saved in zip(terms, ctx.saved_tensors, strict=True)]
        return *parts, None, None


class Undefined(torch.autograd.Function):
    """An operation without a rule: told when relevance arrives, since it may never do."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, error: NotApplicable) -> Tensor:
        """The values as they are."""
        ctx.error = error
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse."""
        raise ctx.error

"""Backward passes other than the gradient's, told by rules for single operations."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import NotApplicable
from vexbench.hooks import Rule, overriding

Gate = Callable[[Tensor, Tensor], Tensor]
"""The signal behind an activation from the one in front of it, and where the activation passed its input on."""

SMOOTH: Final = (
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "leaky_relu", "logsigmoid", "mish", "prelu", "rrelu",
    "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
)  # fmt: skip
"""Activations that are no rectifiers."""


class Gated(torch.autograd.Function):
    """A rectifier, clipped or not, with another backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gate: Gate, high: float, inplace: bool) -> Tensor:
        """Clip to [0, high]."""
        ctx.gate, passed = gate, (values > 0) & (values < high)
        ctx.save_for_backward(passed)
        if not inplace:
            return values.clamp(0, high)
        ctx.mark_dirty(values)
        return values.clamp_(0, high)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Let the gate decide."""
        return ctx.gate(signal, *ctx.saved_tensors), None, None, None


@contextmanager
def gating(gate: Gate, method: str) -> Iterator[None]:
    """Give every rectifier of the network this gate: ReLU and ReLU6, as module, function or clamp, in place or not.

    Raises
    ------
    NotApplicable
        The network has no rectifier, or other activations too.
    """
    seen = 0

    def rectify(func: Rule, values: Tensor, high: float, inplace: bool) -> Tensor:
        nonlocal seen
        seen += 1
        return Gated.apply(values, gate, high, inplace or func.__name__.endswith("_"))  # pyright: ignore

    def relu(func: Rule, values: Tensor, inplace: bool = False) -> Tensor:
        return rectify(func, values, torch.inf, inplace)

    def relu6(func: Rule, values: Tensor, inplace: bool = False) -> Tensor:
        return rectify(func, values, 6.0, inplace)

    def clamp(func: Rule, values: Tensor, min: Any = None, max: Any = None, inplace: bool = False) -> Tensor:
        if min != 0:
            refuse(func)
        return rectify(func, values, torch.inf if max is None else max, inplace)

    def hardtanh(
        func: Rule, values: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> Tensor:
        return clamp(func, values, min_val, max_val, inplace)

    def refuse(func: Rule, *_: Any, **__: Any) -> Tensor:
        raise NotApplicable(
            f"{method} is only defined for networks of ReLUs, and this one uses {func.__name__.strip('_')}; "
            "use saliency or integrated_gradients."
        )

    rules: Mapping[str, Rule] = {
        "relu": relu,
        "relu6": relu6,
        "hardtanh": hardtanh,
        "clamp": clamp,
        "clamp_min": clamp,
        **dict.fromkeys(SMOOTH, refuse),
    }
    with overriding(rules):
        yield
    if not seen:
        raise NotApplicable(f"{method} changes the backward pass of ReLUs, and none was seen in this network.")


def softened(beta: float) -> AbstractContextManager[object]:
    """Round the corners of rectifiers off: softplus_β(x) = ln(1 + e^βx)/β for ReLU (Dombrowski et al. 2019).

    ReLU, ReLU6 and leaky ReLU, as module, function or clamp: a network of them then has curvature, along which a
    gradient's own gradient points. Other activations stay as they are.
    """

    def soft(values: Tensor) -> Tensor:
        return functional.softplus(values, beta)

    def clipped(func: Rule, values: Tensor, high: float, inplace: bool) -> Tensor:
        source = values.clone() if inplace or func.__name__.endswith("_") else values
        smooth = soft(source) if high == torch.inf else soft(source) - soft(source - high)
        return smooth if source is values else values.copy_(smooth)

    def relu(func: Rule, values: Tensor, inplace: bool = False) -> Tensor:
        return clipped(func, values, torch.inf, inplace)

    def relu6(func: Rule, values: Tensor, inplace: bool = False) -> Tensor:
        return clipped(func, values, 6.0, inplace)

    def leaky(func: Rule, values: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
        return negative_slope * values + (1 - negative_slope) * soft(values)

    def clamp(func: Rule, values: Tensor, min: Any = None, max: Any = None) -> Tensor:
        if min != 0 or isinstance(max, Tensor):
            return func(values, min, max)
        return clipped(func, values, torch.inf if max is None else max, False)

    def hardtanh(
        func: Rule, values: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> Tensor:
        if min_val != 0:
            return func(values, min_val, max_val, inplace)
        return clipped(func, values, max_val, inplace)

    return overriding({"relu": relu, "relu6": relu6, "leaky_relu": leaky, "clamp": clamp, "hardtanh": hardtanh})

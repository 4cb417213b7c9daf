"""The only file that touches a network's hooks; each is removed on every way out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vexbench.errors import VexbenchError


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Put a network into evaluation mode, and each of its modules back as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield module
    finally:
        for part in training:
            part.training = True


@contextmanager
def cutting(layer: nn.Module, name: str, *, connected: bool = False, recorded: bool = True) -> Iterator[list[Tensor]]:
    """Collect the layer's outputs as leaves of a new graph that starts behind the layer; connected, of the same graph.

    What happens before the layer need not be recorded: a tenth of a pass is saved.

    What follows gets a copy, so that an in-place ReLU behind the layer leaves the record intact,
    and a backward pass stops here. A layer that is used several times, such as a shared ReLU, is cut each time;
    outputs that are not spatial, as when it is used in the classifier too, pass through.

    Raises
    ------
    VexbenchError
        The layer gave no tensor of shape (N, C, h, w), or was not called.
    """
    leaves: list[Tensor] = []
    others: list[object] = []

    def cut(_module: nn.Module, _args: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            others.append(tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__)
            return None
        torch.set_grad_enabled(True)
        leaves.append(output if connected and output.requires_grad else output.detach().requires_grad_())
        return leaves[-1].clone()

    handle = layer.register_forward_hook(cut)
    try:
        with torch.set_grad_enabled(recorded):
            yield leaves
    finally:
        handle.remove()
    if not leaves and others:
        raise VexbenchError(
            f"target layer '{name}' must give features of shape (N, C, h, w), not {others[-1]}; "
            "choose a convolutional layer with target_layer=."
        )
    if not leaves:
        raise VexbenchError(f"target layer '{name}' takes no part in the forward pass; choose another target_layer=.")


@contextmanager
def replacing(layer: nn.Module, features: Tensor, use: int) -> Iterator[None]:
    """Let other features stand in for what the layer gives at its `use`-th use, spatial outputs counted."""
    uses = 0

    def replace(_module: nn.Module, _args: Any, output: Any) -> Tensor | None:
        nonlocal uses
        uses += isinstance(output, Tensor) and output.ndim == 4
        # a copy, since an in-place layer may follow
        return features.to(output.dtype, copy=True) if uses == use and output.ndim == 4 else None

    handle = layer.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def observing(module: nn.Module) -> Iterator[list[tuple[str, nn.Module, Tensor]]]:
    """Collect (name, module, output) of every part of a network, in the order in which they finish."""
    finished: list[tuple[str, nn.Module, Tensor]] = []

    def observe(name: str) -> Any:
        def hook(part: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                finished.append((name, part, output))

        return hook

    handles = [part.register_forward_hook(observe(name)) for name, part in module.named_modules() if name]
    try:
        yield finished
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recording(layer: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect copies of (input, output) of a layer, since what follows may be in place; one for each of its calls."""
    seen: list[tuple[Tensor, Tensor]] = []

    def record(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0].detach().clone(), output.detach().clone()))

    handle = layer.register_forward_hook(record)
    try:
        yield seen
    finally:
        handle.remove()


Rule = Callable[..., Any]
"""What stands in for an operation of the network: called with that operation's function, then its arguments."""


@final
class _Overriding(TorchFunctionMode):
    """Hands operations with a rule to it; module, function or method of a tensor, each is one call here."""

    def __init__(self, rules: Mapping[str, Rule], otherwise: Rule | None) -> None:
        super().__init__()
        self.rules, self.otherwise = rules, otherwise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        rule = self.rules.get(name) or (self.rules.get(name.removesuffix("_")) if name[-1:] == "_" else None)
        rule = rule or self.otherwise
        return func(*args, **(kwargs or {})) if rule is None else rule(func, *args, **(kwargs or {}))


def overriding(rules: Mapping[str, Rule], otherwise: Rule | None = None) -> AbstractContextManager[object]:
    """Let rules stand in for operations by their names (``relu``, ``conv2d``), however a network calls them.

    ``torch.relu``, ``functional.relu``, ``Tensor.relu``, ``nn.ReLU`` and their in-place forms all go to the rule
    ``relu``. `otherwise` is asked about operations without a rule. The network's modules are not touched, so
    that there is nothing to restore; compiled and scripted networks are not seen into.
    """
    return _Overriding(rules, otherwise)

"""A network as a graph: the same logits in fewer and faster steps."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Generic, TypeVar, final

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vexbench.types import Images, Logits

Made = TypeVar("Made")


@final
class Remade(Generic[Made]):
    """Something made of a network, and made anew when that has changed; nothing where it does not fit."""

    def __init__(self, make: Callable[[nn.Module], Made | None]) -> None:
        self._make = make
        self._kept: tuple[tuple[Any, ...], Made | None] | None = None

    def of(self, module: nn.Module, fits: Callable[[Made], bool]) -> Made | None:
        """What was made, if it fits now: a network may have changed in ways that its state does not tell."""
        state = tuple((id(value), value._version) for value in module.state_dict(keep_vars=True).values())
        if self._kept is not None and self._kept[0] == state:
            made = self._kept[1]
            if made is None or fits(made):
                return made
        made = self._make(module)
        self._kept = (state, made if made is not None and fits(made) else None)
        return self._kept[1]


@final
class Folded:
    """A graph that takes normalised images: as it is, and in the precision that scores are asked in."""

    def __init__(self, exact: fx.GraphModule, dtype: torch.dtype) -> None:
        self.exact, self.dtype = exact, dtype
        self.scoring = exact if dtype == torch.float32 else deepcopy(exact).to(dtype)

    def __call__(self, normal: Images) -> Logits:
        """Logits for normalised images, in fours."""
        return self.scoring(normal.to(self.dtype).contiguous(memory_format=torch.channels_last)).float()


def hooked(module: nn.Module) -> bool:
    """Whether somebody sees, or changes, what a part of a network is given or gives."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, kind) for part in module.modules() for kind in kinds)


def relaid(module: nn.Module) -> nn.Module | None:
    """A copy in evaluation mode, weights with channels last: some machines multiply these faster."""
    try:
        with torch.inference_mode(False):
            copy = deepcopy(module).eval().requires_grad_(requires_grad=False)
            return copy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    except Exception:  # noqa: BLE001  a network that cannot be copied, or holds what has no layout
        return None


def traced(module: nn.Module) -> fx.GraphModule | None:
    """A copy in evaluation mode, batch norms folded into convolutions, weights with channels last.

    None where torch.fx cannot follow the network's code.
    """
    try:
        with torch.inference_mode(False):
            copy = deepcopy(module).eval().requires_grad_(requires_grad=False)
            graph = fx.GraphModule(copy, Tracer().trace(copy))
            fold(graph)
            return graph.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    except Exception:  # noqa: BLE001  whatever a network's code does when it is traced
        return None


@final
class Tracer(fx.Tracer):
    """Takes timm's own convolutions for single steps: their padding hangs on the size of what comes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        return type(m).__name__.endswith("2dSame") or super().is_leaf_module(m, module_qualified_name)


def fold(graph: fx.GraphModule) -> None:
    """Put each batch norm into the convolution in front of it, where nothing else reads either, in place."""
    modules, uses = dict(graph.named_modules()), Counter(node.target for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or uses[node.target] > 1:
            continue
        (before,) = node.all_input_nodes
        layer = modules.get(before.target) if before.op == "call_module" else None
        if isinstance(layer, nn.Conv2d) and uses[before.target] == 1 and len(before.users) == 1:
            graph.set_submodule(before.target, fuse_conv_bn_eval(layer, norm))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()

"""A network as a graph: the same logits in fewer and faster steps."""

from collections import Counter
from copy import deepcopy
from typing import final

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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

"""A network as a graph: the same logits in fewer and faster steps."""

from collections import Counter
from copy import deepcopy
from functools import cache
from typing import Final, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vexbench.types import Images, Logits

RELUS: Final = (functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_")
"""How networks call a ReLU that is no module."""


@final
class Folded:
    """A graph that takes normalised images: as it is, and in the precision that scores are asked in."""

    def __init__(self, exact: fx.GraphModule, dtype: torch.dtype) -> None:
        self.exact, self.dtype = exact, dtype
        self.wide = set[tuple[torch.Size, int]]()
        """Sizes of images and patches for which windows cover too much of the features to pay."""
        self.scoring = exact if dtype == torch.float32 else deepcopy(exact).to(dtype)

    def __call__(self, normal: Images) -> Logits:
        """Logits for normalised images, in fours."""
        return self.scoring(normal.to(self.dtype).contiguous(memory_format=torch.channels_last)).float()


def hooked(module: nn.Module) -> bool:
    """Whether somebody sees, or changes, what a part of a network is given or gives."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, kind) for part in module.modules() for kind in kinds)


def traced(module: nn.Module) -> fx.GraphModule | None:
    """A copy in evaluation mode, batch norms and ReLUs folded into convolutions, weights with channels last.

    None where torch.fx cannot follow the network's code.
    """
    try:
        with torch.inference_mode(False):
            copy = deepcopy(module).eval().requires_grad_(requires_grad=False)
            graph = fx.GraphModule(copy, Tracer().trace(copy))
            fold(graph)
            rectify(graph)
            return graph.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    except Exception:  # noqa: BLE001  whatever a network's code does when it is traced
        return None


@final
class Tracer(fx.Tracer):
    """Takes timm's own convolutions for single steps: their padding hangs on the size of what comes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        return type(m).__name__.endswith("2dSame") or super().is_leaf_module(m, module_qualified_name)


@final
class Rectified(nn.Module):
    """A convolution and the ReLU behind it in one step, which spares a way through the memory."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, features: Tensor) -> Tensor:
        """As the convolution does, without what is negative."""
        (down, across) = self.conv.padding
        return self.padded(features, (int(down), int(across)))

    def padded(self, features: Tensor, padding: tuple[int, int]) -> Tensor:
        """As `forward`, with another padding."""
        conv = self.conv
        if features.device.type == "cpu" and known(features.dtype):
            return torch.ops.mkldnn._convolution_pointwise(
                features, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups, "relu", [], ""
            )
        found = functional.conv2d(features, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
        return functional.relu_(found)


@cache
def known(dtype: torch.dtype) -> bool:
    """Whether this torch on this machine convolves and rectifies in one step."""
    try:
        values, weight = (torch.ones(shape, dtype=dtype) for shape in ((1, 1, 4, 4), (1, 1, 3, 3)))
        found = torch.ops.mkldnn._convolution_pointwise(
            values, -weight, None, (0, 0), (1, 1), (1, 1), 1, "relu", [], ""
        )
        return torch.equal(found, torch.zeros_like(found))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def rectify(graph: fx.GraphModule) -> None:
    """Make one step of each convolution and the ReLU that alone reads it, in place."""
    modules, uses = dict(graph.named_modules()), Counter(node.target for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        called = type(modules[node.target]) is nn.ReLU if node.op == "call_module" else node.target in RELUS
        if not called or len(node.all_input_nodes) != 1:
            continue
        (before,) = node.all_input_nodes
        layer = modules.get(before.target) if before.op == "call_module" else None
        alone = uses[before.target] == 1 and len(before.users) == 1
        if type(layer) is nn.Conv2d and alone and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            graph.set_submodule(before.target, Rectified(layer))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()


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

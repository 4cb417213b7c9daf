"""A network as a graph: the same logits in fewer and faster steps."""

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from inspect import signature
from operator import attrgetter
from typing import Any, Final, final

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
            thin(graph)
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
    """A convolution and the ReLU or ReLU6 behind it in one step, which spares a way through the memory."""

    def __init__(self, conv: nn.Conv2d, *, six: bool) -> None:
        super().__init__()
        self.conv = conv
        self.kind, self.bounds = ("hardtanh", [0.0, 6.0]) if six else ("relu", [])

    def forward(self, features: Tensor) -> Tensor:
        """As the convolution does, without what is negative, or beyond six."""
        (down, across) = self.conv.padding
        return self.padded(features, (int(down), int(across)))

    def padded(self, features: Tensor, padding: tuple[int, int]) -> Tensor:
        """As `forward`, with another padding."""
        conv = self.conv
        if features.device.type == "cpu" and known(features.dtype):
            return torch.ops.mkldnn._convolution_pointwise(
                features, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups,
                self.kind, self.bounds, "",
            )  # fmt: skip
        found = functional.conv2d(features, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
        return found.clamp_(0, *self.bounds[1:])


@cache
def known(dtype: torch.dtype) -> bool:
    """Whether this torch on this machine convolves and rectifies in one step."""
    try:
        values, weight = (torch.ones(shape, dtype=dtype) for shape in ((1, 1, 4, 4), (1, 1, 3, 3)))
        relu, hardtanh = (
            torch.ops.mkldnn._convolution_pointwise(
                values, sign * weight, None, (0, 0), (1, 1), (1, 1), 1, kind, bounds, ""
            )
            for sign, kind, bounds in ((-1, "relu", []), (1, "hardtanh", [0.0, 6.0]))
        )
        return torch.equal(relu, torch.zeros_like(relu)) and torch.equal(hardtanh, torch.full_like(hardtanh, 6))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def rectify(graph: fx.GraphModule) -> None:
    """Make one step of each convolution and the ReLU or ReLU6 that alone reads it, in place."""
    modules, uses = dict(graph.named_modules()), Counter(node.target for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        module = modules[node.target] if node.op == "call_module" else None
        six, called = type(module) is nn.ReLU6, module is None and node.target in RELUS
        if not (six or called or type(module) is nn.ReLU) or len(node.all_input_nodes) != 1:
            continue
        (before,) = node.all_input_nodes
        layer = modules.get(before.target) if before.op == "call_module" else None
        alone = uses[before.target] == 1 and len(before.users) == 1
        if type(layer) is nn.Conv2d and alone and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            graph.set_submodule(before.target, Rectified(layer, six=six))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()


def thin(graph: fx.GraphModule) -> None:
    """Take out the steps that change nothing in evaluation mode, and the checks that timm makes in each, in place."""
    for node in graph.graph.nodes:
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        if type(module) in (nn.Identity, nn.Dropout):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)
        elif node.target is torch._assert:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()


def fold(graph: fx.GraphModule) -> None:
    """Put each batch norm into the convolution in front of it, where nothing else reads either, in place."""
    modules, uses = dict(graph.named_modules()), Counter(node.target for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        norm = normalising(graph, node, modules)
        if norm is None or norm.running_mean is None or (node.op == "call_module" and uses[node.target] > 1):
            continue
        before = node.all_input_nodes[0]
        layer = modules.get(before.target) if before.op == "call_module" else None
        if isinstance(layer, nn.Conv2d) and uses[before.target] == 1 and len(before.users) == 1:
            graph.set_submodule(before.target, fuse_conv_bn_eval(layer, norm))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def normalising(graph: fx.GraphModule, node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.BatchNorm2d | None:
    """The batch norm that a step is: a module, or a call with a module's values, as timm's norms make."""
    if node.op == "call_module":
        module = modules.get(str(node.target))
        return module if isinstance(module, nn.BatchNorm2d) else None
    if node.target is not functional.batch_norm:
        return None
    given: dict[str, Any] = signature(functional.batch_norm).bind(*node.args, **node.kwargs).arguments
    names = ("running_mean", "running_var", "weight", "bias")
    nodes = [value for name in names if isinstance(value := given.get(name), fx.Node) and value.op == "get_attr"]
    if given.get("training") or len(nodes) < len(names):
        return None
    values = [attrgetter(str(value.target))(graph) for value in nodes]
    norm = nn.BatchNorm2d(len(values[0]), eps=given.get("eps", 1e-5)).eval()
    norm.load_state_dict(dict(zip(names, values)), strict=False)
    return norm

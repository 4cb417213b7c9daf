"""Logits of images that differ from clean ones in a window: only what changes of each feature map is computed."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from vexbench.models.graph import Rectified
from vexbench.types import Features, Images, Logits, Targets

POINTWISE: Final = (
    nn.BatchNorm2d, nn.Dropout, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Identity, nn.LeakyReLU, nn.ReLU,
    nn.ReLU6, nn.Sigmoid, nn.SiLU, nn.Tanh,
)  # fmt: skip
"""Modules whose output at a place hangs on their input at that place alone, in evaluation mode."""
POINTWISE_CALLS: Final = frozenset(
    {"relu", "relu_", "relu6", "silu", "gelu", "hardswish", "sigmoid", "tanh", "dropout"}
)
JOINING: Final = frozenset({"add", "add_", "iadd", "cat"})
WORTH_IT: Final = 0.6
"""A window that covers more of the features than this is dearer to cut out than the rest of them to compute."""


class Span(NamedTuple):
    """The rows, or the columns, of a window: where they begin in each variant, and how many there are."""

    starts: tuple[int, ...]
    length: int

    def within(self, size: int) -> "Span":
        """At least the same places out of `size`."""
        length = min(self.length, size)
        return Span(tuple(min(max(start, 0), size - length) for start in self.starts), length)


class Sliding(NamedTuple):
    """How a convolution or pooling reads rows, or columns."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def extent(self) -> int:
        """How far apart the first and the last of the places that it reads are, ends included."""
        return (self.kernel - 1) * self.dilation + 1

    def reached(self, span: Span, size: int) -> Span:
        """Which of `size` outputs read any of the span."""
        first = [max(-((self.extent - 1 - start - self.padding) // self.stride), 0) for start in span.starts]
        last = [min((start + span.length - 1 + self.padding) // self.stride, size - 1) for start in span.starts]
        length = max(b - a + 1 for a, b in zip(first, last))
        return Span(tuple(first), length).within(size)

    def read(self, span: Span) -> Span:
        """What these outputs read; it may reach into the padding."""
        starts = tuple(start * self.stride - self.padding for start in span.starts)
        return Span(starts, (span.length - 1) * self.stride + self.extent)


@final
@dataclass(frozen=True)
class Window:
    """K variants of features that differ from the clean ones in a window each, (K, C, height, width)."""

    values: Features
    rows: Span
    columns: Span


@final
class Windows:
    """The graph of a network, and all that it computes for some clean images."""

    def __init__(self, graph: fx.GraphModule, images: Images) -> None:
        self._modules, self._nodes = dict(graph.named_modules()), list(graph.graph.nodes)
        self._clean: dict[fx.Node, Any] = {}
        self.share = 0.0
        """How much of the multiply-adds of whole convolutions the last variants took."""
        keep = self._clean

        class Keeping(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                keep[n] = super().run_node(n)
                return keep[n]

        Keeping(graph).run(images.contiguous(memory_format=torch.channels_last))

    def logits(self, which: Targets, values: Images, rows: Span, columns: Span) -> Logits:
        """Logits of variants: variant k is image `which[k]` with `values[k]` in the window at its rows and columns."""
        found: dict[fx.Node, Any] = {}
        done = total = 0.0
        for node in self._nodes:
            if node.op == "placeholder":
                found[node] = Window(values, rows, columns)
                continue
            changed = [source for source in node.all_input_nodes if source in found]
            if not changed:
                continue
            if node.op == "output":
                self.share = done / max(total, 1)
                return self._whole(found, node.all_input_nodes[0], which)
            window = None
            if all(isinstance(found[source], Window) for source in changed):
                window = self._window(node, found, which)
            found[node] = self._step(node, found, which) if window is None else window
            module = self._modules.get(node.target) if isinstance(node.target, str) else None
            module = module.conv if isinstance(module, Rectified) else module
            if isinstance(module, nn.Conv2d):
                work, clean = module.weight[0].numel(), self._clean[node][0]
                total += work * clean.numel()
                done += work * (clean.numel() if window is None else window.values[0].numel())
        raise AssertionError("a graph ends in its output")

    def _window(self, node: fx.Node, found: dict[fx.Node, Any], which: Targets) -> Window | None:
        """What a step makes of windows; None where it reads more than a neighbourhood, or the window is too large."""
        clean = self._clean[node]
        module = self._modules.get(node.target) if node.op == "call_module" and isinstance(node.target, str) else None
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        source = node.all_input_nodes[0]
        if isinstance(module, POINTWISE):
            before: Window = found[source]
            return Window(module(before.values), before.rows, before.columns)
        if module is None and name in POINTWISE_CALLS and len(node.all_input_nodes) == 1:
            before = found[source]
            return Window(self._call(node, [before.values]), before.rows, before.columns)
        if (slide := sliding(module, self._clean[source])) is not None:
            return self._slid(slide, node, found[source], which)
        if name in JOINING and all(map(self._spatial, node.all_input_nodes)):
            if name == "cat" and node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0) != 1:
                return None
            sides = clean.shape[2:]
            if any(self._clean[other].shape[2:] != sides for other in node.all_input_nodes):
                return None
            windows: list[Window] = [found[other] for other in node.all_input_nodes if other in found]
            rows, columns = (
                union(spans, size).within(size)
                for spans, size in zip(([w.rows for w in windows], [w.columns for w in windows]), sides)
            )
            if self._large(rows, columns, sides):
                return None
            parts = [self._cut(other, found.get(other), which, rows, columns) for other in node.all_input_nodes]
            return Window(self._call(node, parts), rows, columns)
        return None

    def _slid(
        self,
        slides: tuple[Sliding, Sliding, Callable[[Tensor], Tensor], float],
        node: fx.Node,
        before: Window,
        which: Targets,
    ) -> Window | None:
        down, across, act, edge = slides
        sides = self._clean[node].shape[2:]
        rows, columns = down.reached(before.rows, sides[0]), across.reached(before.columns, sides[1])
        if self._large(rows, columns, sides):
            return None
        read = self._cut(node.all_input_nodes[0], before, which, down.read(rows), across.read(columns), edge)
        return Window(act(read), rows, columns)

    @staticmethod
    def _large(rows: Span, columns: Span, sides: Sequence[int]) -> bool:
        return rows.length * columns.length > WORTH_IT * sides[0] * sides[1]

    def _cut(
        self, node: fx.Node, window: Window | None, which: Targets, rows: Span, columns: Span, edge: float = 0.0
    ) -> Features:
        """The features in a window of each variant; beyond their border, the edge's value."""
        if window is not None and (window.rows, window.columns) == (rows, columns):
            return window.values
        clean = self._clean[node]
        margins = [
            (max(0, -min(span.starts)), max(0, max(span.starts) + span.length - size))
            for span, size in zip((rows, columns), clean.shape[2:])
        ]
        padded = functional.pad(clean, (*margins[1], *margins[0]), value=edge)
        windows = padded.unfold(2, rows.length, 1).unfold(3, columns.length, 1)
        tops, lefts = (
            torch.tensor([start + before for start in span.starts], device=clean.device)
            for span, (before, _) in zip((rows, columns), margins)
        )
        cut = windows[which, :, tops, lefts].contiguous(memory_format=torch.channels_last)
        if window is None:
            return cut
        # variants whose window lies at the same place of the cut are pasted together
        places = defaultdict[tuple[int, int], list[int]](list)
        corners = zip(window.rows.starts, rows.starts, window.columns.starts, columns.starts)
        for variant, (top, first, left, second) in enumerate(corners):
            places[top - first, left - second].append(variant)
        for (down, right), variants in places.items():
            tall, wide = (
                slice(max(at, 0), min(at + length, span.length))
                for at, length, span in ((down, window.rows.length, rows), (right, window.columns.length, columns))
            )
            if tall.start < tall.stop and wide.start < wide.stop:
                source = window.values[
                    :, :, tall.start - down : tall.stop - down, wide.start - right : wide.stop - right
                ]
                chosen = torch.tensor(variants, device=clean.device)
                cut[chosen, :, tall, wide] = source if len(variants) == len(which) else source[chosen]
        return cut

    def _step(self, node: fx.Node, found: dict[fx.Node, Any], which: Targets) -> Any:
        """A step over whole features; those of windows are completed first."""
        return self._call(node, [self._whole(found, source, which) for source in node.all_input_nodes])

    def _whole(self, found: dict[fx.Node, Any], node: fx.Node, which: Targets) -> Any:
        value = found.get(node)
        if isinstance(value, Window):
            sides = self._clean[node].shape[2:]
            rows, columns = (Span((0,) * len(which), size) for size in sides)
            found[node] = value = self._cut(node, value, which, rows, columns)
        if node in found:
            return value
        clean = self._clean[node]
        # what hangs on the image has a row for each; a weight, a size or a number is the same for all
        return clean[which] if isinstance(clean, Tensor) and node.op != "get_attr" and clean.ndim > 1 else clean

    def _call(self, node: fx.Node, values: Sequence[Any]) -> Any:
        given = dict(zip(node.all_input_nodes, values, strict=True))
        args: Any = fx.map_arg(node.args, given.__getitem__)
        kwargs: Any = fx.map_arg(node.kwargs, given.__getitem__)
        if node.op == "call_module":
            return self._modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        target: Any = node.target
        return target(*args, **kwargs)

    def _spatial(self, node: fx.Node) -> bool:
        value = self._clean[node]
        return isinstance(value, Tensor) and value.ndim == 4


def patched(
    windows: Windows, images: Images, hidden: Images, places: Sequence[tuple[int, int]], patch: int, together: int
) -> Iterator[Logits]:
    """Logits of the images with a square patch of the hidden ones at each place (top, left), place by place.

    Some places together; a patch may reach over the border.
    """
    count, sides = len(images), images.shape[2:]
    for start in range(0, len(places), together):
        values, corners = [], []
        for top, left in places[start : start + together]:
            # a window within the image, which shows it again where the patch does not reach
            first, second = (min(at, side - patch) for at, side in zip((top, left), sides))
            value = images[:, :, first : first + patch, second : second + patch].clone()
            value[:, :, top - first :, left - second :] = hidden[:, :, top : top + patch, left : left + patch]
            values.append(value)
            corners.extend([(first, second)] * count)
        rows, columns = (Span(starts, patch) for starts in zip(*corners))
        which = torch.arange(count, device=images.device).repeat(len(values))
        yield windows.logits(which, torch.cat(values), rows, columns)


def sliding(module: Any, clean: Features) -> tuple[Sliding, Sliding, Callable[[Tensor], Tensor], float] | None:
    """How a module slides down and across, what it does where nothing is padded, and what it finds in the padding."""
    rectified = module if isinstance(module, Rectified) else None
    module = module if rectified is None else rectified.conv
    same = type(module).__name__ == "Conv2dSame"
    if not same and type(module) not in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d):
        return None
    plain = {"padding_mode": "zeros", "ceil_mode": False, "count_include_pad": True, "divisor_override": None}
    if any(getattr(module, name, value) != value for name, value in plain.items()):
        return None
    settings: list[Any] = [getattr(module, name, 1) for name in ("kernel_size", "stride", "padding", "dilation")]
    if isinstance(settings[2], str) or getattr(module, "return_indices", False):
        return None
    down, across = starmap(Sliding, zip(*(value if isinstance(value, tuple) else (value, value) for value in settings)))
    if same:  # timm pads so that there is an output for every step of the stride, the odd row or column at the end
        down, across = (
            slide._replace(padding=max((-(-side // slide.stride) - 1) * slide.stride + slide.extent - side, 0) // 2)
            for slide, side in zip((down, across), clean.shape[2:])
        )
    if rectified is not None:
        return down, across, lambda x: rectified.padded(x, (0, 0)), 0.0
    match module:
        case nn.Conv2d():
            weight, bias, groups = module.weight, module.bias, module.groups
            stride, dilation = module.stride, module.dilation
            return down, across, lambda x: functional.conv2d(x, weight, bias, stride, 0, dilation, groups), 0.0
        case nn.MaxPool2d():
            kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
            return down, across, lambda x: functional.max_pool2d(x, kernel, stride, 0, dilation), -torch.inf
        case _:
            kernel, stride = module.kernel_size, module.stride
            return down, across, lambda x: functional.avg_pool2d(x, kernel, stride, 0), 0.0


def union(spans: Sequence[Span], size: int) -> Span:
    """The smallest span that holds all, in each variant."""
    bounds = [
        (min(starts), max(s + span.length for s, span in zip(starts, spans)))
        for starts in zip(*(span.starts for span in spans))
    ]
    return Span(tuple(first for first, _ in bounds), max(last - first for first, last in bounds)).within(size)

"""Cost: what one explanation takes, measured on a fresh probe, so that shared passes flatter nobody."""

import weakref
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vexbench.hooks import cutting
from vexbench.inputs import ALIGNED
from vexbench.probe import Probe
from vexbench.readout import differentiating, gradients_of
from vexbench.registry import metric
from vexbench.types import Images, Maps, Scores


@metric(family="cost", title="Passes", paper="counted", direction="lower", range=(0.0, float("inf")))
def passes(probe: Probe, explain: Callable[[Probe], Maps]) -> Scores:
    """Forward passes per image that one explanation amounts to, the same for all images of the batch.

    A backward pass to the image counts 1: without weight gradients it has the multiply-adds of a forward pass. One that
    stops at the target layer, or a forward pass that begins there, counts the share of those that it does, measured on
    one image. What is found out once about the network, or fills its front for a whole batch, is not counted, so that
    the score does not hang on batch size or company.
    """
    fresh = _fresh(probe)
    explain(fresh)
    count = fresh.passes
    short = count.partial * short_backward(probe) if count.partial else 0.0
    total = (count.forward + count.backward + short) / len(probe.images)
    return probe.images.new_full((len(probe.images),), total)


@metric(family="cost", title="Time", paper="measured", direction="lower", range=(0.0, float("inf")))
def seconds_ratio(probe: Probe, explain: Callable[[Probe], Maps]) -> Scores:
    """Time of one explanation of the batch over that of one bare forward pass of it, the same for all its images.

    The pass: median of three, after one to warm up.
    """
    bare = [_seconds(lambda: _fresh(probe).logits, probe) for _ in range(4)][1:]
    fresh = _fresh(probe)
    ratio = _seconds(lambda: explain(fresh), probe) / median(bare)
    return probe.images.new_full((len(probe.images),), ratio)


@metric(family="cost", title="Peak memory", paper="counted", direction="lower", range=(0.0, float("inf")))
def peak_memory(probe: Probe, explain: Callable[[Probe], Maps]) -> Scores:
    """Bytes that one explanation of one image holds at its peak, above the network's own and the image's.

    Of the first image alone, in passes of four, the fewest there are: what a method cannot do without, and what tells
    methods apart; more images in a pass take that many times as much, by the user's choice. So the same for all images
    and all batch sizes. On a GPU as its allocator reports it; elsewhere the memory of all tensors alive at once is
    counted, without what an operation needs for itself while it runs: the same number on every machine.
    """
    fresh = _fresh(probe, probe.images[:1], ALIGNED)
    if probe.images.device.type == "cuda":
        torch.cuda.synchronize(probe.images.device)
        before = torch.cuda.memory_allocated(probe.images.device)
        torch.cuda.reset_peak_memory_stats(probe.images.device)
        explain(fresh)
        peak = torch.cuda.max_memory_allocated(probe.images.device) - before
    else:
        with Held() as held:
            explain(fresh)
        peak = held.peak
    return probe.images.new_full((len(probe.images),), float(peak))


@final
class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that were made in it and are still there; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._storages: dict[int, weakref.finalize[..., Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        # a view of the network's weights holds nothing new
        given = {key for key, _ in _storages((args, kwargs))}
        for key, storage in _storages(output):
            if key not in given and key not in self._storages:
                size = storage.nbytes()
                self.now += size
                self._storages[key] = weakref.finalize(storage, self._released, key, size)
        self.peak = max(self.peak, self.now)
        return output

    def _released(self, key: int, size: int) -> None:
        self.now -= size
        del self._storages[key]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for end in self._storages.values():
            end.detach()


def _storages(values: Any) -> list[tuple[int, torch.UntypedStorage]]:
    """The storages behind the tensors in a nest of values, each with what it is known by."""
    leaves = (leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
    return [(storage._cdata, storage) for storage in leaves]


def short_backward(probe: Probe) -> float:
    """Multiply-adds of the backward pass from a logit to the target layer, over those of a whole forward pass."""
    name, layer = probe.classifier.layer(probe.images)
    with differentiating(), cutting(layer, name) as leaves, FlopCounterMode(display=False) as counter:
        logits = probe.classifier.logits(probe.images[:1])
        forward = counter.get_total_flops()
        gradients_of(logits, probe.targets[:1], leaves)
    return (counter.get_total_flops() - forward) / max(forward, 1)


def _fresh(probe: Probe, images: Images | None = None, batch_size: int = 0) -> Probe:
    # what is made once for a network, whatever is explained, is no cost of a method
    probe.classifier.graph(probe.images[:ALIGNED])
    asked = probe.images if images is None else images
    targets = probe.targets[: len(asked)]
    return Probe(probe.classifier, asked, targets, seed=probe.seed, batch_size=batch_size or probe.batch_size)


def _seconds(action: Callable[[], object], probe: Probe) -> float:
    def wait() -> None:
        if probe.images.device.type != "cpu":
            torch.accelerator.synchronize(probe.images.device)

    wait()
    start = perf_counter()
    action()
    wait()
    return perf_counter() - start

"""Cost: what one explanation takes, measured on a fresh probe, so that shared passes flatter nobody."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from vexbench.hooks import cutting
from vexbench.probe import Probe, differentiating, gradients_of
from vexbench.registry import metric
from vexbench.types import Maps, Scores


@metric(family="cost", title="Passes", paper="counted", direction="lower", range=(0.0, float("inf")))
def passes(probe: Probe, explain: Callable[[Probe], Maps]) -> Scores:
    """Forward passes per image that one explanation amounts to, the same for all images of the batch.

    A backward pass to the image counts 1: without weight gradients it has the multiply-adds of a forward pass. One that
    stops at the target layer counts the share of those that it does, measured on one image.
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


def short_backward(probe: Probe) -> float:
    """Multiply-adds of the backward pass from a logit to the target layer, over those of a whole forward pass."""
    name, layer = probe.classifier.layer(probe.images)
    with differentiating(), cutting(layer, name) as leaves, FlopCounterMode(display=False) as counter:
        logits = probe.classifier.logits(probe.images[:1])
        forward = counter.get_total_flops()
        gradients_of(logits, probe.targets[:1], leaves)
    return (counter.get_total_flops() - forward) / max(forward, 1)


def _fresh(probe: Probe) -> Probe:
    return Probe(probe.classifier, probe.images, probe.targets, seed=probe.seed, batch_size=probe.batch_size)


def _seconds(action: Callable[[], object], probe: Probe) -> float:
    def wait() -> None:
        if probe.images.device.type != "cpu":
            torch.accelerator.synchronize(probe.images.device)

    wait()
    start = perf_counter()
    action()
    wait()
    return perf_counter() - start

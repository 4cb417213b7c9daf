import pytest
import torch
from torch import nn

from vexbench.metrics import cost
from vexbench.metrics.cost import passes, seconds_ratio, short_backward
from vexbench.models.base import Classifier
from vexbench.probe import Probe


def blank(probe):
    return torch.zeros(probe.images.shape[0], *probe.images.shape[2:])


def test_passes_are_counted(classifier, images):
    probe = Probe(classifier, images, [0] * 6)

    def seven(other):
        other.scores(other.images for _ in range(7))
        return blank(other)

    def gradients(other):
        list(other.input_gradients(other.images for _ in range(3)))
        return blank(other)

    assert passes(probe, blank).tolist() == [0] * 6
    assert passes(probe, seven).tolist() == [7] * 6
    assert passes(probe, gradients).tolist() == [6] * 6
    assert passes(Probe(classifier, images[:1], [0]), seven).tolist() == [7]


def test_what_the_probe_knows_already_does_not_flatter(classifier, images):
    def traced(other):
        _ = other.trace, other.logits
        return blank(other)

    probe = Probe(classifier, images, [0] * 6)
    traced(probe)
    before = probe.passes.forward
    score = passes(probe, traced)
    # the head of 16 × 4 beside convolutions of 27 × 8 on 16 × 16 and of 72 × 16 on 8 × 8
    head, whole = 16 * 4, 16 * 16 * 27 * 8 + 8 * 8 * 72 * 16 + 16 * 4
    assert short_backward(probe) == pytest.approx(head / whole)
    assert score.tolist() == pytest.approx([1 + head / whole] * 6)  # the trace's forward gives the logits, too
    assert probe.passes.forward == before


class Clock(nn.Module):
    """A network that takes as long as told."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.now = iter(seconds), 0.0

    def forward(self, images):
        self.now += next(self.seconds)
        return images.mean((2, 3))


def test_seconds_are_measured_against_the_median_bare_pass(monkeypatch, images):
    # one to warm up, three bare passes, one of them slow, then the explanation
    module = Clock([100.0, 2.0, 50.0, 2.0, 3.0, 3.0, 4.0])
    monkeypatch.setattr(cost, "perf_counter", lambda: module.now)
    probe = Probe(Classifier(module, class_names=["a", "b", "c"]), images, [0] * 6)

    def thrice(other):
        other.scores(other.images for _ in range(3))
        return blank(other)

    probe.batch_size = 6
    assert seconds_ratio(probe, thrice).tolist() == [5.0] * 6


def test_seconds_by_the_real_clock(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    score = seconds_ratio(probe, lambda other: [other.scores([other.images] * 20), blank(other)][1])
    assert score.shape == (6,)
    assert (score > 1).all()

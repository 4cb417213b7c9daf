import pytest
import torch
from torch import nn

from vexbench.methods.masking_cam import ablation_cam
from vexbench.metrics import cost
from vexbench.metrics.cost import passes, peak_memory, seconds_ratio, short_backward
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


@pytest.mark.parametrize("alone", [True, False], ids=["a head of its own", "the image in the head, too"])
def test_passes_behind_the_layer_hang_on_neither_batch_nor_company(images, alone):
    class Bent(nn.Module):
        """The head is no linear function of the features, so each of them is asked about."""

        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, images):
            pooled = self.features(images).relu().mean((2, 3))
            return self.head(pooled).exp() + (0 if alone else images.mean((1, 2, 3))[:, None])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(Bent(), target_layer="features")

    def score(some, size):
        return passes(Probe(classifier, some, [0] * len(some), batch_size=size), ablation_cam)[0].item()

    expected = score(images, 64)
    assert expected == pytest.approx(9, abs=1) if not alone else 1 <= expected < 2
    assert [score(images, 4), score(images[:1], 64), score(images[:5], 4)] == [pytest.approx(expected)] * 3


class Counting(nn.Module):
    """Notes how many images it is shown at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        return images.mean((2, 3))


def test_few_images_share_passes_that_only_the_last_of_a_batch_does_not_fill():
    module = Counting()
    classifier = Classifier(module, class_names=["a", "b", "c"])
    classifier.folding = False  # a graph would not ask the module
    probe = Probe(classifier, torch.rand(12, 3, 8, 8), [0] * 12)
    probe.scores([probe.images] * 6)
    list(probe.input_gradients([probe.images] * 5))
    assert module.sizes == [60, 12, 32, 28]


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

    probe.batch_size, probe.classifier.folding = 6, False  # a graph would not ask the module
    assert seconds_ratio(probe, thrice).tolist() == [5.0] * 6


def test_seconds_by_the_real_clock(classifier, images):
    probe = Probe(classifier, images, [0] * 6)
    score = seconds_ratio(probe, lambda other: [other.scores([other.images] * 20), blank(other)][1])
    assert score.shape == (6,)
    # how much above is the machine's affair: beside other work, any single pass may take longer than twenty
    assert (score > 0).all()
    assert score.isfinite().all()


KIB = 1024


def test_the_most_bytes_at_once_are_counted(classifier, images):
    def steps(other):
        first = torch.zeros(2, KIB)  # 8 KiB
        second = first + 1  # 16 KiB at once
        del first
        third = second * 2  # 16 KiB again, not 24: the sum of all allocations
        del second, third
        return blank(other)  # 1 KiB: not what is left in the end either

    assert peak_memory(Probe(classifier, images, [0] * 6), steps).tolist() == [16 * KIB] * 6


def test_views_and_what_was_there_before_hold_nothing_new(classifier, images):
    before = torch.ones(64, KIB)

    def views(other):
        part = before.t()[3:].unsqueeze(0)
        before.view(-1).add_(1)
        next(other.classifier.module.parameters()).view(-1)
        return part[0, :16, :16].unsqueeze(0) + 0

    assert peak_memory(Probe(classifier, images, [0] * 6), views).tolist() == [16 * 16 * 4] * 6


def test_the_graph_that_a_gradient_needs_is_counted(classifier, images):
    def forward(other):
        other.scores([other.images])
        return blank(other)

    def backward(other):
        list(other.input_gradients([other.images]))
        return blank(other)

    probe = Probe(classifier, images, [0] * 6)
    asked, derived = peak_memory(probe, forward)[0], peak_memory(probe, backward)[0]
    # passes of four images; a block's output is 8 × 16 × 16, and only a gradient keeps all three of the first block
    block = 4 * 8 * 16 * 16 * 4
    assert 2 * block <= asked < 3.5 * block
    assert derived >= asked + block / 2
    # as often as it is asked, whatever the batch size, and however many variants there are
    many = peak_memory(Probe(classifier, images, [0] * 6, batch_size=16), forward)[0]
    assert many == asked == peak_memory(probe, forward)[0]
    repeated = peak_memory(probe, lambda other: [other.scores(other.images for _ in range(50)), blank(other)][1])[0]
    assert repeated < asked + 2 * block


def test_memory_is_of_a_fresh_probe_and_a_failure_leaves_nothing(classifier, images):
    probe, seen = Probe(classifier, images, [0] * 6), []
    _ = probe.trace

    def traced(other):
        seen.append(len(other.images))
        return other.trace.activations.sum(1)

    assert peak_memory(probe, traced)[0] > 4 * 8 * 16 * 16 * 4
    assert seen == [1]

    def broken(other):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        peak_memory(probe, broken)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None

"""Average gain and ADCC: what the network makes of the part of the image that the map shows."""

import pytest
import torch

from vexbench.metrics.faithfulness import adcc, average_drop, average_gain, average_increase, visible
from vexbench.probe import Explain, Probe

NAN = float("nan")


def test_gain_in_closed_form(linear_probe):
    images, weights = torch.ones(4, 3, 2, 2), torch.tensor([[1.0, 2.0], [-3.0, 0.5]]) / 3
    maps = torch.tensor(
        [
            [[1.0, 1.0], [1.0, 1.0]],  # everything
            [[4.0, 2.0], [0.0, 0.0]],  # 1 · 1 + 2 · 1/2
            [[0.5, 1.0], [0.5, 0.5]],  # divided by its maximum, not stretched from its minimum
            [[0.0, 0.0], [3.0, -1.0]],  # -3
        ]
    )
    y, o = torch.sigmoid(torch.tensor(0.5)), torch.sigmoid(torch.tensor([0.5, 2.0, 0.5 + 2 - 1.5 + 0.25, -3.0]))
    probe = linear_probe(images, weights)
    assert torch.allclose(average_gain(maps, probe), (o - y).relu() / (1 - y), atol=1e-6)
    assert ((average_gain(maps, probe) > 0) == (average_increase(maps, probe) > 0)).all()
    assert (average_gain(maps, probe) * average_drop(maps, probe) == 0).all()


def test_gain_of_a_network_that_is_nearly_certain(linear_probe):
    """1 − y is 1e-9, which no float32 beside 1 can tell."""
    images, weights = torch.ones(1, 3, 1, 2), torch.tensor([[1.0, -1.0]]) / 3
    probe = linear_probe(images, weights, bias=20.0)
    y, o = (torch.sigmoid(torch.tensor(logit, dtype=torch.float64)) for logit in (-20.0, -21.0))
    assert average_gain(torch.tensor([[[1.0, 0.0]]]), probe).item() == pytest.approx(float((y - o) / y), rel=1e-4)


def test_gain_is_not_defined_for_a_network_that_is_certain(linear_probe):
    probe = linear_probe(torch.ones(1, 3, 2, 2), torch.ones(2, 2), bias=2000.0)
    assert average_gain(torch.ones(1, 2, 2), probe).isnan().all()


def fixed(maps):
    return Explain(lambda other: maps)


def test_adcc_in_closed_form(linear_probe):
    images, weights = torch.ones(3, 3, 2, 2), torch.tensor([[1.0, 2.0], [1.0, 0.5]]) / 3
    maps = torch.tensor([[[4.0, 2.0], [0.0, 0.0]], [[4.0, 2.0], [0.0, -8.0]], [[0.0, 0.0], [1.0, 0.0]]])
    again = torch.tensor([[[2.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 2.0]], [[0.0, 0.0], [1.0, 1.0]]])
    y = torch.sigmoid(torch.tensor(4.5))
    drop = (y - torch.sigmoid(torch.tensor([2.0, 2.0, 1.0]))) / y
    r = torch.tensor([1.0, -1.0, 1 / 3**0.5])
    coherency, complexity = (1 + r) / 2, torch.tensor([1.5, 1.5, 1.0]) / 4
    expected = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
    found = adcc(maps, linear_probe(images, weights), fixed(again))
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert found[1] == 0  # of a coherency of nought


def test_adcc_explains_the_shown_part_for_the_same_class(classifier, images, maps):
    asked = []

    def method(probe):
        asked.append(probe)
        return probe.images.sum(1)

    adcc(maps, Probe(classifier, images, [3, 2, 1, 0, 1, 2]), Explain(method))
    assert len(asked) == 1
    assert asked[0].images.equal(images * visible(maps)[:, None])
    assert asked[0].targets.tolist() == [3, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.0, 0.0], [0.0, 1.0], NAN),
        ([1.0, 1.0], [0.0, 1.0], NAN),
        ([-1.0, -2.0], [0.0, 1.0], NAN),
        ([0.0, 1.0], [0.5, 0.5], NAN),
        ([0.0, 1.0], [0.0, 9.0], 3 / (1 + 2 + 1)),
    ],
)
def test_adcc_without_a_correlation_is_not_defined(linear_probe, first, second, expected):
    probe = linear_probe(torch.ones(1, 3, 1, 2), torch.zeros(1, 2))  # the probability stays 1/2
    found = adcc(torch.tensor([[first]]), probe, fixed(torch.tensor([[second]])))
    assert found.item() == pytest.approx(expected, nan_ok=True)


def test_adcc_does_not_depend_on_the_scale_of_the_map(classifier, images, maps):
    probe = Probe(classifier, images, [1] * 6)
    again = maps.flip(1)
    expected = adcc(maps, probe, fixed(again))
    assert torch.allclose(adcc(maps * 1e-6, probe, fixed(again * 1e6)), expected, atol=1e-5)

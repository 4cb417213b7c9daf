"""Controls know nothing of the network, and are what they say."""

import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS

CONTROLS = [name for name, entry in METHODS.items() if entry.family == "control"]


@pytest.mark.parametrize("name", CONTROLS)
def test_they_never_ask_the_network(gap_network, inplace_network, images, targets, name):
    probe = vb.Probe(vb.Classifier(gap_network), images, targets)
    maps = METHODS[name].function(probe)
    assert (probe.passes.forward, probe.passes.backward, probe.passes.partial) == (0, 0, 0)
    assert torch.equal(METHODS[name].function(vb.Probe(vb.Classifier(inplace_network), images, targets)), maps)


def test_random_is_uniform_and_hangs_on_seed_and_image(gap_network, images):
    classifier = vb.Classifier(gap_network)
    images[1] = images[0]
    maps = vb.explain(classifier, images, [0] * 9, "random")
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    assert not torch.equal(maps, vb.explain(classifier, images, [0] * 9, "random", seed=1))
    assert maps[1:].mean() == pytest.approx(1 / 2, abs=0.02)
    assert maps[1:].var() == pytest.approx(1 / 12, abs=0.005)


def test_centre_gaussian(gap_network):
    images = torch.rand(1, 3, 20, 41)
    (bump,) = vb.explain(vb.Classifier(gap_network), images, [0], "centre_gaussian", width=0.3)
    torch.testing.assert_close(bump, bump.flip(0))
    torch.testing.assert_close(bump, bump.flip(1))
    assert bump.argmax() % 41 == 20
    row, column = 3, 8
    distances = ((row + 0.5) / 20 - 0.5) ** 2 + ((column + 0.5) / 41 - 0.5) ** 2
    assert float(bump[row, column]) == pytest.approx(torch.tensor(-distances / (2 * 0.3**2)).exp().item(), rel=1e-5)


def test_sobel_edges_of_a_ramp_are_its_slope(gap_network):
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    images = (0.02 * rows + 0.01 * columns)[None, None].expand(1, 3, -1, -1)
    (edges,) = vb.explain(vb.Classifier(gap_network), images, [0], "sobel_edges")
    torch.testing.assert_close(edges[1:-1, 1:-1], torch.full((18, 28), (0.02**2 + 0.01**2) ** 0.5), rtol=1e-4, atol=0)


def test_sobel_edges_look_at_brightness(gap_network):
    """Edges of one colour count a third; a flat image has none, at the border neither."""
    classifier = vb.Classifier(gap_network)
    images = torch.zeros(3, 3, 12, 12)
    images[0] = 0.7
    images[1, :, :, 6:] = 1
    images[2, 0, :, 6:] = 1
    maps = vb.explain(classifier, images, [0] * 3, "sobel_edges")
    assert maps[0].max() < 1e-6
    torch.testing.assert_close(maps[1], 3 * maps[2])
    assert maps[1][:, 5:7].eq(0.5).all()
    assert maps[1][:, :5].eq(0).all()


def test_controls_need_no_features():
    """They explain a network that no class activation map is defined for."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    maps = vb.explain(vb.Classifier(network), torch.rand(2, 3, 8, 8), None, CONTROLS)
    assert all(m.shape == (2, 8, 8) for m in maps.values())

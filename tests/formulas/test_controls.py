"""Controls know nothing of the network, and are what they say."""

import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS

CONTROLS = [name for name, entry in METHODS.items() if entry.family == "control" and name != "degraded"]


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


def test_degraded_is_the_clean_map_then_more_and_more_of_one_noise(classifier, images, targets):
    clean = vb.explain(classifier, images, targets, "grad_cam")
    steps = [vb.explain(classifier, images, targets, "degraded", noise=noise) for noise in (0.0, 0.25, 0.5, 1.0)]
    assert torch.equal(steps[0], clean)
    torch.testing.assert_close(steps[1], 0.75 * clean + 0.25 * steps[3])
    torch.testing.assert_close(steps[2], (clean + steps[3]) / 2)
    for image, noise in zip(clean, steps[3], strict=True):
        low, high = float(image.min()), float(image.max())
        assert low <= float(noise.min()) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < float(noise.max()) <= high
        assert torch.corrcoef(torch.stack([noise.flatten(), image.flatten()]))[0, 1].abs() < 0.15


def test_degraded_signed_maps_stay_signed(classifier, images, targets):
    clean = vb.explain(classifier, images, targets, "input_x_gradient")
    noise = vb.explain(classifier, images, targets, "degraded", of="input_x_gradient", noise=1.0)
    assert torch.allclose(noise.amin((1, 2)), clean.amin((1, 2)), atol=0.02 * float(clean.abs().max()))
    assert (noise.amin((1, 2)) < 0).all()
    assert (noise.amax((1, 2)) > 0).all()


def test_all_methods_are_degraded_by_the_same_noise(gap_network, images):
    """Scaled to their ranges: a paired comparison."""
    classifier = vb.Classifier(gap_network)
    one, other = (
        vb.explain(classifier, images, [0] * 9, "degraded", of=of, noise=1.0) for of in ("random", "sobel_edges")
    )

    def unit(maps):
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return (maps - low) / (high - low)

    torch.testing.assert_close(unit(one), unit(other), atol=1e-4, rtol=0)
    other = vb.explain(classifier, images, [0] * 9, "degraded", of="random", noise=1.0, seed=1)
    assert not torch.allclose(one, other, atol=0.1)


def test_degraded_constant_maps_get_noise_too(gap_network, images):
    flat = torch.full_like(images, 0.5)
    maps = vb.explain(vb.Classifier(gap_network), flat, [0] * 9, "degraded", of="input_intensity", noise=0.5)
    assert maps.min() >= 0.5
    assert maps[0].std() > 0.1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"noise": 1.5}, "noise must be between 0"),
        ({"noise": float("nan")}, "noise must be between 0"),
        ({"of": "degraded"}, "must name another method"),
        ({"of": "grad_can"}, "did you mean grad_cam"),
    ],
)
def test_degraded_refuses(gap_network, images, params, words):
    with pytest.raises(vb.VexbenchError, match=words):
        vb.explain(vb.Classifier(gap_network), images, [0] * 9, "degraded", **params)

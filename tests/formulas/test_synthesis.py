"""Activation maximisation: closed forms, and what every synthesis promises."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import vexbench as vb
from vexbench.hooks import observing
from vexbench.methods import synthesis
from vexbench.registry import METHODS, SYNTHESES

QUICK = {
    "deep_dream": {"steps": 3, "octaves": 2},
    "class_visualisation": {"steps": 5},
    "feature_visualisation": {"steps": 5},
}


@pytest.fixture(params=list(SYNTHESES))
def method(request):
    return request.param


def make(classifier, targets, method, **options):
    return vb.synthesise(classifier, targets, method, **{"size": 24, **QUICK[method], **options})


def test_shape_range_and_seed(classifier, method):
    made = make(classifier, [3, 1], method, seed=4)
    assert (made.shape, made.dtype, made.requires_grad) == ((2, 3, 24, 24), torch.float32, False)
    assert made.min() >= 0
    assert made.max() <= 1
    torch.manual_seed(9)
    assert torch.equal(make(classifier, torch.tensor([3, 1]), method, seed=4), made)
    assert not torch.equal(make(classifier, [3, 1], method, seed=5), made)
    assert not torch.allclose(made[0], made[1], atol=1e-2)


def test_company_and_batches_do_not_matter(classifier, method):
    together = make(classifier, None, method)
    assert len(together) == 5
    torch.testing.assert_close(make(classifier, [3], method)[0], together[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(make(classifier, [4, 2, 3], method, batch_size=1)[2], together[3], atol=1e-5, rtol=0)


def test_the_network_is_left_alone(network, method):
    network.train()
    network.requires_grad_(False)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state(), repr(np.random.get_state())
    hooks = [len(part._forward_hooks) for part in network.modules()]
    make(vb.Classifier(network), [0, 1], method)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(part.training for part in network.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in network.parameters())
    assert [len(part._forward_hooks) for part in network.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random[0])
    assert repr(np.random.get_state()) == random[1]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_mode_does_not_matter(classifier, images, method, mode):
    expected = make(classifier, [0, 2], method), make(classifier, [1], method, images=images[:1], size=None)
    with mode():
        assert torch.equal(make(classifier, [0, 2], method), expected[0])
        assert torch.equal(make(classifier, [1], method, images=images[:1] * 1, size=None), expected[1])


def test_the_class_gains(classifier, method):
    start = vb.synthesising.soft_noise(torch.arange(5), 24, 0)
    made = make(classifier, None, method)
    gains = (classifier.logits(made) - classifier.logits(start)).diagonal()
    assert (gains > 0).all()


def test_images_to_start_from(gap_network, images, method):
    """Of their own size; without targets the predicted classes, and after steps of no size the images themselves."""
    classifier = vb.Classifier(gap_network)
    made = make(classifier, None, method, images=images, size=None, rate=0.0)
    torch.testing.assert_close(made, images.clamp(0.01, 0.99) if method[0] == "f" else images, atol=1e-5, rtol=0)
    predicted = classifier.logits(images).argmax(1)
    expected = make(classifier, predicted, method, images=images, size=None)
    assert torch.equal(make(classifier, None, method, images=images, size=None), expected)


def test_passes_are_counted(gap_network, method):
    probe = vb.Probe(vb.Classifier(gap_network, target_layer="5"), torch.full((3, 3, 24, 24), 0.5), [0, 1, 2])
    shares = [share for share, _ in SYNTHESES[method].function(probe, **QUICK[method])]
    steps = {"deep_dream": 6}.get(method, 5)
    assert (len(shares), shares[-1], sorted(shares)) == (steps, 1, shares)
    traced = 3 * (method == "deep_dream")
    assert (probe.passes.forward, probe.passes.backward) == (3 * steps + traced, 3 * steps)


def test_channels(inplace_network, method):
    """A layer's channels in the place of classes: ten, where the network has five classes."""
    made = make(vb.Classifier(inplace_network), [7, 9], method, channels_of="last")
    start = vb.synthesising.soft_noise(torch.tensor([7, 9]), 24, 0)
    with torch.no_grad(), observing(inplace_network) as finished:
        inplace_network(torch.cat([start, made]))
    # the ReLU behind it works in place, so what was recorded is what comes behind it
    means = next(output for name, _, output in finished if name == "last").mean((2, 3))
    assert (means[2:, [7, 9]].diagonal() > means[:2, [7, 9]].diagonal()).all()


class Quadratic(nn.Module):
    """One class, −‖I − c‖²/P over P pixels: what maximises it less the decay is known, pixel by pixel."""

    def __init__(self, centre):
        super().__init__()
        self.centre = centre

    def forward(self, images):
        return -(images - self.centre).square().mean((1, 2, 3), keepdim=True)[..., 0, 0] * 3


def test_class_visualisation_finds_the_maximum(monkeypatch):
    """The network sees I − m, so that −‖I − m − c‖² − λ‖I − m‖² is largest at I = m + c/(1 + λ), λ = 1."""
    centre = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(synthesis, "BANDS", 1)  # evened bands change the way, not the place
    classifier = vb.Classifier(Quadratic(centre), mean=(0.2, 0.2, 0.2))
    options = {"steps": 300, "rate": 0.003, "decay": 1.0, "variation": 0.0, "jitter": 0}
    made = vb.synthesise(classifier, [0], "class_visualisation", size=24, **options)
    assert (made - (0.2 + centre / 2)).abs().mean() <= 0.01


def test_roughness_is_half_the_gradient_of_the_variation(images):
    leaf = images.clone().requires_grad_()
    variation = leaf.diff(dim=2).square().sum() + leaf.diff(dim=3).square().sum()
    (gradient,) = torch.autograd.grad(variation, leaf)
    torch.testing.assert_close(2 * synthesis._roughness(images), gradient)


def test_deep_dream_scores_are_the_equation(inplace_network, images, targets):
    """The whole layer: ½‖A‖². As evidence: ½ Σ w|w|·‖relu(A)‖² with Grad-CAM's weights over their largest."""
    probe = vb.Probe(vb.Classifier(inplace_network, target_layer="norm"), images, targets)
    activations, gradients = probe.trace
    whole = synthesis._dreaming(probe, "", False)
    # behind the layer the network adds to it in place
    with torch.no_grad():
        features = inplace_network.relu(inplace_network.first(images))
    behind = activations + features
    torch.testing.assert_close(whole.logits[:, 0], behind.relu().square().sum((1, 2, 3)) / 2)
    weights = gradients.mean((2, 3))
    weights = weights / weights.abs().amax(1, keepdim=True)
    expected = 0.5 * (weights * weights.abs() * behind.relu().square().sum((2, 3))).sum(1)
    torch.testing.assert_close(synthesis._dreaming(probe, "", True).logits.diagonal(), expected, rtol=1e-4, atol=1e-4)


def test_jitter_is_undone(images, targets):
    """The gradient of a function of single pixels does not hang on where they are."""

    class Cubes(nn.Module):
        def forward(self, images):
            return images.pow(3).sum((1, 2, 3))[:, None].expand(-1, 2)

    probe = vb.Probe(vb.Classifier(Cubes()), images, [0, 1] * 4 + [0])
    torch.testing.assert_close(synthesis._shaken(probe, images, 7, targets, 3), 3 * images.square())


def test_waves_there_and_back(images):
    for pictures in (images, images[..., :35], images[..., :23, :]):
        waves = synthesis.Waves(pictures)
        torch.testing.assert_close(waves.images(waves.of(pictures)), pictures.clamp(0.01, 0.99), atol=1e-5, rtol=0)


def test_equal_coefficients_fall_as_one_over_the_frequency():
    """Power 1/f² per wave, and light varies more than colour, as in photographs."""
    waves = synthesis.Waves(torch.full((1, 3, 64, 64), 0.5))
    source = torch.Generator().manual_seed(0)
    images = waves.images(0.1 * torch.randn((400, 3, 64, 33, 2), generator=source))
    power = torch.fft.rfft2(images.logit()).abs().square().mean((0, 1))
    assert float(power[4, 4] / power[16, 16]) == pytest.approx(16, rel=0.15)
    light, reddish = images.mean(1), images[:, 0] - images[:, 2]
    assert light.std() > reddish.std() / 2**0.5


def test_views_move_turn_and_scale(images):
    """No change is the identity; a shift of whole pixels is that; half a turn turns both sides around."""
    nothing = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(9, 2, 3)
    torch.testing.assert_close(synthesis.viewed(images, nothing), images, atol=1e-5, rtol=0)
    shifted = nothing + torch.tensor([[0, 0, 2 * 3 / 36], [0, 0, 2 * 2 / 24]])
    torch.testing.assert_close(synthesis.viewed(images, shifted)[..., :-2, :-3], images[..., 2:, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(synthesis.viewed(images, -nothing), images.flip(2, 3), atol=1e-5, rtol=0)


def test_places_turn_without_shearing(images, targets):
    """In pixels, the two columns are at a right angle and equally long."""
    probe = vb.Probe(vb.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 36, 5))), images, targets)
    places = synthesis._places(probe, 0, 8, 0.1, 30.0)[:, :, :2]
    sides = torch.tensor([36.0, 24.0])
    pixels = places * sides[:, None] / sides[None]
    squared = pixels.transpose(1, 2) @ pixels
    torch.testing.assert_close(squared[:, 0, 1], torch.zeros(9), atol=1e-5, rtol=0)
    torch.testing.assert_close(squared[:, 0, 0], squared[:, 1, 1])
    assert ((squared[:, 0, 0].rsqrt() - 1).abs() <= 0.1 + 1e-5).all()
    assert len(squared[:, 0, 0].unique()) == 5  # one per target


def test_networks_of_one_size(images):
    """A head that knows one size dreams in one octave; the error says so."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24 * 24, 3))
    classifier = vb.Classifier(network, input_size=24)
    with pytest.raises(vb.NotApplicable, match=r"takes no images of 17 × 17 pixels .* use octaves=1") as caught:
        vb.synthesise(classifier, [0], "deep_dream", octaves=2, steps=1)
    assert "\n" not in str(caught.value)
    assert vb.synthesise(classifier, [0], "deep_dream", octaves=1, steps=1).shape == (1, 3, 24, 24)


def test_listed_as_methods_and_refused_as_maps(gap_network, images):
    listed = vb.methods()
    assert {"deep_dream", "class_visualisation", "feature_visualisation"} == set(SYNTHESES) < set(listed)
    assert not set(SYNTHESES) & set(METHODS)
    families = [entry.family for entry in listed.values()]
    assert sorted(families, key=families.index) == families
    with pytest.raises(vb.VexbenchError, match=r"'deep_dream' makes an image of a class, not a map.*vb\.synthesise"):
        vb.explain(vb.Classifier(gap_network), images, None, "deep_dream")
    with pytest.raises(vb.VexbenchError, match="'class_visualisation' makes an image of a class"):
        vb.run(vb.StudyConfig(methods=["class_visualisation"], out="nowhere"))


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("deep_drem", {}, "unknown synthesis 'deep_drem'; did you mean deep_dream"),
        ("grad_cam", {}, "unknown synthesis 'grad_cam'"),
        ("deep_dream", {"step": 3}, "unknown parameter of deep_dream 'step'"),
        ("deep_dream", {"octaves": 0}, "octaves must be at least 1, not 0"),
        ("deep_dream", {"zoom": 1.0}, "zoom must be above 1"),
        ("deep_dream", {"zoom": float("nan")}, "zoom must be above 1"),
        ("deep_dream", {"layer": "nine"}, "layer 'nine'"),
        ("class_visualisation", {"decay": float("nan")}, "decay must be at least 0, not nan"),
        ("class_visualisation", {"jitter": -1}, "jitter must be at least 0"),
        ("feature_visualisation", {"scale": 1.0}, "scale must be below 1"),
        ("feature_visualisation", {"rate": float("inf")}, "rate must be at least 0, not inf"),
        ("feature_visualisation", {"channels_of": "8"}, "class index 12 does not exist"),
        ("feature_visualisation", {"channels_of": "9"}, "layer '9' gives no features"),
        ("feature_visualisation", {"size": 0}, "size must be at least 1"),
        ("feature_visualisation", {"images": torch.zeros(1, 3, 8, 8)}, "size= and images= contradict"),
    ],
)
def test_mistakes(gap_network, method, options, words):
    target = 12 if "12" in words else 0
    if options.get("channels_of") == "8":
        options = {"channels_of": "5"}
    with pytest.raises(vb.VexbenchError) as caught:
        vb.synthesise(vb.Classifier(gap_network), [target], method, **{"size": 24, **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_does_not_exist(gap_network):
    with pytest.raises(vb.VexbenchError, match="class index 5 does not exist"):
        vb.synthesise(vb.Classifier(gap_network), [0, 5], "deep_dream", size=24)
    with pytest.raises(vb.VexbenchError, match="1 images but 2 targets"):
        vb.synthesise(vb.Classifier(gap_network), [0, 1], "deep_dream", images=torch.zeros(1, 3, 24, 24))


def test_no_targets_no_images(gap_network):
    assert vb.synthesise(vb.Classifier(gap_network), [], "deep_dream", size=24).shape == (0, 3, 24, 24)


def test_bands_are_evened(images):
    """White noise and its blur at ten times the size come out alike: each band has the same mean size."""
    blurred = functional.avg_pool2d(images, 7, 1, 3)
    first, second = (synthesis._evened(values) for values in (images + 10 * blurred, 1000 * (images + 10 * blurred)))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)

"""Peers as registered methods: their maps are those of the peers, and what methods promise holds for them."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS

attr = pytest.importorskip("captum.attr")

PAGE = Path(__file__).parents[2] / "docs/how-to/use-a-peer.md"


@pytest.fixture(scope="module")
def cams():
    return pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)


@pytest.fixture(autouse=True)
def registry():
    """What it was, afterwards."""
    known = dict(METHODS)
    yield
    METHODS._entries.clear()
    METHODS._entries.update(known)


@pytest.fixture
def adapted(cams):
    """One that follows gradients, one that draws random numbers, one with hooks of its own."""
    return [
        vb.from_captum(attr.Saliency, signed=False),
        vb.from_captum(
            lambda network: attr.NoiseTunnel(attr.Saliency(network)), "noisy", nt_samples=3, stdevs=0.1, abs=False
        ),
        vb.from_pytorch_grad_cam(cams.GradCAM),
    ]


def scaled(maps):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.fixture(params=["gap", "functional"])
def layered(request):
    """Networks whose target layer is used once."""
    return vb.Classifier(
        request.getfixturevalue(f"{request.param}_network"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)
    )


def test_the_peers_maps_are_ours(classifier, images, targets):
    saliency = vb.from_captum(attr.Saliency, signed=False)
    torch.testing.assert_close(
        vb.explain(classifier, images, targets, saliency), vb.explain(classifier, images, targets, "saliency")
    )
    path = vb.from_captum(attr.IntegratedGradients, "path", n_steps=16, method="gausslegendre")
    ours = vb.explain(classifier, images, targets, "integrated_gradients", steps=16, baseline="black")
    theirs = vb.explain(classifier, images, targets, path)
    assert (ours - theirs).abs().max() <= 1e-4 * ours.abs().max()


def test_the_peers_cams_are_ours(layered, images, targets, cams):
    cam = vb.from_pytorch_grad_cam(cams.GradCAM)
    ours, theirs = (vb.explain(layered, images, targets, name) for name in ("grad_cam", cam))
    seen = ours.amax((1, 2)) > 0
    assert seen.sum() >= 5
    torch.testing.assert_close(scaled(ours[seen]), theirs[seen], atol=1e-3, rtol=0)


def test_layers_are_given_to_those_who_ask(layered, images, targets):
    cam = vb.from_captum(attr.LayerGradCam, relu_attributions=True)
    ours = vb.explain(layered, images, targets, "grad_cam")
    torch.testing.assert_close(vb.explain(layered, images, targets, cam), ours, atol=1e-5, rtol=1e-4)


def test_a_layer_of_several_uses_is_refused(inplace_network, images, targets, cams):
    """The peers would take what the ReLU of the classifier gives for the features."""
    for name in (vb.from_pytorch_grad_cam(cams.GradCAM), vb.from_captum(attr.LayerGradCam)):
        with pytest.raises(vb.NotApplicable, match="'relu' is used several times"):
            vb.explain(vb.Classifier(inplace_network), images, targets, name)
        assert vb.explain(vb.Classifier(inplace_network, target_layer="last"), images, targets, name).max() > 0


def test_ids_titles_and_parameters(cams):
    assert vb.from_captum(attr.IntegratedGradients, n_steps=8) == "captum_integrated_gradients"
    entry = vb.methods()["captum_integrated_gradients"]
    assert (entry.title, entry.family, entry.signed) == ("IntegratedGradients (captum)", "other", True)
    assert entry.parameters == {"n_steps": 8}
    assert re.fullmatch(r"captum \d+\..*", entry.paper)
    assert entry.summary.endswith(".")
    assert vb.from_captum(attr.Occlusion, "windows", sliding_window_shapes=(3, 9, 9), strides=(3, 9, 9)) == "windows"
    assert vb.methods()["windows"].bind().digest == vb.methods()["windows"].bind().digest
    assert vb.from_pytorch_grad_cam(cams.GradCAMPlusPlus) == "pytorch_grad_cam_grad_cam_plus_plus"
    assert vb.methods()["pytorch_grad_cam_grad_cam_plus_plus"].family == "cam"


def test_options_reach_the_peer(gap_network, images, targets, cams):
    classifier = vb.Classifier(gap_network)
    path = vb.from_captum(attr.IntegratedGradients, n_steps=2)
    coarse, fine = (vb.explain(classifier, images[:2], targets[:2], path, n_steps=steps) for steps in (2, 40))
    assert torch.equal(vb.explain(classifier, images[:2], targets[:2], path), coarse)
    assert not torch.allclose(coarse, fine, rtol=1e-3)
    with pytest.raises(vb.VexbenchError, match="unknown parameter of captum_integrated_gradients 'steps'"):
        vb.explain(classifier, images, targets, path, steps=3)
    smooth = vb.from_pytorch_grad_cam(cams.LayerCAM, "smooth_layer_cam", eigen_smooth=True)
    plain = vb.from_pytorch_grad_cam(cams.LayerCAM)
    assert not torch.allclose(*(vb.explain(classifier, images, targets, name) for name in (smooth, plain)), atol=0.01)


def test_maps_hang_on_image_class_and_seed_only(layered, images, targets, adapted):
    for name in adapted:
        expected = vb.explain(layered, images, targets, name, seed=3)
        assert (expected.shape, expected.dtype) == ((9, 24, 36), torch.float32)
        assert torch.equal(vb.explain(layered, images[3:5], targets[3:5], name, seed=3, batch_size=1), expected[3:5])
        with torch.inference_mode():
            assert torch.equal(vb.explain(layered, images[:2] * 1, targets[:2], name, seed=3), expected[:2])
        assert vb.explain(layered, images[:0], [], name).shape == (0, 24, 36)
    first, other = (vb.explain(layered, images, targets, "noisy", seed=seed) for seed in (3, 4))
    assert not torch.allclose(first, other, rtol=1e-3)


def test_network_and_generators_are_left_alone(network, images, targets, adapted):
    network.train()
    network.requires_grad_(False)
    convolutions = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    classifier = vb.Classifier(network, target_layer=convolutions[-1])
    before = torch.get_rng_state(), repr(np.random.get_state())
    for name in adapted:
        assert vb.explain(classifier, images[:4], targets[:4], name).abs().max() > 0
    assert all(part.training for part in network.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in network.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]


def test_all_global_generators_are_seeded(gap_network, images):
    class Chance:
        def __init__(self, network):
            pass

        def attribute(self, image, target):
            return torch.rand(1, 3, 1, 1) + np.random.rand() + random.random() + 0 * image

    name = vb.from_captum(Chance, "chance")
    first, again = (vb.explain(vb.Classifier(gap_network), images, [0] * 9, name, seed=1) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first[:, 0, 0].unique()) == 9


def test_passes_are_the_images_sent_forward(gap_network, images, targets):
    classifier = vb.Classifier(gap_network, class_names="abcde")
    for name, each in ((vb.from_captum(attr.Saliency), 1), (vb.from_captum(attr.IntegratedGradients, n_steps=10), 10)):
        probe = vb.Probe(classifier, images, targets, batch_size=4)
        METHODS[name].function(probe, **METHODS[name].parameters)
        assert (probe.passes.forward, probe.passes.backward) == (9 * each, 0)


def test_memory_is_bounded_by_the_batch(gap_network, images, targets):
    seen = []
    gap_network.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    path = vb.from_captum(attr.IntegratedGradients, n_steps=30)
    vb.explain(vb.Classifier(gap_network, class_names="abcde"), images, targets, path, batch_size=8)
    assert 1 <= max(seen) <= 8


def test_what_the_peer_says_is_one_line(gap_network, images, targets, cams):
    class Broken(cams.GradCAM):
        def get_cam_image(self, *_, **__):
            return [][3]

    class Loud:
        def __init__(self, network):
            pass

        def attribute(self, image, target):
            raise ValueError("first line\n  second line")

    class Odd:
        def __init__(self, network):
            pass

        def attribute(self, image, target):
            return image[:, 0]

    for name, words in (
        (vb.from_pytorch_grad_cam(Broken, "broken"), "fails here: IndexError: list index out of range"),
        (vb.from_captum(Loud, "loud"), "fails here: ValueError: first line second line"),
        (vb.from_captum(Odd, "odd"), "it gave (1, 24, 36) where attributions (1, C, h, w) are needed"),
        (vb.from_captum(attr.GradientShap), "GradientShap (captum) fails here: TypeError:"),
    ):
        with pytest.raises(vb.NotApplicable) as caught:
            vb.explain(vb.Classifier(gap_network), images, targets, name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(vb.VexbenchError, match="class index 99 does not exist"):
        vb.explain(vb.Classifier(gap_network), images[:1], [99], vb.from_pytorch_grad_cam(cams.GradCAM))


def test_networks_without_features_still_have_gradients(images, targets):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 36, 5))
    saliency = vb.from_captum(attr.Saliency)
    assert vb.explain(vb.Classifier(network), images, targets, saliency).shape == (9, 24, 36)


def test_mistakes_in_registering():
    with pytest.raises(vb.VexbenchError, match="give name="):
        vb.from_captum(lambda network: attr.Saliency(network))
    with pytest.raises(vb.VexbenchError, match=r"option baselines must be a number, .* not Tensor"):
        vb.from_captum(attr.IntegratedGradients, baselines=torch.zeros(3))
    with pytest.raises(vb.VexbenchError, match="'saliency' is registered twice"):
        vb.from_captum(attr.Saliency, "saliency")


def test_in_a_study(tmp_path, adapted):
    scenes = {"name": "scenes", "per_class": 1, "size": 96}
    methods = ["random", *adapted, vb.from_captum(attr.GradientShap)]
    config = vb.StudyConfig(
        datasets=[scenes], methods=methods, metrics=["sparseness", "passes", "seconds_ratio"], out=tmp_path / "study"
    )
    result = vb.run(config)
    (reason,) = result.failures()
    assert "missing 1 required positional argument: 'baselines'" in reason


def test_the_whole_page_runs(cams):
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    exec(compile("\n".join(blocks), PAGE.name, "exec"), {"__name__": "how_to_peer"})
    assert {"captum_saliency", "captum_smooth_grad", "pytorch_grad_cam_grad_cam"} <= set(vb.methods())

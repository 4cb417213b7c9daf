"""Wrong input is refused in one line that says what was expected, what came, and what to do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS, METRICS


class TwoBranches(nn.Module):
    """Two paths of convolutions that meet only behind the pooling."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 6, 5)
        self.head = nn.Linear(10, 5)

    def forward(self, images):
        return self.head(torch.cat([self.left(images).mean((2, 3)), self.right(images).mean((2, 3))], 1))


class SharedBranches(nn.Module):
    """Two paths that end in one and the same ReLU."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return self.head((self.relu(self.left(images)) + self.relu(self.right(images))).mean((2, 3)))


class Returns(nn.Module):
    """A network that hands out what it is told to."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images):
        return self.change(self.network(images))


class Ignorant(nn.Module):
    """A layer that is run and not listened to, and logits that do not look at the image."""

    def __init__(self):
        super().__init__()
        self.features, self.bias = nn.Conv2d(3, 4, 3), nn.Parameter(torch.zeros(1, 5))

    def forward(self, images):
        self.features(images)
        return self.bias.expand(len(images), -1)


@pytest.fixture
def refuses(gap_network, images, targets):
    """Call a verb with one thing wrong, and check that the error is one line with the essential words."""

    def check(*words, method="grad_cam", module=gap_network, options=None, wrong=None, aims=targets, **params):
        pictures = images if wrong is None else wrong
        with pytest.raises(vb.VexbenchError) as caught:
            vb.explain(vb.Classifier(module, **(options or {})), pictures, aims, method, **params)
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message

    return check


def test_unknown_method(refuses):
    refuses("unknown method 'gradcam'", "did you mean grad_cam", method="gradcam")


def test_unknown_method_in_a_list(refuses):
    refuses("unknown method 'salience'", "did you mean saliency", method=["grad_cam", "salience"])


def test_unknown_parameter(refuses):
    refuses("unknown parameter of occlusion 'strides'", "did you mean stride", method="occlusion", strides=4)
    refuses("unknown parameter of cam 'steps'; there are none, leave it out", method="cam", steps=4)


@pytest.mark.parametrize("value", [2.5, float("nan"), float("inf"), "five", True, None])
def test_parameter_of_another_type(refuses, value):
    refuses("smooth_grad", "'samples' must be a whole number", method="smooth_grad", samples=value)


def test_parameters_out_of_range(refuses):
    refuses("smooth_grad: samples must be at least 1", method="smooth_grad", samples=0)
    for noise in (-0.1, float("nan"), float("inf")):
        refuses("smooth_grad:", f"noise at least 0, not 25 and {noise}", method="smooth_grad", noise=noise)
    for width in (0.0, -1.0, float("nan"), float("inf")):
        refuses("centre_gaussian: width must be above 0", f"not {width}", method="centre_gaussian", width=width)
    refuses("integrated_gradients: steps must be at least 1", method="integrated_gradients", steps=0)
    refuses("1 <= stride <= patch", "stride 9 and patch 4", method="occlusion", patch=4, stride=9)


def test_unknown_values_of_parameters(refuses):
    refuses("unknown baseline 'blck'", "did you mean black", method="integrated_gradients", baseline="blck")
    refuses("unknown baseline 'gray'", "did you mean grey", method="occlusion", baseline="gray")
    refuses("unknown rule 'rieman'", "did you mean riemann", method="integrated_gradients", rule="rieman")


def test_parameters_for_several_methods(refuses):
    refuses("parameters go to one method", "Choice.of(", method=["occlusion", "saliency"], patch=5)


def test_images_of_eight_bits_as_floats(refuses, images):
    refuses("must be in [0, 1]", "mean= and std=", wrong=images * 255)


def test_normalised_images(refuses, images):
    refuses("must be in [0, 1]", "undo the normalisation", wrong=(images - 0.5) / 0.2)


def test_images_of_eight_bits(refuses, images):
    refuses("torch.uint8", "divide 8-bit images by 255", wrong=(images * 255).byte())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_with_holes(refuses, images, value):
    images[2, 1, 3, 4] = value
    refuses("NaN or infinite", wrong=images)


def test_images_of_another_shape(refuses, images):
    refuses("(N, 3, H, W)", "(9, 1, 24, 36)", wrong=images[:, :1])
    refuses("(N, 3, H, W)", "(3, 24, 36)", wrong=images[0], aims=[0])
    refuses("(N, 3, H, W)", "(9, 24, 36, 3)", wrong=images.permute(0, 2, 3, 1))


@pytest.mark.parametrize("target", [5, 99, -1])
def test_class_that_does_not_exist(refuses, targets, target):
    targets[8] = target
    refuses(f"class index {target} does not exist", "5 classes, 0 to 4", aims=targets)


@pytest.mark.parametrize("method", ["random", "centre_gaussian", "sobel_edges"])
def test_class_that_does_not_exist_for_controls(refuses, targets, method):
    """They never ask the network, and refuse all the same."""
    refuses("class index 7 does not exist", aims=targets + 7, method=method)


def test_wrong_number_of_targets(refuses, targets):
    refuses("9 images but 8 targets", aims=targets[:8])
    refuses("9 images but targets of shape ()", aims=torch.tensor(3))
    refuses("9 images but targets of shape (9, 5)", aims=torch.zeros(9, 5))


def test_targets_that_are_no_classes(refuses, targets):
    refuses("whole numbers", "torch.float32", aims=targets.float())
    refuses("whole numbers", "torch.bool", aims=targets > 0)


def test_targets_that_are_no_numbers():
    """In a Python of its own, since types are checked before the values in this one."""
    code = """
import torch, vexbench as vb
images, demo = torch.rand(1, 3, 96, 96), vb.demo_classifier()
for ask in (lambda aim: vb.explain(demo, images, [aim], "random"), lambda aim: vb.Probe(demo, images, [aim])):
    for aim in ("sea", None):
        try:
            ask(aim)
        except vb.VexbenchError as error:
            print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.partition("numbers, ")[2] for line in told] == ["not ['sea'].", "not [None]."] * 2


@pytest.mark.parametrize("batch_size", [0, -4])
def test_batches_of_nothing(refuses, batch_size):
    refuses("batch_size must be at least 1", batch_size=batch_size)


def test_layer_that_does_not_exist(refuses, inplace_network):
    refuses("unknown target layer 'lst'", "did you mean last", module=inplace_network, options={"target_layer": "lst"})


def test_layer_that_is_not_spatial(refuses):
    refuses("target layer '9'", "(N, C, h, w), not (12, 5)", options={"target_layer": "9"})


def test_layer_that_takes_no_part(refuses, gap_network):
    gap_network.append(nn.Identity())
    gap_network.forward = lambda images: gap_network[:-1](images)
    refuses("target layer '10' takes no part in the forward pass", options={"target_layer": "10"})


def test_layer_that_has_no_effect(refuses):
    refuses("target layer 'features'", "choose another", module=Ignorant(), options={"target_layer": "features"})


def test_layer_whose_last_use_is_half_of_the_story(refuses):
    refuses("ambiguous", "'left'", "'right'", module=SharedBranches())
    refuses("target layer 'relu'", "choose another", module=SharedBranches(), options={"target_layer": "relu"})


def test_two_branches(refuses):
    refuses("ambiguous", "target_layer=", "'left' (4, 22, 34)", "'right' (6, 20, 32)", module=TwoBranches())


def test_network_without_features(refuses):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 36, 5))
    refuses("no layer with spatial features", module=network)


def test_network_that_does_not_give_logits(refuses, gap_network):
    words = "logits of shape (N, classes)"
    refuses(words, "not tuple", "wrap it", module=Returns(gap_network, lambda logits: (logits, logits)))
    refuses(words, "not dict", "wrap it", module=Returns(gap_network, lambda logits: {"logits": logits}))
    refuses(words, "not (12, 5, 1)", module=Returns(gap_network, lambda logits: logits[..., None]), aims=None)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad", "integrated_gradients", "grad_cam"])
def test_network_without_gradients(refuses, gap_network, method):
    module = Returns(gap_network, torch.Tensor.detach)
    refuses("no gradient", "detach()", module=module, method=method, options={"target_layer": "network.5"})


def test_logits_that_ignore_the_image(refuses):
    refuses("do not depend on the image", module=Ignorant(), method="saliency")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_broken_weights(refuses, gap_network, value):
    with torch.no_grad():
        gap_network[3].weight[0, 0, 0, 0] = value
    refuses("weight '3.weight'", "NaN or infinite", "another checkpoint", module=gap_network)


def test_class_names_of_another_length(refuses):
    refuses("5 logits", "3 class names", options={"class_names": ["sea", "forest", "street"]})


def test_normalisation_of_another_length(refuses):
    refuses("three numbers", options={"mean": (0.5,), "std": (0.5,)})
    refuses("std above zero", options={"std": (0.2, 0.0, 0.2)})


@pytest.fixture
def refuses_scores(gap_network, images, targets):
    def check(*words, metric="sparseness", maps=None, **options):
        maps = torch.rand(9, 24, 36, generator=torch.Generator().manual_seed(0)) if maps is None else maps
        with pytest.raises(vb.VexbenchError) as caught:
            vb.evaluate(vb.Classifier(gap_network), images, targets, maps, metric, **options)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    return check


def test_unknown_metric(refuses_scores):
    refuses_scores("unknown metric 'insertio'", "did you mean insertion", metric="insertio")


def test_unknown_parameter_of_a_metric(refuses_scores):
    refuses_scores("unknown parameter of deletion 'step'", "did you mean steps", metric="deletion", step=3)


def test_maps_that_do_not_fit(refuses_scores):
    refuses_scores("maps must be (9, 24, 36)", "(9, 24, 24)", maps=torch.rand(9, 24, 24))
    refuses_scores("finite", "NaN", maps=torch.full((9, 24, 36), float("nan")))
    refuses_scores("maps must be", "numbers", maps=np.full((9, 2, 1), "a"))


def test_a_wrong_size_is_not_called_infinite(gap_network, images, targets):
    with pytest.raises(vb.VexbenchError) as caught:
        vb.evaluate(vb.Classifier(gap_network), images, targets, torch.zeros(9, 8, 8), "sparseness")
    assert "NaN" not in str(caught.value)


@pytest.mark.parametrize("metric", ["sparseness", "pointing_game"])
def test_arrays_are_scored_like_tensors(gap_network, images, targets, metric):
    classifier, maps, regions = vb.Classifier(gap_network), images.mean(1), images[:, 0] > 0.5
    read_only = maps.numpy().copy()
    read_only.setflags(write=False)
    scores = vb.evaluate(classifier, images, targets, read_only, metric, regions=regions.numpy())
    assert torch.equal(scores, vb.evaluate(classifier, images, targets, maps, metric, regions=regions))


def test_maps_that_float32_cannot_hold(refuses_scores):
    refuses_scores("finite as float32", maps=torch.full((9, 24, 36), 1e300, dtype=torch.float64))
    refuses_scores("real numbers", "torch.complex64", maps=torch.zeros(9, 24, 36, dtype=torch.complex64))


def test_arrays_that_run_backwards(gap_network, images, targets):
    classifier, maps = vb.Classifier(gap_network), images.mean(1)
    regions = images[:, 0] > 0.5
    scores = vb.evaluate(
        classifier,
        images,
        targets,
        maps.numpy()[:, ::-1],
        "pointing_game",
        regions=regions.numpy()[:, ::-1],
    )
    expected = vb.evaluate(classifier, images, targets, maps.flip(1), "pointing_game", regions=regions.flip(1))
    assert torch.equal(scores, expected)


def test_values_of_another_type():
    """In a Python of its own, since types are checked before the values in this one."""
    code = """
import torch, vexbench as vb
images, maps, aims, demo = torch.rand(2, 3, 96, 96), torch.rand(2, 96, 96), torch.tensor([0, 1]), vb.demo_classifier()
def evaluate(metric, **options):
    vb.evaluate(demo, images, aims, maps, metric, **options)
for ask in (
    lambda: evaluate(None),
    lambda: evaluate(["sparseness"]),
    lambda: evaluate("max_sensitivity", explain=3),
    lambda: vb.explain(demo, images, aims, None),
    lambda: vb.explain(demo, images, aims, ["random", None]),
    lambda: evaluate("grid_pointing_game", references=(images, aims, aims)),
    lambda: evaluate("grid_pointing_game", references=(images,)),
    lambda: evaluate("grid_pointing_game", references=images),
    lambda: evaluate("grid_pointing_game", references=7),
    lambda: evaluate("grid_pointing_game", references=(images, 3)),
    lambda: evaluate("grid_pointing_game", references=(images, ["sea", "street"])),
):
    try:
        ask()
    except vb.VexbenchError as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == [
        "a metric must be an id or a Choice, not None.",
        "a metric must be an id or a Choice, not ['sparseness'].",
        "a method must be an id or a Choice, not 3.",
        "a method must be an id or a Choice, not None.",
        "a method must be an id or a Choice, not None.",
        "references must be a pair (images, targets), not 3 values.",
        "references must be a pair (images, targets), not 1 values.",
        "references must be a pair (images, targets), not Tensor.",
        "references must be a pair (images, targets), not int.",
        "references must be images of 96 × 96 pixels with a class each; got (2, 3, 96, 96) and ().",
        "targets of references must be a tensor, an array or a list of numbers, not ['sea', 'street'].",
    ]


def test_a_metric_may_be_a_choice(gap_network, images, targets):
    classifier, maps, deletion = vb.Classifier(gap_network), images.mean(1), vb.Choice.of("deletion", steps=5)
    few = vb.evaluate(classifier, images, targets, maps, deletion)
    assert torch.equal(few, vb.evaluate(classifier, images, targets, maps, "deletion", steps=5))
    again = vb.evaluate(classifier, images, targets, maps, deletion, steps=9)
    assert torch.equal(again, vb.evaluate(classifier, images, targets, maps, "deletion", steps=9))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, targets: (images, targets[:8]), "with a class each; got (9, 3, 24, 36) and (8,)"),
        (lambda images, targets: (images, targets[:, None]), "with a class each; got (9, 3, 24, 36) and (9, 1)"),
        (lambda images, targets: (images[..., :20], targets), "images of 24 × 36 pixels"),
        (lambda images, targets: (images, targets.float()), "whole numbers, one class index each; got torch.float32"),
        (lambda images, targets: (images, targets > 1), "whole numbers, one class index each; got torch.bool"),
        (lambda images, targets: (images, targets * 0 + 5), "class 5, which does not exist; the network has 5 classes"),
        (lambda images, targets: (images, targets * 0 - 1), "class -1, which does not exist"),
    ],
)
def test_references_that_are_none(refuses_scores, images, targets, change, words):
    refuses_scores(words, metric="grid_pointing_game", references=change(images, targets))


def test_regions_are_needed(refuses_scores):
    refuses_scores("needs regions=", metric="pointing_game")
    refuses_scores("regions must be bool", metric="pointing_game", regions=torch.ones(9, 24, 36))
    wrong = torch.ones(9, 24, 24, dtype=torch.bool)
    refuses_scores("regions must be bool", "(9, 24, 24)", metric="pointing_game", regions=wrong)


def test_a_method_is_needed(refuses_scores):
    refuses_scores("needs explain=", metric="max_sensitivity")
    refuses_scores("unknown method 'gradcam'", "did you mean", metric="max_sensitivity", explain="gradcam")


@pytest.mark.parametrize("radius", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_none(refuses_scores, radius):
    refuses_scores("radius 0 or more", f"{radius}", metric="max_sensitivity", explain="random", radius=radius)


def test_a_name_close_to_nothing_lists_what_there_is(refuses):
    refuses("unknown method 'zzzz'", "known:", "grad_cam", "saliency", method="zzzz")


def test_images_of_a_size_that_the_network_does_not_take():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    with pytest.raises(vb.VexbenchError, match=r"the network cannot take images of 9×9 pixels \(.*multiplied"):
        vb.explain(vb.Classifier(network), torch.rand(2, 3, 9, 9), None, "saliency")


def test_methods_and_metrics_that_return_something_else(gap_network, images, targets, monkeypatch):
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    vb.methods()

    @vb.method(family="cam", title="Nothing", paper="none")
    def nothing(probe):
        """Forget to return."""

    @vb.metric(family="complexity", title="One", paper="none", direction="lower")
    def one(maps):
        """Average over the images."""
        return maps.mean()

    classifier = vb.Classifier(gap_network)
    with pytest.raises(vb.VexbenchError, match="method 'nothing' must return maps"):
        vb.explain(classifier, images, targets, "nothing")
    with pytest.raises(vb.VexbenchError, match=r"metric 'one' must return one score per image \(9,\), not \(\)"):
        vb.evaluate(classifier, images, targets, images[:, 0], "one")

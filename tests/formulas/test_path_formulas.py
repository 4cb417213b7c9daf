"""Integrated gradients' relatives against closed forms, their papers' algorithms as loops, and completeness."""

from math import ceil

import pytest
import torch
from scipy.ndimage import gaussian_filter

import vexbench as vb
from vexbench.methods.path import advanced
from vexbench.perturb.blur import diffused
from vexbench.perturb.references import references

ZEROS = [0] * 9


def clean(classifier, images, targets):
    """The targets' logits."""
    return classifier.logits(images).detach()[range(len(images)), torch.as_tensor(targets)]


@pytest.fixture
def linear(score, weights):
    return vb.Classifier(score(lambda x: (x * weights).sum((1, 2, 3))))


@pytest.fixture
def smooth(smooth_network):
    """Normalised so hard that straight paths bend the score."""
    return vb.Classifier(smooth_network, std=(0.1, 0.1, 0.1))


def test_guided_ig_of_a_linear_network(linear, images, weights):
    maps = vb.explain(linear, images, ZEROS, "guided_ig", steps=7, anchors=2, baseline="white")
    torch.testing.assert_close(maps, (weights * (images - 1)).sum(1), atol=1e-5, rtol=1e-5)


def test_expected_gradients_of_a_linear_network(linear, images, weights):
    """Each image goes through all thirty references: w·(x − their mean)."""
    mean = references(vb.Probe(linear, images, ZEROS), "scenes").mean(0)
    maps = vb.explain(linear, images, ZEROS, "expected_gradients", samples=60)
    torch.testing.assert_close(maps, (weights * (images - mean)).sum(1), atol=1e-5, rtol=1e-4)


def test_blur_ig_of_a_linear_network(linear, images, weights):
    maps = vb.explain(linear, images, ZEROS, "blur_ig", steps=3, scale=0.1)
    torch.testing.assert_close(maps, (weights * (images - diffused(images, 3.6))).sum(1), atol=1e-5, rtol=1e-4)


def test_idgi_of_a_linear_network(linear, images, weights):
    """The rise, shared out by the squared weights."""
    maps = vb.explain(linear, images, ZEROS, "idgi", steps=3)
    shares = weights.square().sum(0) / weights.square().sum()
    rises = clean(linear, images, ZEROS)
    torch.testing.assert_close(maps, rises[:, None, None] * shares, atol=1e-6, rtol=1e-4)


def test_expected_gradients_are_complete(smooth, images, targets):
    """The sum comes to y(x) − E y(x') as samples grow."""
    probe = vb.Probe(smooth, images, targets)
    pool = references(probe, "scenes")
    ends = torch.stack([clean(smooth, pool, [int(target)] * len(pool)).mean() for target in targets])
    rises = clean(smooth, images, targets) - ends
    gaps = []
    for samples in (3, 30, 600):
        maps = vb.explain(smooth, images, targets, "expected_gradients", samples=samples)
        gaps.append(float((maps.sum((1, 2)) - rises).abs().mean() / rises.abs().mean()))
    assert gaps[2] < 0.02
    assert gaps[0] > 3 * gaps[2]


def test_references_hang_on_no_image(smooth, images):
    """The same for every probe, in [0, 1], at the size of the images; from a folder too."""
    pools = [references(vb.Probe(smooth, part, [0] * len(part)), "scenes") for part in (images, images[4:5])]
    assert torch.equal(*pools)
    assert pools[0].shape == (30, 3, 24, 36)
    assert 0 <= pools[0].min() < 0.2 < 0.8 < pools[0].max() <= 1


def test_references_from_a_folder(linear, images, weights, tmp_path):
    """Every image below the folder, whatever it holds besides; a folder of none is refused."""
    from PIL import Image

    (tmp_path / "inner").mkdir()
    for number, name in enumerate(("a.png", "inner/b.png")):
        Image.new("RGB", (50, 40), (51 * number, 102, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    maps = vb.explain(linear, images, ZEROS, "expected_gradients", samples=4, data=str(tmp_path))
    mean = torch.tensor([0.1, 0.4, 0.0])[:, None, None]
    torch.testing.assert_close(maps, (weights * (images - mean)).sum(1), atol=1e-5, rtol=1e-4)
    with pytest.raises(vb.VexbenchError, match="no images in"):
        vb.explain(linear, images, ZEROS, "expected_gradients", data=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("method", "params", "bound"), [("guided_ig", {"steps": 400}, 0.03), ("blur_ig", {}, 2e-3)])
def test_paths_are_complete_in_small_steps(smooth, images, targets, method, params, bound):
    before = diffused(images, 0.2 * 36) if method == "blur_ig" else torch.zeros_like(images)
    rises = clean(smooth, images, targets) - clean(smooth, before, targets)

    def gap(**params):
        maps = vb.explain(smooth, images, targets, method, **params)
        return float((maps.sum((1, 2)) - rises).abs().mean() / rises.abs().mean())

    assert gap(**params) < bound
    assert gap(steps=20) > 2 * gap(**params)


def test_idgi_is_complete_in_any_steps(smooth, images, targets):
    """Exactly: what the score rises by is shared out, whatever the gradient's error."""
    for steps in (1, 4):
        maps = vb.explain(smooth, images, targets, "idgi", steps=steps, baseline="grey")
        rises = clean(smooth, images, targets) - clean(smooth, torch.full_like(images, 0.5), targets)
        torch.testing.assert_close(maps.sum((1, 2)), rises, atol=1e-4, rtol=1e-4)


def test_idgi_step_by_step(smooth, images, targets):
    expected = torch.zeros(9, 24, 36)
    for step in range(3):
        place, after = (images * (part / 3) for part in (step, step + 1))
        leaf = place.clone().requires_grad_()
        value = smooth.logits(leaf)[range(9), targets]
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        rise = clean(smooth, after, targets) - value.detach()
        for index in range(9):
            direction = gradient[index] * gradient[index]
            expected[index] += (direction * rise[index] / direction.sum()).sum(0)
    torch.testing.assert_close(vb.explain(smooth, images, targets, "idgi", steps=3), expected, atol=1e-5, rtol=1e-3)


def test_guided_ig_that_moves_everything_at_once_goes_straight(smooth, images, targets):
    expected = torch.zeros(9, 24, 36)
    for step in range(5):
        leaf = (images * (step / 5)).requires_grad_()
        (gradient,) = torch.autograd.grad(smooth.logits(leaf)[range(9), targets].sum(), leaf)
        expected += (gradient * images / 5).sum(1)
    for anchors in (0, 4):
        maps = vb.explain(smooth, images, targets, "guided_ig", steps=5, fraction=1.0, anchors=anchors)
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-3)


def naive_guided_path(gradient, start, end, steps, fraction):
    """Feature by feature: those of least gradient go to the end, a share at a time, until the step's way is gone."""
    place, attribution, features = list(start), [0.0] * len(start), range(len(start))
    whole = sum(abs(end[f] - start[f]) for f in features)
    for step in range(steps):
        slope, before = gradient(place), list(place)
        goal = whole * (1 - (step + 1) / steps)
        while (distance := sum(abs(end[f] - place[f]) for f in features)) > goal + 1e-9:
            left = sorted(abs(slope[f]) for f in features if place[f] != end[f])
            threshold = left[min(ceil(fraction * len(place)), len(left)) - 1]
            moving = [f for f in features if place[f] != end[f] and abs(slope[f]) <= threshold]
            reach = sum(abs(end[f] - place[f]) for f in moving)
            share = min(1.0, (distance - goal) / reach)
            for f in moving:
                place[f] = end[f] if share == 1 else place[f] + share * (end[f] - place[f])
        for f in features:
            attribution[f] += slope[f] * (place[f] - before[f])
    return attribution


@pytest.mark.parametrize("fraction", [0.1, 0.34])
def test_guided_ig_feature_by_feature(score, fraction):
    source = torch.Generator().manual_seed(8)
    image, scale = torch.rand(1, 3, 2, 3, generator=source), 3 * torch.randn(18, generator=source)
    curved = vb.Classifier(score(lambda x: torch.tanh(x.flatten(1) * scale).sum(1) * x.mean((1, 2, 3))))

    def gradient(place):
        leaf = torch.tensor(place).view(1, 3, 2, 3).requires_grad_()
        (slope,) = torch.autograd.grad(curved.logits(leaf)[0, 0], leaf)
        return slope.flatten().tolist()

    expected = naive_guided_path(gradient, [0.0] * 18, image.flatten().tolist(), 5, fraction)
    (found,) = vb.explain(curved, image, [0], "guided_ig", steps=5, fraction=fraction, anchors=0)
    torch.testing.assert_close(found, torch.tensor(expected).view(3, 2, 3).sum(0), atol=1e-5, rtol=1e-4)


def test_features_of_equal_gradient_move_together():
    """Half the way is asked for: three dead pixels of four bring it, a quarter each, none before the others."""
    start, goal = torch.zeros(1, 3, 1, 4), torch.tensor([1.0, 1, 1, 1]).expand(1, 3, 1, 4)
    gradients = torch.tensor([0.0, 0, 0, 2]).expand(1, 3, 1, 4)
    moved = advanced(start, goal, gradients, share=0.5, fraction=0.01)
    torch.testing.assert_close(moved, torch.tensor([2 / 3, 2 / 3, 2 / 3, 0]).expand(1, 3, 1, 4))


def test_diffusion_is_a_gaussian_blur(images):
    """Away from the border; it keeps the mean and the range, and scales add up as squares."""
    spike = torch.zeros(1, 3, 41, 51)
    spike[:, :, 20, 25] = 1
    expected = torch.from_numpy(gaussian_filter(spike[0, 0].double().numpy(), 3, truncate=8)).float()
    torch.testing.assert_close(diffused(spike, 3.0)[0, 0], expected, atol=6e-4, rtol=0)
    torch.testing.assert_close(diffused(diffused(images, 3.0), 4.0), diffused(images, 5.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(diffused(images, 0.0), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(diffused(images, 500.0), images.mean((2, 3), keepdim=True).expand_as(images))
    for sigma in (0.1, 0.7, 9.0):
        blurred = diffused(spike, sigma)
        assert blurred.min() > -1e-6
        torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("expected_gradients", {"samples": 0}, "samples must be at least 1, not 0"),
        ("guided_ig", {"anchors": -1}, "0 <= anchors < steps"),
        ("guided_ig", {"steps": 10, "anchors": 10}, "0 <= anchors < steps"),
        ("guided_ig", {"fraction": 0.0}, "fraction must be in"),
        ("guided_ig", {"fraction": float("nan")}, "fraction must be in"),
        ("blur_ig", {"steps": 0}, "steps must be at least 1"),
        ("blur_ig", {"scale": float("nan")}, "scale above 0"),
        ("idgi", {"steps": 0}, "steps must be at least 1"),
        ("idgi", {"baseline": "blck"}, "did you mean black"),
    ],
)
def test_parameters_out_of_range(linear, images, method, params, words):
    with pytest.raises(vb.VexbenchError, match=words) as caught:
        vb.explain(linear, images[:1], [0], method, **params)
    assert "\n" not in str(caught.value)
